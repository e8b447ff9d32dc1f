"""What can go wrong with a request, as exceptions whose text is the name under which it is counted."""

from __future__ import annotations

import errno
import socket

RESOURCE_ERRNOS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
)
"""The generator's own limits: descriptors, memory, local ports."""

_CAUSES = {
    errno.ECONNREFUSED: "refused: nothing listens there",
    errno.ECONNRESET: "reset: by the target",
    errno.EPIPE: "reset: by the target",
    errno.ECONNABORTED: "reset: connection aborted",
    errno.ETIMEDOUT: "timeout: the network gave up",
    errno.EHOSTUNREACH: "unreachable: no route to the host",
    errno.ENETUNREACH: "unreachable: no route to the network",
    errno.EACCES: "unreachable: not permitted here",
    errno.EPERM: "unreachable: not permitted here",
    errno.EMFILE: "resource: too many open files",
    errno.ENFILE: "resource: too many open files",
    errno.ENOBUFS: "resource: no memory for a socket",
    errno.ENOMEM: "resource: no memory for a socket",
    errno.EADDRNOTAVAIL: "resource: no local port is free",
    errno.EAGAIN: "resource: no local port is free",
}


class RequestError(Exception):
    """A request failed; the text says why, in words from a closed set."""


class ProtocolError(RequestError):
    """The target sent what HTTP/1.1 does not allow, or more than the limits."""


class Refused(RequestError):
    """The request itself can't be sent: it would not be one valid request."""


class Resource(RequestError):
    """The generator could not: no descriptor, port or memory."""


class TimedOut(RequestError):
    """The request took longer than its timeout."""


class Interrupted(BaseException):
    """The iteration ends here, because its run does. Not an error: nothing may catch it but who counts it."""


def from_os_error(error: OSError) -> RequestError:
    """The operating system's error under the name by which it is counted."""
    if isinstance(error, socket.gaierror):
        return RequestError("dns: no such name" if error.errno != socket.EAI_AGAIN else "dns: the resolver failed")
    number = error.errno or 0
    kind = Resource if number in RESOURCE_ERRNOS else RequestError
    return kind(_CAUSES.get(number) or f"network: {errno.errorcode.get(number, 'unknown error')}")
