"""Policies and labels as an API server reports them, through a network that can be broken."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from awsbatch_operator.api import names
from awsbatch_operator.api.access_policy import InvalidPolicy, Policy, parse_policy
from awsbatch_operator.api.conditions import ConditionValue
from awsbatch_operator.api.interfaces import PolicyStatus
from awsbatch_operator.api.label_selector import Labels
from awsbatch_operator.kube import credentials
from awsbatch_operator.kube.client import ApiError, KubeClient
from awsbatch_operator.kube.policy_informer import NAMESPACES, POLICIES, PolicyInformer
from awsbatch_operator.kube.policy_status import PolicyStatusWriter
from awsbatch_operator.kube.reflector import NOT_SERVED_RETRY
from awsbatch_operator.policy.resolution import Mode
from awsbatch_sandbox.apiserver.server import ApiServer, load_definitions, serve
from awsbatch_sandbox.controlplane import crd_files
from awsbatch_sandbox.world import World, establish
from proxy import Proxy

SOON = 2.0
"""Seconds in which news must arrive, counted from when they can."""
PATIENCE = 20.0
OBSERVE = {"allow": ["Observe"]}
SPEC = {"namespaceSelector": {"matchLabels": {"team": "a"}}, "jobs": {"queues": ["team-a-*"]}}


class RecordingHandler:
    """Keeps the newest state, and the name of each reported change."""

    def __init__(self) -> None:
        self.policies: dict[str, Policy | InvalidPolicy] = {}
        self.labels: dict[str, Labels] = {}
        self.stale_since: float | None = 0.0
        self.reported: list[str] = []

    def on_policies(self, policies: Mapping[str, Policy | InvalidPolicy]) -> None:
        self.policies = dict(policies)
        self.reported.append("policies")

    def on_policy(self, name: str, policy: Policy | InvalidPolicy | None) -> None:
        self.policies.pop(name, None)
        if policy is not None:
            self.policies[name] = policy
        self.reported.append(name)

    def on_namespaces(self, labels: Mapping[str, Labels]) -> None:
        self.labels = dict(labels)
        self.reported.append("namespaces")

    def on_namespace(self, name: str, labels: Labels | None) -> None:
        self.labels.pop(name, None)
        if labels is not None:
            self.labels[name] = labels
        self.reported.append(name)

    def on_stale_since(self, since: float | None, watch: str) -> None:
        del watch
        self.stale_since = since


async def eventually(holds: Callable[[], object], within: float = PATIENCE) -> float:
    """Seconds until then."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110  the handler is a plain object
            await asyncio.sleep(0.005)
    return loop.time() - began


class Admin:
    """Edits policies and labels, not through the broken network. `made`: the policies that were not deleted."""

    def __init__(self, client: KubeClient) -> None:
        self._client, self.made = client, set[str]()

    async def make(self, **spec: Any) -> str:
        name = f"policy-{secrets.token_hex(3)}"
        head = {"apiVersion": names.API_VERSION, "kind": names.POLICY_KIND, "metadata": {"name": name}}
        await self._client.post(POLICIES, head | {"spec": SPEC | spec})
        self.made.add(name)
        return name

    async def edit(self, name: str, **change: Any) -> None:
        await self._client.patch(f"{POLICIES}/{name}", change)

    async def delete(self, name: str) -> None:
        self.made.discard(name)
        await self._client.delete(f"{POLICIES}/{name}")

    async def label(self, namespace: str, **change: Any) -> None:
        await self._client.patch(f"{NAMESPACES}/{namespace}", {"metadata": change})

    async def shown(self, name: str) -> dict[str, Any]:
        return (await self._client.get(f"{POLICIES}/{name}")).body


def client_of(kubeconfig: Path) -> KubeClient:
    return KubeClient(credentials.Login(str(kubeconfig)))


@pytest.fixture
async def admin(world: World) -> AsyncIterator[Admin]:
    async with client_of(world.control_plane.kubeconfig) as client:
        admin = Admin(client)
        yield admin
        for name in sorted(admin.made):
            with suppress(ApiError):
                await admin.delete(name)


@pytest.fixture
async def proxy(world: World, tmp_path: Path) -> AsyncIterator[Proxy]:
    """A proxy before the API server, and beside it a kubeconfig for the proxy."""
    config = yaml.load(world.control_plane.kubeconfig.read_text("utf-8"), yaml.CSafeLoader)
    server = urlsplit(config["clusters"][0]["cluster"]["server"])
    assert server.hostname
    assert server.port
    proxy = Proxy(server.hostname, server.port)
    await proxy.open()
    config["clusters"][0]["cluster"]["server"] = f"{server.scheme}://{server.hostname}:{proxy.port}"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config), "utf-8")
    yield proxy
    await proxy.close()


