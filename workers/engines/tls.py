"""TLS over memory buffers, so that the connection alone touches the socket and knows what was really written."""

from __future__ import annotations

import ssl

from .errors import RequestError
from .urls import Origin

_CHUNK = 65536


def client_context(verify: bool, ca_file: str | None) -> ssl.SSLContext:
    """A context for TLS clients; raises ValueError where the file holds no certificates."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"tls.ca: not a file of PEM certificates: {error}") from None
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class TlsStream:
    """One TLS connection: cipher bytes in and out of memory, plain bytes on the other side."""

    __slots__ = ("_in", "_object", "_out")

    def __init__(self, context: ssl.SSLContext, origin: Origin) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        try:
            self._object = context.wrap_bio(self._in, self._out, server_hostname=origin.host)
        except ValueError:
            raise RequestError("tls: not a host name that a certificate can have") from None

    def handshake(self) -> bool:
        """Go on with the handshake; True once it is done. Raises RequestError."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLCertVerificationError as error:
            raise RequestError(f"tls: certificate not trusted: {_reason(error)}") from None
        except ssl.SSLError:
            raise RequestError("tls: the handshake failed") from None
        return True

    def read(self) -> bytes | None:
        """Plain bytes that have come, empty at the end of the stream, None where more cipher bytes are needed."""
        try:
            return self._object.read(_CHUNK)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError:
            raise RequestError("tls: a broken record") from None

    def write(self, data: bytes) -> None:
        """Encrypt; the cipher bytes are for ``take_output``."""
        try:
            self._object.write(data)
        except ssl.SSLError:
            raise RequestError("tls: the connection can't be written to") from None

    def put_input(self, data: bytes) -> None:
        """Cipher bytes from the target."""
        self._in.write(data)

    def put_end(self) -> None:
        """The target closed the connection."""
        self._in.write_eof()

    def take_output(self) -> bytes:
        """Cipher bytes for the target."""
        return self._out.read()


def _reason(error: ssl.SSLCertVerificationError) -> str:
    """OpenSSL's own words without the names in them, which are the target's to choose."""
    text = error.verify_message or "unknown reason"
    return text.partition(", certificate is not valid for")[0]
