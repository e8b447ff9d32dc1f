"""TLS over memory buffers, so that the connection alone touches the socket and knows what was really written."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from .errors import RequestError
from .urls import Origin

_CHUNK = 65536
_LARGEST_KEY = 1 << 20


class Trust:
    """Whom an engine trusts, and who it says it is; ``key`` is a private key in PEM form, or the path of one.

    Raises ValueError where a file or the key is not what it is to be.
    """

    def __init__(
        self, verify: bool = True, ca_file: str | None = None, cert_file: str | None = None, key: str | None = None
    ) -> None:
        self._verify = verify
        self._ca_file = ca_file
        self._cert_file = cert_file
        self._key = key
        self._context: ssl.SSLContext | None = None
        if ca_file is not None or cert_file is not None:
            self.prepare()

    def prepare(self) -> ssl.SSLContext:
        """Load the certificates, which takes tens of milliseconds, before the first request needs them."""
        if self._context is None:
            self._context = client_context(self._verify, self._ca_file)
            if self._cert_file is not None:
                _load_certificate(self._context, self._cert_file, self._key or "")
        return self._context

    def stream(self, origin: Origin) -> TlsStream:
        """A new TLS stream to an origin."""
        return TlsStream(self.prepare(), origin)


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


def _load_certificate(context: ssl.SSLContext, cert_file: str, key: str) -> None:
    try:
        with _key_file(key) as path:
            context.load_cert_chain(cert_file, path, password=_refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError("tls.key: is not the key of the certificate in tls.cert") from None
        raise ValueError(f"tls.cert, tls.key: not a certificate and its key in PEM form ({error.reason})") from None
    except OSError as error:
        raise ValueError(f"tls.cert: can't be read: {error.strerror}") from None


@contextmanager
def _key_file(key: str) -> Iterator[str]:
    """A file with the key in it, which OpenSSL wants; one that has no name where the system can do that."""
    data = _key_pem(key)
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("key")
        try:
            os.write(descriptor, data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile(prefix="loads-") as file:
        file.write(data)
        file.flush()
        yield file.name


def _key_pem(key: str) -> bytes:
    """The key's bytes; texts in an environment often have their line breaks written as ``\\n``."""
    if "-----BEGIN" in key:
        return (key if "\n" in key else key.replace("\\n", "\n")).encode()
    if not key:
        raise ValueError("tls.key: the secret is empty")
    try:
        path = Path(key).expanduser()
        if path.stat().st_size > _LARGEST_KEY:
            raise ValueError("tls.key: the file that the secret names is no private key")
        return path.read_bytes()
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, ValueError) and str(error).startswith("tls.key"):
            raise
        reason = getattr(error, "strerror", None) or "not a path"
        raise ValueError(f"tls.key: the secret is neither a key in PEM form nor a file's path ({reason})") from None


def _refuse_password() -> NoReturn:
    raise ValueError("tls.key: is encrypted, and nobody is there to be asked for its password: decrypt it")


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
        except ssl.SSLError as error:
            raise RequestError(_alert(error) or "tls: the handshake failed") from None
        return True

    def read(self) -> bytes | None:
        """Plain bytes that have come, empty at the end of the stream, None where more cipher bytes are needed."""
        try:
            return self._object.read(_CHUNK)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            raise RequestError(_alert(error) or "tls: a broken record") from None

    def read_all(self) -> bytes | None:
        """As ``read``, but with everything that whole records have brought."""
        data = self.read()
        if not data or not self._in.pending:
            return data
        pieces = [data]
        while self._in.pending and (more := self.read()):
            pieces.append(more)
        return b"".join(pieces)

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


def _alert(error: ssl.SSLError) -> str | None:
    """What a target says that it does not like, in the words that TLS has for it; None where it says nothing."""
    _, found, words = (error.reason or "").partition("_ALERT_")
    return f"tls: the target sent an alert: {words.replace('_', ' ').lower()}" if found else None


def _reason(error: ssl.SSLCertVerificationError) -> str:
    """OpenSSL's own words without the names in them, which are the target's to choose."""
    text = error.verify_message or "unknown reason"
    return text.partition(", certificate is not valid for")[0]
