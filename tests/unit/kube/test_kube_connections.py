"""What a server sees of both connections to it: that of the operator's own client, and that of Kopf."""

import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from awsbatch_operator.handlers.watch import open_session
from awsbatch_operator.kube.client import ApiError, KubeClient
from awsbatch_operator.kube.credentials import ClusterConfig, Login
from unit.kube.pem import Pair, PlainAuthority

CA: Final = PlainAuthority()
SERVER, CLIENT = CA.issue("k8s.internal"), CA.issue("me")


@dataclass
class Seen:
    """A server with TLS, and what clients sent to it."""

    port: int = 0
    names: list[str | None] = field(default_factory=list)
    headers: list[list[tuple[str, str]]] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Seen]:
    seen = Seen()

    async def reply(request: web.Request) -> web.Response:
        seen.headers.append([(name, value) for name, value in request.headers.items()])
        assert request.transport is not None
        certificate = request.transport.get_extra_info("peercert") or {}
        seen.clients += [value for ((_, value),) in certificate.get("subject", ())]
        return web.json_response({})

    def name_asked(_socket: object, name: str | None, _context: object) -> None:
        seen.names.append(name)

    app = web.Application()
    app.router.add_get("/x", reply)
    started = TestServer(app, scheme="https")
    await started.start_server(ssl=server_context(tmp_path, name_asked))
    seen.port = started.port or 0
    async with started:
        yield seen


def server_context(folder: Path, name_asked: Callable[..., None]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = files(folder, SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(cadata=CA.certificate.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    context.sni_callback = name_asked
    return context


def files(folder: Path, pair: Pair) -> tuple[Path, Path]:
    certificate, key = folder / "server.crt", folder / "server.key"
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    return certificate, key


def login(folder: Path, server: Seen, user: dict[str, Any], **cluster: Any) -> Login:
    authority = base64.b64encode(CA.certificate).decode()
    fields = {"server": f"https://localhost:{server.port}", "certificate-authority-data": authority, **cluster}
    kubeconfig = {
        "current-context": "c",
        "clusters": [{"name": "k", "cluster": {name: value for name, value in fields.items() if value is not None}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(kubeconfig))
    return Login(str(file), environ={})


async def by_the_client(held: Callable[[], ClusterConfig]) -> None:
    async with KubeClient(held) as client:
        await client.get("/x")


async def by_kopf(held: Callable[[], ClusterConfig]) -> None:
    config = held()
    session = open_session(config).aiohttp_session
    async with session, session.get(f"{config.server}/x") as response:
        assert response.status == 200


both = pytest.mark.parametrize("call", [by_the_client, by_kopf])
Call = Callable[[Login], Awaitable[None]]


@both
async def test_the_server_is_verified_by_the_name_that_the_kubeconfig_states(
    call: Call, server: Seen, tmp_path: Path
) -> None:
    await call(login(tmp_path, server, {}, **{"tls-server-name": "k8s.internal"}))
    assert server.names == ["k8s.internal"]
    for name in ("k9s.internal", None):
        with pytest.raises((ApiError, OSError), match="Hostname mismatch"):
            await call(login(tmp_path, server, {}, **{"tls-server-name": name}))


@both
async def test_a_ca_without_key_identifiers_is_enough_on_a_python_that_is_strict(
    call: Call, server: Seen, tmp_path: Path
) -> None:
    # Since 3.13, create_default_context is strict: an older Python does not show who uses it.
    held = login(tmp_path, server, {}, **{"tls-server-name": "k8s.internal"})
    await call(held)
    config = held()
    assert config.tls is not None
    config.tls.verify_flags |= ssl.VERIFY_X509_STRICT
    with pytest.raises((ApiError, OSError), match=r"(?i)missing authority key identifier"):
        await call(lambda: config)  # type: ignore[arg-type]


@both
async def test_the_chain_is_verified_unless_the_kubeconfig_says_no(call: Call, server: Seen, tmp_path: Path) -> None:
    foreign = base64.b64encode(PlainAuthority().certificate).decode()
    named = {"tls-server-name": "k8s.internal"}
    for authority in (foreign, None):
        with pytest.raises((ApiError, OSError), match="certificate verify failed"):
            await call(login(tmp_path, server, {}, **named, **{"certificate-authority-data": authority}))
    insecure = {"certificate-authority-data": None, "insecure-skip-tls-verify": True}
    await call(login(tmp_path, server, {}, **insecure))


@both
async def test_the_client_is_identified_by_certificate_token_and_impersonation(
    call: Call, server: Seen, tmp_path: Path
) -> None:
    def encoded(pem: bytes) -> str:
        return base64.b64encode(pem).decode()

    user = {
        "client-certificate-data": encoded(CLIENT.certificate),
        "client-key-data": encoded(CLIENT.key),
        "token": "t",
        "as": "operator",
        "as-groups": ["a", "b"],
        "as-user-extra": {"example.com/scope": ["one", "two"]},
    }
    await call(login(tmp_path, server, user, **{"tls-server-name": "k8s.internal"}))
    assert server.clients == ["me"]
    (headers,) = server.headers
    assert [header for header in headers if header[0].startswith(("Auth", "Imp"))] == [
        ("Authorization", "Bearer t"),
        ("Impersonate-User", "operator"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-example.com%2Fscope", "one"),
        ("Impersonate-Extra-example.com%2Fscope", "two"),
    ]