@asynccontextmanager
async def running_informer(client: KubeClient, mode: Mode = Mode.OPTIONAL) -> AsyncIterator[RecordingHandler]:
    """Run an informer, once it has listed policies and namespaces."""
    handler = RecordingHandler()
    informer = PolicyInformer(client, handler, PolicyStatusWriter(client, dict, lambda: False), mode)
    task = asyncio.ensure_future(informer.run())
    try:
        await eventually(lambda: handler.stale_since is None)
        yield handler
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


@pytest.fixture
async def handler(proxy: Proxy, tmp_path: Path) -> AsyncIterator[RecordingHandler]:
    del proxy
    async with client_of(tmp_path / "kubeconfig") as client, running_informer(client) as handler:
        yield handler


@pytest.fixture
def namespace(world: World) -> Iterator[str]:
    cluster = world.cluster.within(f"test-{secrets.token_hex(4)}")
    cluster.create_namespace()
    yield cluster.namespace
    cluster.delete_namespace()
    cluster.close()


async def test_preflight_passes_on_a_cluster_that_serves_both(world: World) -> None:
    async with client_of(world.control_plane.kubeconfig) as client:
        await PolicyInformer(
            client, RecordingHandler(), PolicyStatusWriter(client, dict, bool), Mode.REQUIRED
        ).preflight()


async def test_each_change_is_reported_once_and_soon(handler: RecordingHandler, admin: Admin, namespace: str) -> None:
    name = await admin.make()
    await eventually(lambda: handler.policies.get(name) == parse_policy(name, SPEC), SOON)
    await admin.edit(name, spec=OBSERVE)
    await eventually(lambda: handler.policies[name] == parse_policy(name, SPEC | OBSERVE), SOON)
    await admin.label(namespace, labels={"team": "a"})
    await eventually(lambda: handler.labels[namespace].get("team") == "a", SOON)
    await admin.label(namespace, labels={"team": None})
    await eventually(lambda: "team" not in handler.labels[namespace], SOON)
    await admin.delete(name)
    await eventually(lambda: name not in handler.policies, SOON)
    assert [one for one in handler.reported if one == name] == [name] * 3


async def test_irrelevant_changes_are_not_reported(handler: RecordingHandler, admin: Admin, namespace: str) -> None:
    name = await admin.make()
    await eventually(lambda: name in handler.policies and namespace in handler.labels, SOON)
    before = len(handler.reported)
    await admin.edit(f"{name}/status", status={"jobs": 3})
    await admin.edit(name, metadata={"annotations": {"note": "new"}})
    await admin.label(namespace, annotations={"note": "new"})
    last = await admin.make()
    await admin.label(namespace, labels={"last": "yes"})
    await eventually(lambda: last in handler.policies and "last" in handler.labels[namespace], SOON)
    assert sorted(handler.reported[before:]) == sorted([last, namespace])


async def changed(admin: Admin, namespace: str, *old: str) -> str:
    """One of three policies is edited, one deleted, one recreated with the same name, and a namespace is relabelled."""
    edited, deleted, anew = old
    await admin.edit(edited, spec=OBSERVE)
    await admin.delete(deleted)
    await admin.delete(anew)
    await admin.label(namespace, labels={"team": "b"})
    return await admin.make()


@pytest.mark.parametrize("kind", ["cut", "refused", "hung"])
async def test_changes_during_a_network_failure_are_reported_soon_after(
    kind: str, handler: RecordingHandler, admin: Admin, namespace: str, proxy: Proxy
) -> None:
    old = [await admin.make() for _ in range(3)]
    await eventually(lambda: {*old} <= handler.policies.keys() and namespace in handler.labels, SOON)
    await {"cut": proxy.refuse, "refused": proxy.refuse, "hung": proxy.hang}[kind]()
    if kind != "cut":
        await asyncio.sleep(1.5)
    if kind == "refused":
        assert handler.stale_since is not None
    new = await changed(admin, namespace, *old)
    assert {*old} <= handler.policies.keys(), "the network is broken"
    await proxy.open()
    await eventually(
        lambda: (
            new in handler.policies
            and not handler.policies.keys() & {*old[1:]}
            and handler.policies[old[0]] == parse_policy(old[0], SPEC | OBSERVE)
            and handler.labels[namespace].get("team") == "b"
            and handler.stale_since is None
        ),
        SOON,
    )


async def test_a_cut_connection_is_restored(handler: RecordingHandler, admin: Admin, proxy: Proxy) -> None:
    await proxy.cut()
    name = await admin.make()
    await eventually(lambda: name in handler.policies, SOON)


