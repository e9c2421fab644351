"""Which cluster and which credentials a Login finds: as kubectl, or a fault that names file and field."""

import asyncio
import base64
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from awsbatch_operator.kube.credentials import ClusterConfig, Login, NoClusterError, Renewal, inside_cluster
from unit.kube.pem import Pair, PlainAuthority, encrypted

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
SECRET = "s3cret"
CA: Final = PlainAuthority()
CLIENT, OTHER = CA.issue("me"), CA.issue("other")


def data(content: bytes) -> str:
    return base64.b64encode(content).decode()


def config(user: dict[str, Any] | None = None, name: str = "k", **cluster: Any) -> dict[str, Any]:
    """A kubeconfig whose cluster, user and context are called `name`."""
    return {
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example:6443", **cluster}}],
        "users": [{"name": name, "user": user or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": f"ns-{name}"}}],
    }


def write(folder: Path, content: dict[str, Any] | str, name: str = "kubeconfig") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def login(folder: Path, *contents: dict[str, Any] | str, context: str | None = None, **environ: str) -> Login:
    """With such a KUBECONFIG."""
    files = [write(folder, content, f"kubeconfig-{index}") for index, content in enumerate(contents)]
    variables = {"KUBECONFIG": os.pathsep.join(map(str, files)), **environ}
    return Login(context=context, environ=variables, service_account=folder / "none", now=lambda: NOW)


def loaded(folder: Path, *contents: dict[str, Any] | str, **environ: str) -> ClusterConfig:
    return login(folder, *contents, **environ)()


def faults(make: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(NoClusterError) as raised:
        make()
    return raised.value.faults


@pytest.fixture(autouse=True)
def no_system_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without connections nobody uses them, and OpenSSL takes 0.03 s to load those of the system."""
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)


# -- which cluster ----------------------------------------------------------------------------------------------------


@pytest.fixture
def service_account(tmp_path: Path) -> Path:
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    for name, text in {"token": f"{SECRET}\n", "ca.crt": CA.certificate.decode(), "namespace": "team-a"}.items():
        (folder / name).write_text(text)
    return folder


def test_a_pod_logs_in_with_its_service_account_and_reads_it_again_after_ten_minutes(service_account: Path) -> None:
    pod = Login(environ=POD, service_account=service_account, now=lambda: NOW)
    assert pod.namespace == "team-a"
    assert pod() == ClusterConfig(
        "https://10.0.0.1:443",
        "team-a",
        headers=(("Authorization", f"Bearer {SECRET}"),),
        expires_at=NOW + timedelta(minutes=10),
    )
    assert pod().tls is not None
    (service_account / "token").write_text("renewed")
    assert pod().headers == (("Authorization", "Bearer renewed"),)


def test_an_explicit_kubeconfig_goes_before_the_pod_and_the_flag_before_the_variable(
    service_account: Path, tmp_path: Path
) -> None:
    variable = POD | {"KUBECONFIG": str(write(tmp_path, config(name="a"), "a"))}
    flag = str(write(tmp_path, config(name="b"), "b"))
    assert Login(environ=variable, service_account=service_account)().server == "https://a.example:6443"
    assert Login(flag, environ=variable, service_account=service_account)().server == "https://b.example:6443"
    absent = {"KUBECONFIG": str(tmp_path / "absent")}
    for given, named in ((None, "KUBECONFIG"), (absent["KUBECONFIG"], "--kubeconfig")):
        (fault,) = faults(lambda given=given: Login(given, environ=POD | absent, service_account=service_account))  # type: ignore[misc]
        assert fault == f"{named} = {tmp_path / 'absent'}: no such file"


def test_the_file_of_the_home_directory_comes_last(
    service_account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (fault,) = faults(lambda: Login(environ=POD, service_account=tmp_path / "none"))
    assert f"{tmp_path / 'none' / 'token'} does not exist" in fault
    (fault,) = faults(lambda: Login(environ={}))
    assert f"KUBECONFIG is not set, {tmp_path / '.kube/config'} does not exist" in fault
    (tmp_path / ".kube").mkdir()
    write(tmp_path / ".kube", config(), "config")
    assert Login(environ={})().server == "https://k.example:6443"
    assert Login(environ=POD, service_account=service_account)().server == "https://10.0.0.1:443"
    # Only a kubeconfig has contexts.
    assert Login(context="k", environ=POD, service_account=service_account)().server == "https://k.example:6443"


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        ("ca.crt", "PEM", "/ca.crt: contains no usable PEM certificate"),
        ("ca.crt", None, "/ca.crt'"),
        ("token", "\n", "/token is empty"),
    ],
)
def test_a_pod_with_a_broken_service_account_is_a_fault(
    file: str, content: str | None, fault: str, service_account: Path
) -> None:
    (service_account / file).unlink() if content is None else (service_account / file).write_text(content)
    (found,) = faults(lambda: Login(environ=POD, service_account=service_account))
    assert found.startswith(str(service_account))
    assert fault in found


@pytest.mark.parametrize(
    ("host", "server"), [("10.0.0.1", "https://10.0.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")]
)
def test_a_pod_finds_its_server_in_the_variables_of_the_kubelet(host: str, server: str, service_account: Path) -> None:
    pod = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "6443"}
    assert Login(environ=pod, service_account=service_account)().server == server
    del pod["KUBERNETES_SERVICE_PORT"]
    (fault,) = faults(lambda: Login(environ=pod, service_account=service_account))
    assert fault == "KUBERNETES_SERVICE_HOST is set, but KUBERNETES_SERVICE_PORT is not"


def test_inside_a_cluster_means_a_mounted_token(service_account: Path) -> None:
    assert inside_cluster(POD, service_account)
    assert not inside_cluster({}, service_account)
    assert not inside_cluster(POD, service_account / "elsewhere")


NO_CURRENT = {name: value for name, value in config(name="b").items() if name != "current-context"}


@pytest.mark.parametrize(
    ("contents", "context", "server"),
    [
        pytest.param([config(name="a"), config(name="b")], None, "a", id="the first current-context wins"),
        pytest.param([NO_CURRENT, config(name="a")], None, "a", id="a file without one is skipped"),
        pytest.param(
            [{**NO_CURRENT, "current-context": ""}, config(name="a")], None, "a", id="an empty one is skipped"
        ),
        pytest.param(["", config(name="a")], None, "a", id="an empty file is skipped"),
        pytest.param(["# nothing\n---\n", config(name="a"), ""], None, "a", id="a file of comments is skipped"),
        pytest.param([config(name="a"), config(name="b")], "b", "b", id="--context wins over all"),
        pytest.param([{"current-context": "b"}, NO_CURRENT], None, "b", id="the context may be in another file"),
        pytest.param([config(name="a"), config(name="a", server="https://late")], None, "a", id="the first entry wins"),
        pytest.param(
            [{**config(name="a"), "users": None, "kind": "Config", "x": 1}, config(name="a")], None, "a", id="null"
        ),
    ],
)
def test_a_list_of_files_is_merged_as_kubectl_does(
    contents: list[dict[str, Any] | str], context: str | None, server: str, tmp_path: Path
) -> None:
    found = login(tmp_path, *contents, context=context)()
    assert (found.server, found.namespace) == (f"https://{server}.example:6443", f"ns-{server}")


def test_files_of_the_list_that_do_not_exist_are_skipped(tmp_path: Path) -> None:
    files = [tmp_path / "absent", write(tmp_path, config())]
    assert Login(environ={"KUBECONFIG": f"{files[0]}::{files[1]}"})().server == "https://k.example:6443"


def test_only_credentials_are_renewed(tmp_path: Path) -> None:
    held = login(tmp_path, config({"token": "old"}, name="a"))
    file = tmp_path / "kubeconfig-0"
    assert held().headers == (("Authorization", "Bearer old"),)
    # What kubectl config use-context and a rewritten cluster amount to.
    edited = config({"token": "new"}, name="a", server="https://elsewhere", **{"proxy-url": "http://proxy"})
    edited["users"].append({"name": "b", "user": {"token": "other"}})
    edited["contexts"][0]["context"] = {"cluster": "a", "user": "b", "namespace": "elsewhere"}
    edited["contexts"].append({"name": "b", "context": {"cluster": "a", "user": "b"}})
    write(tmp_path, edited | {"current-context": "b"}, file.name)
    renewed = held()
    assert (renewed.server, renewed.namespace, renewed.proxy) == ("https://a.example:6443", "ns-a", None)
    assert renewed.headers == (("Authorization", "Bearer new"),)


# -- credentials ------------------------------------------------------------------------------------------------------


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Bearer {token}"),)


IN_TEN_MINUTES = NOW + timedelta(minutes=10)
PRINTED = (
    '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":'
    '{"token":"printed","expirationTimestamp":"2026-11-23T10:15:00Z"}}'
)
EXEC = {
    "apiVersion": "client.authentication.k8s.io/v1",
    "command": "echo",
    "args": [PRINTED],
    "interactiveMode": "Never",
}


@pytest.mark.parametrize(
    ("user", "headers", "expires_at"),
    [
        ({}, (), None),
        ({"token": SECRET}, bearer(SECRET), None),
        ({"tokenFile": "token"}, bearer("of the file"), IN_TEN_MINUTES),
        ({"token": SECRET, "tokenFile": "token"}, bearer("of the file"), IN_TEN_MINUTES),
        ({"username": "me", "password": "pw"}, (("Authorization", f"Basic {data(b'me:pw')}"),), None),
        ({"exec": EXEC}, bearer("printed"), NOW + timedelta(minutes=15)),
        ({"exec": EXEC, "token": SECRET}, bearer(SECRET), None),
        ({"client-certificate": "tls.crt", "client-key": "tls.key"}, (), IN_TEN_MINUTES),
        ({"client-certificate-data": data(CLIENT.certificate), "client-key-data": data(CLIENT.key)}, (), None),
        (
            {"client-certificate-data": data(CLIENT.certificate), "client-certificate": "x", "client-key": "tls.key"},
            (),
            IN_TEN_MINUTES,
        ),
        (
            {
                "token": SECRET,
                "as": "system:serviceaccount:ops:operator",
                "as-uid": "u-1",
                "as-groups": ["a", "b"],
                "as-user-extra": {"example.com/Scope": ["one", "two"]},
            },
            (
                *bearer(SECRET),
                ("Impersonate-User", "system:serviceaccount:ops:operator"),
                ("Impersonate-Uid", "u-1"),
                ("Impersonate-Group", "a"),
                ("Impersonate-Group", "b"),
                ("Impersonate-Extra-example.com%2FScope", "one"),
                ("Impersonate-Extra-example.com%2FScope", "two"),
            ),
            None,
        ),
    ],
)
def test_the_user_gives_credentials(
    user: dict[str, Any], headers: tuple[tuple[str, str], ...], expires_at: datetime | None, tmp_path: Path
) -> None:
    # Relative paths start at the directory of the kubeconfig.
    (tmp_path / "token").write_text("of the file\n")
    (tmp_path / "tls.crt").write_bytes(CLIENT.certificate)
    (tmp_path / "tls.key").write_bytes(CLIENT.key)
    found = loaded(tmp_path, config(user))
    assert (found.headers, found.expires_at) == (headers, expires_at)


def test_no_secret_is_shown(tmp_path: Path) -> None:
    cluster: dict[str, Any] = {"proxy-url": f"http://me:{SECRET}@p"}
    found = loaded(tmp_path, config({"token": SECRET}, **cluster))
    assert found.proxy == f"http://me:{SECRET}@p"
    assert SECRET not in repr(found)


def test_a_proxy_of_the_environment_is_used_unless_the_kubeconfig_names_one(tmp_path: Path) -> None:
    proxy = {"HTTPS_PROXY": "proxy.internal:3128"}
    assert loaded(tmp_path, config(), **proxy).proxy == "http://proxy.internal:3128"
    assert loaded(tmp_path, config(), **proxy, NO_PROXY="*.example").proxy is None
    own: dict[str, Any] = {"proxy-url": "https://own.example:1"}
    assert loaded(tmp_path, config(**own), **proxy, NO_PROXY="*").proxy == "https://own.example:1"


# -- faults -----------------------------------------------------------------------------------------------------------

BAD_PEM = "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n"
CERTIFICATE = {"client-certificate-data": data(CLIENT.certificate)}


def broken(pair: Pair = CLIENT, **fields: str) -> dict[str, str]:
    return {
        "client-certificate-data": data(pair.certificate),
        **{name.replace("_", "-"): fields[name] for name in fields},
    }


@pytest.mark.parametrize(
    ("user", "field", "problem"),
    [
        ({"client-key-data": data(CLIENT.key)}, "client-certificate", "is missing"),
        (broken(), "client-key", "is missing"),
        (
            broken(client_key_data=data(encrypted(CLIENT))),
            "client-key-data",
            "is encrypted, and the operator cannot ask for a password",
        ),
        (broken(client_key_data=data(OTHER.key)), "client-key-data", "is not the key of client-certificate"),
        (broken(client_key_data="%"), "client-key-data", "is not base64"),
        (broken(client_key_data=data(b"no key")), "client-key-data", "contains no usable private key"),
        (broken(client_key="absent.key"), "client-key", "absent.key cannot be read: No such file"),
        (broken(client_key="junk"), "client-key", "contains no usable private key"),
        (
            {"client-certificate": "junk", "client-key": "junk"},
            "client-certificate",
            "contains no usable PEM certificate",
        ),
        (
            {"client-certificate-data": data(BAD_PEM.encode()), "client-key": "junk"},
            "client-certificate-data",
            "contains no usable",
        ),
        ({"tokenFile": "absent"}, "tokenFile", "absent cannot be read: No such file"),
        ({"tokenFile": "empty"}, "tokenFile", "is empty"),
        ({"token": "a\nb"}, "token", "must be one line"),
        ({"token": 12345}, "token", "Expected `str | null`, got `int`"),
        ({"token": "t", "username": "me"}, "username", "cannot be combined with token"),
        ({"auth-provider": {"name": "gcp"}}, "auth-provider", "is not supported: use an exec plugin"),
        ({"as-groups": ["g"]}, "as-groups", "needs as"),
        ({"as-uid": "u"}, "as-uid", "needs as"),
        ({"as-user-extra": {"k": ["v"]}}, "as-user-extra", "needs as"),
        ({"as": "me\r\nX: y"}, "as", "must be one line"),
        ({"as": "me", "as-groups": "g"}, "as-groups", "Expected `array | null`"),
        (
            {"exec": {**EXEC, "apiVersion": "client.authentication.k8s.io/v1alpha1"}},
            "exec.apiVersion",
            "must be client.",
        ),
        ({"exec": {**EXEC, "interactiveMode": "Always"}}, "exec.interactiveMode", "the operator has no terminal"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}, "exec", "missing required field `command`"),
    ],
)
def test_a_user_that_can_not_be_used_is_a_fault_of_its_field(
    user: dict[str, Any], field: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "junk").write_text("junk")
    (tmp_path / "empty").write_text("\n")
    (fault,) = faults(lambda: login(tmp_path, config(user)))
    assert fault.startswith(f"{tmp_path / 'kubeconfig-0'}: users[k].user.{field}: "), fault
    assert problem in fault


@pytest.mark.parametrize(
    ("cluster", "field", "problem"),
    [
        ({"server": ""}, "server", "use the URL of the API server"),
        ({"server": "k.example:6443"}, "server", "use the URL of the API server"),
        ({"server": "https://k.example:port"}, "server", "use the URL of the API server"),
        ({"certificate-authority-data": "%"}, "certificate-authority-data", "is not base64"),
        (
            {"certificate-authority-data": data(b"junk")},
            "certificate-authority-data",
            "contains no usable PEM certificate",
        ),
        ({"certificate-authority": "junk"}, "certificate-authority", "contains no usable PEM certificate"),
        ({"certificate-authority": "absent"}, "certificate-authority", "absent cannot be read: No such file"),
        (
            {"certificate-authority-data": data(CA.certificate), "insecure-skip-tls-verify": True},
            "insecure-skip-tls-verify",
            "cannot be combined with certificate-authority",
        ),
        ({"insecure-skip-tls-verify": "yes"}, "insecure-skip-tls-verify", "Expected `bool | null`, got `str`"),
        ({"proxy-url": "socks5://127.0.0.1:1080"}, "proxy-url", "socks5:// is not supported: use http://HOST:PORT"),
        ({"proxy-url": "proxy:3128"}, "proxy-url", "is not the URL of a proxy"),
    ],
)
def test_a_cluster_that_can_not_be_used_is_a_fault_of_its_field(
    cluster: dict[str, Any], field: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "junk").write_text("junk")
    (fault,) = faults(lambda: login(tmp_path, config(**cluster)))
    assert fault.startswith(f"{tmp_path / 'kubeconfig-0'}: clusters[k].cluster.{field}: "), fault
    assert problem in fault


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("just text", "{file}: is not a kubeconfig"),
        ("a: [", "{file}: is not YAML: "),
        ("", "{file}: current-context: is not set; set --context"),
        ("{}", "{file}: current-context: is not set"),
        ({"current-context": 1}, "{file}: current-context: must be a string"),
        ({"current-context": "c"}, "current-context: contexts[c] does not exist in {file}"),
        ({**config(), "clusters": []}, "{file}: contexts[k].context.cluster: clusters[k] does not exist in {file}"),
        ({**config(), "users": []}, "{file}: contexts[k].context.user: users[k] does not exist in {file}"),
        ({**config(), "users": {}}, "{file}: users: must be a list"),
        ({**config(), "users": [{"user": {}}]}, "{file}: users[0].name: must be a string"),
        ({**config(), "users": [{"name": "k"}, {"name": "k"}]}, "{file}: users[k]: the name occurs twice"),
        ({**config(), "contexts": [{"name": "k", "context": {}}]}, "{file}: contexts[k].context.cluster: is missing"),
        ({**config(), "contexts": [{"name": "k", "context": 1}]}, "{file}: contexts[k].context: Expected `object`"),
    ],
)
def test_a_file_that_can_not_be_used_is_a_fault(content: dict[str, Any] | str, fault: str, tmp_path: Path) -> None:
    (found,) = faults(lambda: login(tmp_path, content))
    assert found.startswith(fault.format(file=tmp_path / "kubeconfig-0"))


def test_a_proxy_of_the_environment_that_can_not_be_used_is_a_fault_of_its_variable(tmp_path: Path) -> None:
    (fault,) = faults(lambda: login(tmp_path, config(), HTTPS_PROXY="socks5h://me:pw@proxy:1"))
    assert fault == "HTTPS_PROXY: socks5h:// is not supported: use http://HOST:PORT or https://HOST:PORT"


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    user = {"tokenFile": "absent", "client-key": "absent", "as-uid": "u", "auth-provider": {}}
    cluster = {"server": "x", "certificate-authority": "absent"}
    found = faults(lambda: login(tmp_path, config(user, **cluster)))
    fields = [fault.removeprefix(f"{tmp_path / 'kubeconfig-0'}: ").split(": ")[0] for fault in found]
    assert fields == [
        "clusters[k].cluster.certificate-authority",
        "clusters[k].cluster.server",
        "users[k].user.client-key",
        "users[k].user.tokenFile",
        "users[k].user.as-uid",
        "users[k].user.auth-provider",
    ]
    both = faults(lambda: login(tmp_path, "text", "a: ["))
    assert [fault.split(":")[0] for fault in both] == [str(tmp_path / f"kubeconfig-{n}") for n in (0, 1)]


# -- renewal ----------------------------------------------------------------------------------------------------------


def test_a_login_that_fails_is_pending_until_one_succeeds(tmp_path: Path) -> None:
    now = 100.0
    file = write(tmp_path, config({"token": "t"}))
    held = Login(str(file), environ={}, clock=lambda: now)
    assert held.pending_for() == 0
    file.write_text("")
    for _ in range(2):
        with pytest.raises(NoClusterError, match=r"users\[k\] does not exist"):
            held()
        now += 31
    assert held.pending_for() == 62
    write(tmp_path, config({"token": "new"}))
    assert held().headers == bearer("new")
    assert held.pending_for() == 0


async def test_callers_share_a_login_and_give_up_one_that_hangs() -> None:
    go, calls = threading.Event(), 0

    def load() -> ClusterConfig:
        nonlocal calls
        calls += 1
        go.wait(10)
        return ClusterConfig("https://k")

    renew = Renewal(load, seconds=0.05)
    for _ in range(2):
        given_up = await asyncio.gather(renew(), renew(), return_exceptions=True)
        assert [str(error) for error in given_up] == ["the login to Kubernetes did not finish within 0.05 s"] * 2
    assert calls == 1
    go.set()
    renew = Renewal(load)
    assert (await renew()).server == "https://k"
    await renew()
    assert calls == 3
