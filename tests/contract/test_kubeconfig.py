"""Kubeconfigs against an API server: that of KUBEBUILDER_ASSETS if there is one, else the embedded one.

Each way is tried by the operator's own client and by Kopf's watch. tests/unit/kube has the ways without a server.
"""

import asyncio
import base64
import json
import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from awsbatch_operator.api import names
from awsbatch_operator.api.decoding import Snapshot
from awsbatch_operator.handlers.watch import EventBuffer, Watch, make_registry
from awsbatch_operator.kube.client import ApiError, KubeClient
from awsbatch_operator.kube.credentials import Login
from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.controlplane import ASSETS, ControlPlane, Embedded, crd_files
from awsbatch_sandbox.envtest import Envtest
from awsbatch_sandbox.processes import free_port, wait_for
from unit.kube.pem import PlainAuthority

REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
NAME = "k8s.internal"
SOON = 15.0

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plane:
    """An API server with the BatchJob `seen`; a real one serves a certificate of `authority` by the name NAME."""

    control_plane: ControlPlane
    authority: PlainAuthority

    @property
    def real(self) -> bool:
        return isinstance(self.control_plane, Envtest)

    def kubeconfig(self) -> Body:
        config: Body = yaml.load(self.control_plane.kubeconfig.read_text("utf-8"), yaml.CSafeLoader)
        return config


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    folder, authority = tmp_path_factory.mktemp("plane"), PlainAuthority()
    served = authority.issue(NAME)
    (folder / "named.crt").write_bytes(served.certificate)
    (folder / "named.key").write_bytes(served.key)
    flag = f"--tls-sni-cert-key={folder / 'named.crt'},{folder / 'named.key'}:{NAME}"
    assets = os.environ.get(ASSETS)
    control_plane: ControlPlane = Envtest(folder, assets, [flag]) if assets else Embedded(folder)
    try:
        control_plane.launch()
        control_plane.ready()
        cluster = Cluster(control_plane.kubeconfig, folder / "cache")
        if not control_plane.knows_batch_jobs:
            cluster.kubectl("apply", f"--filename={crd_files()[0]}")
        wait_for(cluster.serves, timeout=SOON, what="BatchJobs are served")
        cluster.create("seen", "job-1")
        cluster.close()
        yield Plane(control_plane, authority)
    finally:
        control_plane.stop()


# -- the ways, each an edit of a kubeconfig that works: it returns the files of the list ------------------------------


def second_cluster(config: Body) -> Body:
    """The same names, and a server that nobody answers for."""
    other = deepcopy(config)
    other["current-context"] = "elsewhere"
    other["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{free_port()}"}
    other["clusters"][0]["name"] = other["contexts"][0]["context"]["cluster"] = "elsewhere"
    other["contexts"][0]["name"] = "elsewhere"
    return other


def one(config: Body, _plane: Plane) -> list[Body | str]:
    return [config]


def first_current_context(config: Body, _plane: Plane) -> list[Body | str]:
    return [config, second_cluster(config)]


def empty_first_file(config: Body, _plane: Plane) -> list[Body | str]:
    return ["", config, second_cluster(config)]


def empty_current_context(config: Body, _plane: Plane) -> list[Body | str]:
    return [{**second_cluster(config), "current-context": ""}, config]


def context_by_flag(config: Body, _plane: Plane) -> list[Body | str]:
    return [second_cluster(config), config]


def impersonated(config: Body, _plane: Plane) -> list[Body | str]:
    config["users"][0]["user"] |= {"as": "jane", "as-groups": ["system:masters", "team-a"]}
    return [config]


def exec_plugin(config: Body, _plane: Plane) -> list[Body | str]:
    user = config["users"][0]["user"]
    status = {"token": "t"}
    if "client-key-data" in user:
        fields = {"client-certificate-data": "clientCertificateData", "client-key-data": "clientKeyData"}
        status = {fields[name]: base64.b64decode(user[name]).decode() for name in fields}
    version = "client.authentication.k8s.io/v1beta1"
    printed = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})
    config["users"][0]["user"] = {"exec": {"apiVersion": version, "command": "printf", "args": ["%s", printed]}}
    return [config]


