import base64
import json
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from awsbatch_operator.kube.credentials import ClusterConfig, NoClusterError, inside_cluster, load

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
SECRET = "s3cret"


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def service_account(tmp_path: Path) -> Path:
    for name, text in {"token": f"{SECRET}\n", "ca.crt": "PEM", "namespace": "team-a"}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def kubeconfig(folder: Path, user: dict[str, Any], **cluster: Any) -> dict[str, str]:
    """An environment with such a KUBECONFIG."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": "https://k.example:6443", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "team-b"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return {"KUBECONFIG": str(path)}


def loaded(environ: dict[str, str], folder: Path) -> ClusterConfig:
    return load(environ, folder / "no-service-account", NOW)


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "k.example")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, key_pem = folder / "tls.crt", folder / "tls.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, key_pem


def test_a_pod_logs_in_with_its_service_account_and_reads_it_again_after_ten_minutes(service_account: Path) -> None:
    assert load(POD, service_account, NOW) == ClusterConfig(
        server="https://10.0.0.1:443",
        namespace="team-a",
        ca_path=str(service_account / "ca.crt"),
        scheme="Bearer",
        token=SECRET,
        expires_at=NOW + timedelta(minutes=10),
    )


def test_a_pod_prefers_its_service_account_to_a_kubeconfig(service_account: Path) -> None:
    environ = POD | kubeconfig(service_account, {"token": "other"})
    assert load(environ, service_account, NOW).server == "https://10.0.0.1:443"


def test_a_renewed_token_is_read(service_account: Path) -> None:
    load(POD, service_account, NOW)
    (service_account / "token").write_text("renewed")
    assert load(POD, service_account, NOW).headers() == {"Authorization": "Bearer renewed"}


def test_inside_a_cluster_means_a_mounted_token(service_account: Path) -> None:
    assert inside_cluster(POD, service_account)
    assert not inside_cluster({}, service_account)
    assert not inside_cluster(POD, service_account / "elsewhere")


def test_a_kubeconfig_gives_server_namespace_and_token(tmp_path: Path) -> None:
    access = loaded(kubeconfig(tmp_path, {"token": SECRET}), tmp_path)
    assert (access.server, access.namespace) == ("https://k.example:6443", "team-b")
    assert access.headers() == {"Authorization": f"Bearer {SECRET}"}
    assert access.expires_at is None


def test_a_name_and_password_become_basic_authentication(tmp_path: Path) -> None:
    access = loaded(kubeconfig(tmp_path, {"username": "me", "password": "pw"}), tmp_path)
    assert access.headers() == {"Authorization": "Basic " + base64.b64encode(b"me:pw").decode()}


def test_a_token_file_is_read_again_after_ten_minutes(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    access = loaded(kubeconfig(tmp_path, {"tokenFile": str(tmp_path / "token")}), tmp_path)
    assert (access.token, access.expires_at) == (SECRET, NOW + timedelta(minutes=10))


def test_an_exec_plugin_provides_token_and_expiry(tmp_path: Path) -> None:
    status = {"token": SECRET, "expirationTimestamp": "2026-11-23T10:15:00Z"}
    plugin = plugin_that_prints(
        {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    )
    access = loaded(kubeconfig(tmp_path, {"exec": plugin}), tmp_path)
    assert (access.token, access.expires_at) == (SECRET, NOW + timedelta(minutes=15))


def test_an_exec_plugin_that_gives_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoClusterError, match=r"its exec plugin .* gave no credentials"):
        loaded(kubeconfig(tmp_path, {"exec": plugin_that_prints({})}), tmp_path)


def plugin_that_prints(reply: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", f"print({json.dumps(reply)!r})"],
        "interactiveMode": "Never",
    }


def test_certificates_of_files_and_of_data_make_a_tls_context(tmp_path: Path) -> None:
    pem, key = certificate(tmp_path)
    data = {"client-certificate-data": base64.b64encode(pem.read_bytes()).decode(), "client-key": str(key)}
    environ = kubeconfig(tmp_path, data, **{"certificate-authority": str(pem), "tls-server-name": "other.example"})
    access = loaded(environ, tmp_path)
    context = access.ssl_context()
    assert context is not None
    assert [found["subject"] for found in context.get_ca_certs()] == [((("commonName", "k.example"),),)]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert access.tls_server_name == "other.example"


def test_an_insecure_cluster_is_not_verified_and_plain_http_needs_no_tls(tmp_path: Path) -> None:
    insecure = loaded(kubeconfig(tmp_path, {}, **{"insecure-skip-tls-verify": True}), tmp_path).ssl_context()
    assert insecure is not None
    assert insecure.verify_mode is ssl.CERT_NONE
    assert loaded(kubeconfig(tmp_path, {}, server="http://127.0.0.1:1"), tmp_path).ssl_context() is None


def test_the_proxy_of_the_kubeconfig_goes_before_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "10.0.0.0/8,.local")
    assert loaded(kubeconfig(tmp_path, {}), tmp_path).proxy == "http://proxy.example:3128"
    own = kubeconfig(tmp_path, {}, **{"proxy-url": "http://own.example:1"})
    assert loaded(own, tmp_path).proxy == "http://own.example:1"
    for server in (
        "https://10.1.2.3",
        "https://k.local",
        "https://127.0.0.1:6443",
        "https://localhost:1",
        "https://[::1]:1",
    ):
        assert loaded(kubeconfig(tmp_path, {}, server=server), tmp_path).proxy is None, server


def test_no_secret_is_shown(tmp_path: Path) -> None:
    access = loaded(kubeconfig(tmp_path, {"token": SECRET}, **{"proxy-url": f"http://me:{SECRET}@p"}), tmp_path)
    assert SECRET not in repr(access)


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        (None, r"KUBECONFIG .*kubeconfig: no such file"),
        ("", "file is empty"),
        ("just text", "nor a usable kubeconfig"),
        ("a: [", "nor a usable kubeconfig"),
        ("{clusters: [], users: [], contexts: []}", "current-context"),
        ("{current-context: c, clusters: [], users: [], contexts: []}", "name c in"),
    ],
)
def test_an_unusable_kubeconfig_is_one_error_with_a_remedy(tmp_path: Path, text: str | None, reported: str) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    with pytest.raises(NoClusterError, match=reported) as raised:
        loaded({"KUBECONFIG": str(path)}, tmp_path)
    assert "Set KUBECONFIG to a kubeconfig file that works with kubectl" in str(raised.value)


def test_a_pod_without_a_token_is_reported(tmp_path: Path) -> None:
    with pytest.raises(NoClusterError, match="Service token file does not exist"):
        load({**POD, "KUBECONFIG": str(tmp_path / "none")}, tmp_path, NOW)