async def test_changes_arrive_soon_after_a_restart_of_the_api_server(
    handler: RecordingHandler, admin: Admin, world: World
) -> None:
    name = await admin.make()
    await eventually(lambda: name in handler.policies, SOON)
    with world.api_server_away(1.0):
        await eventually(lambda: handler.stale_since is not None)
    assert name in handler.policies, "a policy stays until its deletion is known"
    await admin.delete(name)
    other = await admin.make()
    await eventually(lambda: name not in handler.policies and other in handler.policies, SOON)
    await eventually(lambda: handler.stale_since is None, SOON)


async def test_an_expired_version_is_a_410_for_lists_and_watches(admin: Admin, world: World) -> None:
    await admin.make()
    async with client_of(world.control_plane.kubeconfig) as client:
        with pytest.raises(ApiError) as raised:
            async with client.watch(POLICIES, {"resourceVersion": "1"}) as events:
                await anext(events)
    assert (raised.value.status, raised.value.reason) == (410, "Expired")


@pytest.mark.parametrize("sent_in_the_stream", [True, False])
async def test_after_a_410_the_collection_is_listed_again_soon(sent_in_the_stream: bool) -> None:
    server = ApiServer(load_definitions(crd_files()))
    async with (
        serve(server) as url,
        KubeClient(lambda: credentials.ClusterConfig(url)) as client,
        running_informer(client) as handler,
    ):
        name = await Admin(client).make()
        await eventually(lambda: name in handler.policies, SOON)
        server.store.expire()
        server.store.cut(expired=sent_in_the_stream)
        await eventually(lambda: handler.reported.count("policies") == handler.reported.count("namespaces") == 2, SOON)
        assert handler.policies.keys() == {name}
        await eventually(lambda: handler.stale_since is None, SOON)


@pytest.fixture
def _without_policies(world: World) -> Iterator[None]:
    """The cluster knows none at first, and has them again at the end."""
    forget_policies(world)
    yield
    establish(world.cluster)


def forget_policies(world: World) -> None:
    world.cluster.kubectl("delete", f"crd/{names.crd_name(names.POLICY_PLURAL)}", "--timeout=20s")


@pytest.mark.usefixtures("_without_policies")
async def test_an_unserved_kind_is_empty_before_and_unknown_after_it_was_served(world: World, admin: Admin) -> None:
    async with client_of(world.control_plane.kubeconfig) as client, running_informer(client) as handler:
        assert handler.policies == {}
        await asyncio.to_thread(establish, world.cluster)
        name = await admin.make()
        await eventually(lambda: name in handler.policies, NOT_SERVED_RETRY + SOON)
        lists = handler.reported.count("policies")
        await asyncio.to_thread(forget_policies, world)
        await eventually(lambda: handler.stale_since is not None)
        await asyncio.sleep(0.5)
        assert handler.reported.count("policies") == lists, "a 404 reports nothing"
        await asyncio.to_thread(establish, world.cluster)
        await eventually(lambda: handler.stale_since is None, SOON)
        assert handler.policies == {}


async def test_policies_show_their_status(world: World, admin: Admin) -> None:
    name = await admin.make()
    denied = ConditionValue("False", "AccessDenied", "sts: AssumeRole is not authorised")
    status = PolicyStatus(denied, 3, 812, "111122223333")
    async with client_of(world.control_plane.kubeconfig) as client:
        handler = RecordingHandler()
        statuses = PolicyStatusWriter(client, lambda: {name: status}, lambda: True)
        informer = PolicyInformer(client, handler, statuses, Mode.REQUIRED)
        task = asyncio.ensure_future(informer.run())
        await eventually(lambda: name in handler.policies)
        await statuses.write_due()
        await statuses.write_due()
        first = await admin.shown(name)
        status = PolicyStatus(ConditionValue("True", "InForce", ""), 3, 812, None)
        await statuses.write_due()
        second = await admin.shown(name)
        last = await admin.make()
        await eventually(lambda: last in handler.policies, SOON)
        task.cancel()
    assert handler.reported.count(name) <= 1, "own writes are not reported"
    assert first["status"].items() >= {"namespaces": 3, "jobs": 812, "accountId": "111122223333"}.items()
    shown = [(one["type"], one["status"], one["reason"]) for one in first["status"]["conditions"]]
    assert shown == [("Ready", "False", "AccessDenied"), ("Stalled", "True", "AccessDenied")]
    assert [one["type"] for one in second["status"]["conditions"]] == ["Ready"]
    assert "accountId" not in second["status"]
    ours = [one for one in first["metadata"]["managedFields"] if one["manager"] == names.FIELD_MANAGER]
    assert {(one.get("subresource"), *one["fieldsV1"]) for one in ours if "f:status" in one["fieldsV1"]} == {
        ("status", "f:status")
    }
    assert first["metadata"]["generation"] == second["metadata"]["generation"] == 1