def ca_without_key_identifiers(config: Body, plane: Plane) -> list[Body | str]:
    config["clusters"][0]["cluster"] |= {
        "tls-server-name": NAME,
        "certificate-authority-data": base64.b64encode(plane.authority.certificate).decode(),
    }
    return [config]


Way = Callable[[Body, Plane], list[Body | str]]
WAYS: tuple[Way, ...] = (
    *(one, first_current_context, empty_first_file, empty_current_context, context_by_flag),
    *(impersonated, exec_plugin, ca_without_key_identifiers),
)


def login(plane: Plane, way: Way, folder: Path) -> Login:
    paths = []
    for index, content in enumerate(way(plane.kubeconfig(), plane)):
        paths.append(folder / f"kubeconfig-{index}")
        paths[-1].write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    context = "sandbox" if way is context_by_flag else None
    return Login(context=context, environ={"KUBECONFIG": os.pathsep.join(map(str, paths))})


class Listener:
    def __init__(self) -> None:
        self.received: asyncio.Queue[str] = asyncio.Queue()

    def on_relist(self, uid: str) -> None:
        """The object follows."""

    def on_upsert(self, snapshot: Snapshot) -> None:
        self.received.put_nowait(snapshot.ref.name)

    def on_delete(self, uid: str) -> None:
        """No test deletes anything."""


async def watched(held: Login) -> str:
    """The object that Kopf's watch shows."""
    listener = Listener()
    watch = Watch(make_registry(held, EventBuffer(asyncio.get_running_loop(), listener)), ())
    ended = watch.start()
    try:
        return await asyncio.wait_for(listener.received.get(), SOON)
    finally:
        watch.stop()
        await asyncio.wait([ended], timeout=SOON)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_kubeconfig_that_works_with_kubectl_works_for_both_connections(
    way: Way, plane: Plane, tmp_path: Path
) -> None:
    if way is ca_without_key_identifiers and not plane.real:
        pytest.skip(
            "the embedded API server takes no certificate: tests/unit/kube/test_kube_connections.py has this way"
        )
    held = await asyncio.to_thread(login, plane, way, tmp_path)
    async with KubeClient(held) as client:
        listed = await client.get(f"/apis/{names.API_VERSION}/{names.PLURAL}")
        assert [item["metadata"]["name"] for item in listed.body["items"]] == ["seen"]
        if plane.real:
            review = await client.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", REVIEW)
            user = review.body["status"]["userInfo"]
            assert user["username"] == ("jane" if way is impersonated else "sandbox")
            assert ("team-a" in user["groups"]) == (way is impersonated)
    assert await watched(held) == "seen"


async def test_an_impersonated_user_has_only_its_own_permissions(plane: Plane, tmp_path: Path) -> None:
    def nobody(config: Body, _plane: Plane) -> list[Body | str]:
        config["users"][0]["user"] |= {"as": "nobody"}
        return [config]

    if not plane.real:
        pytest.skip("the embedded API server has no authorization")
    async with KubeClient(login(plane, nobody, tmp_path)) as client:
        with pytest.raises(ApiError, match='User "nobody" cannot list') as raised:
            await client.get(f"/apis/{names.API_VERSION}/{names.PLURAL}")
    assert raised.value.status == 403


async def test_a_server_with_another_name_is_not_accepted(plane: Plane, tmp_path: Path) -> None:
    def misnamed(config: Body, _plane: Plane) -> list[Body | str]:
        config["clusters"][0]["cluster"] |= {"tls-server-name": "other.internal"}
        return [config]

    async with KubeClient(login(plane, misnamed, tmp_path)) as client:
        with pytest.raises(ApiError, match="Hostname mismatch"):
            await client.get("/version")


async def test_use_context_under_a_running_operator_changes_nothing(plane: Plane, tmp_path: Path) -> None:
    def both(config: Body, _plane: Plane) -> list[Body | str]:
        other = second_cluster(config)
        return [{**config, **{section: config[section] + other[section] for section in ("clusters", "contexts")}}]

    held = login(plane, both, tmp_path)
    file = tmp_path / "kubeconfig-0"
    file.write_text(yaml.safe_dump({**yaml.load(file.read_text(), yaml.CSafeLoader), "current-context": "elsewhere"}))
    async with KubeClient(held) as client:
        assert (await client.get("/version")).status == 200
    assert await watched(held) == "seen"
