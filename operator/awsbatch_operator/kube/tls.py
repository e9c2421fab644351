"""TLS settings of connections to the API server: as Go's, which every other Kubernetes client uses."""

import base64
import binascii
import os
import ssl
import tempfile
from contextlib import ExitStack
from typing import Any, Final

_ENCRYPTED: Final = "is encrypted, and the operator cannot ask for a password: remove the password"


class PemError(Exception):
    """A PEM that can't be used. `field` is the field of the kubeconfig that holds it, without `-data`."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field


class _Context(ssl.SSLContext):
    """Verifies another name than that of the URL, whoever makes the connection: Kopf has no setting for the name."""

    server_name: str | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_side, self.server_name or server_hostname, session)


def make_context(authority: bytes | None, *, insecure: bool = False, server_name: str | None = None) -> ssl.SSLContext:
    """Return a context that verifies chain and host name. `authority`: PEM; None: the system's. Raises PemError."""
    # Not by create_default_context: since Python 3.13 it refuses a CA without Authority Key Identifier, as many
    # clusters have.
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.server_name = server_name
    # As in Go, an intermediate CA in the file is trusted by itself.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif authority is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _load_authority(context, authority, "certificate-authority")
    return context


def load_client_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Let the context identify its client by a certificate and its key, both PEM. Raises PemError."""
    _load_authority(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, "client-certificate")
    with ExitStack() as files:
        try:
            paths = _temporary(files, certificate), _temporary(files, key)
            context.load_cert_chain(paths[0], paths[1], _refuse_password)
        except ssl.SSLError as error:
            mismatch = error.reason == "KEY_VALUES_MISMATCH"
            problem = (
                "is not the key of client-certificate" if mismatch else f"contains no usable private key ({error})"
            )
            raise PemError("client-key", problem) from error
        except OSError as error:
            raise PemError("client-key", f"cannot be loaded through a temporary file: {error}") from error


def decode(data: str) -> bytes:
    """Decode base64 with line breaks. Raises ValueError."""
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"is not base64 ({error})") from error


def _load_authority(context: ssl.SSLContext, pem: bytes, field: str) -> None:
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise PemError(field, f"contains no usable PEM certificate ({error})") from error


def _refuse_password() -> Any:
    # Without this, OpenSSL asks on the terminal.
    raise PemError("client-key", _ENCRYPTED)


def _temporary(files: ExitStack, content: bytes) -> str:
    """Return the path of a file that only this user may read: Python's ssl loads keys from files alone."""
    if hasattr(os, "memfd_create"):
        # In memory: the key is on no disk, and a container needs no writable directory.
        descriptor = os.memfd_create("pem")
        files.callback(os.close, descriptor)
        os.write(descriptor, content)
        return f"/proc/self/fd/{descriptor}"
    file = files.enter_context(tempfile.NamedTemporaryFile(buffering=0))  # noqa: SIM115 - `files` closes it
    file.write(content)
    return file.name
