"""Policies and labels as an API server tells of them, through a network that can be broken."""

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
from awsbatch_sandbox.apiserver import ApiServer, serve
from awsbatch_sandbox.apiserver.server import load_definitions
from awsbatch_sandbox.controlplane import crd_files
from awsbatch_sandbox.world import World, establish
from proxy import Proxy

SOON = 2.0
"""Seconds in which news must arrive, counted from when they can."""
PATIENCE = 20.0
OBSERVE = {"allow": ["Observe"]}
SPEC = {"namespaceSelector": {"matchLabels": {"team": "a"}}, "jobs": {"queues": ["team-a-*"]}}


class RecordingHandler:
    """What it knows, and each thing that it was told."""

    def __init__(self) -> None:
        self.policies: dict[str, Policy | InvalidPolicy] = {}
        self.labels: dict[str, Labels] = {}
        self.stale_since: float | None = 0.0
        self.told: list[str] = []

    def on_policies(self, policies: Mapping[str, Policy | InvalidPolicy]) -> None:
        self.policies = dict(policies)
        self.told.append("policies")

    def on_policy(self, name: str, policy: Policy | InvalidPolicy | None) -> None:
        self.policies.pop(name, None)
        if policy is not None:
            self.policies[name] = policy
        self.told.append(name)

    def on_namespaces(self, labels: Mapping[str, Labels]) -> None:
        self.labels = dict(labels)
        self.told.append("namespaces")

    def on_namespace(self, name: str, labels: Labels | None) -> None:
        self.labels.pop(name, None)
        if labels is not None:
            self.labels[name] = labels
        self.told.append(name)

    def on_stale_since(self, since: float | None, watch: str) -> None:
        del watch
        self.stale_since = since


async def eventually(holds: Callable[[], object], within: float = PATIENCE) -> float:
    """Seconds until then."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110  what is told here is told to a plain object
            await asyncio.sleep(0.005)
    return loop.time() - began


class People:
    """Who makes policies and labels namespaces, past the broken network. `made` are the policies that are left."""

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
async def people(world: World) -> AsyncIterator[People]:
    async with client_of(world.control_plane.kubeconfig) as client:
        people = People(client)
        yield people
        for name in sorted(people.made):
            with suppress(ApiError):
                await people.delete(name)


@pytest.fixture
async def link(world: World, tmp_path: Path) -> AsyncIterator[Proxy]:
    """Leads to the API server; the kubeconfig beside it leads through it."""
    config = yaml.safe_load(world.control_plane.kubeconfig.read_text("utf-8"))
    server = urlsplit(config["clusters"][0]["cluster"]["server"])
    assert server.hostname
    assert server.port
    link = Proxy(server.hostname, server.port)
    await link.open()
    config["clusters"][0]["cluster"]["server"] = f"{server.scheme}://{server.hostname}:{link.port}"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config), "utf-8")
    yield link
    await link.close()


@asynccontextmanager
async def heard(client: KubeClient, mode: Mode = Mode.OPTIONAL) -> AsyncIterator[RecordingHandler]:
    """From when both are known."""
    book = RecordingHandler()
    rules = PolicyInformer(client, book, PolicyStatusWriter(client, dict, lambda: False), mode)
    task = asyncio.ensure_future(rules.run())
    try:
        await eventually(lambda: book.stale_since is None)
        yield book
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


@pytest.fixture
async def book(link: Proxy, tmp_path: Path) -> AsyncIterator[RecordingHandler]:
    del link
    async with client_of(tmp_path / "kubeconfig") as client, heard(client) as book:
        yield book


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


async def test_each_change_is_reported_once_and_soon(book: RecordingHandler, people: People, namespace: str) -> None:
    name = await people.make()
    await eventually(lambda: book.policies.get(name) == parse_policy(name, SPEC), SOON)
    await people.edit(name, spec=OBSERVE)
    await eventually(lambda: book.policies[name] == parse_policy(name, SPEC | OBSERVE), SOON)
    await people.label(namespace, labels={"team": "a"})
    await eventually(lambda: book.labels[namespace].get("team") == "a", SOON)
    await people.label(namespace, labels={"team": None})
    await eventually(lambda: "team" not in book.labels[namespace], SOON)
    await people.delete(name)
    await eventually(lambda: name not in book.policies, SOON)
    assert [one for one in book.told if one == name] == [name] * 3


async def test_irrelevant_changes_are_not_reported(book: RecordingHandler, people: People, namespace: str) -> None:
    name = await people.make()
    await eventually(lambda: name in book.policies and namespace in book.labels, SOON)
    told = list(book.told)
    await people.edit(f"{name}/status", status={"jobs": 3})
    await people.edit(name, metadata={"annotations": {"note": "new"}})
    await people.label(namespace, annotations={"note": "new"})
    last = await people.make()
    await people.label(namespace, labels={"last": "yes"})
    await eventually(lambda: last in book.policies and "last" in book.labels[namespace], SOON)
    assert sorted(book.told[len(told) :]) == sorted([last, namespace])


async def changed(people: People, namespace: str, *old: str) -> str:
    """Of three policies one is edited, one deleted, one made anew under its name, and a namespace is relabelled."""
    edited, deleted, anew = old
    await people.edit(edited, spec=OBSERVE)
    await people.delete(deleted)
    await people.delete(anew)
    await people.label(namespace, labels={"team": "b"})
    return await people.make()


@pytest.mark.parametrize("kind", ["cut", "refused", "hung"])
async def test_changes_during_a_network_failure_are_reported_soon_after(
    kind: str, book: RecordingHandler, people: People, namespace: str, link: Proxy
) -> None:
    old = [await people.make() for _ in range(3)]
    await eventually(lambda: {*old} <= book.policies.keys() and namespace in book.labels, SOON)
    await {"cut": link.refuse, "refused": link.refuse, "hung": link.hang}[kind]()
    if kind != "cut":
        await asyncio.sleep(1.5)
    if kind == "refused":
        assert book.stale_since is not None
    new = await changed(people, namespace, *old)
    assert {*old} <= book.policies.keys(), "the network is broken"
    await link.open()
    await eventually(
        lambda: (
            new in book.policies
            and not book.policies.keys() & {*old[1:]}
            and book.policies[old[0]] == parse_policy(old[0], SPEC | OBSERVE)
            and book.labels[namespace].get("team") == "b"
            and book.stale_since is None
        ),
        SOON,
    )


async def test_a_cut_connection_is_restored(book: RecordingHandler, people: People, link: Proxy) -> None:
    await link.cut()
    name = await people.make()
    await eventually(lambda: name in book.policies, SOON)


async def test_changes_arrive_soon_after_a_restart_of_the_api_server(
    book: RecordingHandler, people: People, world: World
) -> None:
    name = await people.make()
    await eventually(lambda: name in book.policies, SOON)
    with world.api_server_away(1.0):
        await eventually(lambda: book.stale_since is not None)
    assert name in book.policies, "what is not known to be gone is there"
    await people.delete(name)
    other = await people.make()
    await eventually(lambda: name not in book.policies and other in book.policies, SOON)
    await eventually(lambda: book.stale_since is None, SOON)


async def test_an_expired_version_is_a_410_for_lists_and_watches(people: People, world: World) -> None:
    await people.make()
    async with client_of(world.control_plane.kubeconfig) as client:
        with pytest.raises(ApiError) as raised:
            async with client.watch(POLICIES, {"resourceVersion": "1"}) as events:
                await anext(events)
    assert (raised.value.status, raised.value.reason) == (410, "Expired")


@pytest.mark.parametrize("told_in_the_stream", [True, False])
async def test_after_a_410_the_collection_is_listed_again_soon(told_in_the_stream: bool) -> None:
    server = ApiServer(load_definitions(crd_files()))
    async with (
        serve(server) as url,
        KubeClient(lambda: credentials.ClusterConfig(url)) as client,
        heard(client) as book,
    ):
        name = await People(client).make()
        await eventually(lambda: name in book.policies, SOON)
        server.store.expire()
        server.store.cut(expired=told_in_the_stream)
        await eventually(lambda: book.told.count("policies") == book.told.count("namespaces") == 2, SOON)
        assert book.policies.keys() == {name}
        await eventually(lambda: book.stale_since is None, SOON)


@pytest.fixture
def _without_policies(world: World) -> Iterator[None]:
    """The cluster knows none at first, and has them again at the end."""
    forget_policies(world)
    yield
    establish(world.cluster)


def forget_policies(world: World) -> None:
    world.cluster.kubectl("delete", f"crd/{names.crd_name(names.POLICY_PLURAL)}", "--timeout=20s")


@pytest.mark.usefixtures("_without_policies")
async def test_an_unserved_kind_is_empty_before_and_unknown_after_it_was_served(world: World, people: People) -> None:
    async with client_of(world.control_plane.kubeconfig) as client, heard(client) as book:
        assert book.policies == {}
        await asyncio.to_thread(establish, world.cluster)
        name = await people.make()
        await eventually(lambda: name in book.policies, NOT_SERVED_RETRY + SOON)
        told = book.told.count("policies")
        await asyncio.to_thread(forget_policies, world)
        await eventually(lambda: book.stale_since is not None)
        await asyncio.sleep(0.5)
        assert book.told.count("policies") == told, "a 404 is no news"
        await asyncio.to_thread(establish, world.cluster)
        await eventually(lambda: book.stale_since is None, SOON)
        assert book.policies == {}


async def test_policies_show_their_status(world: World, people: People) -> None:
    name = await people.make()
    denied = ConditionValue("False", "AccessDenied", "sts: AssumeRole is not authorised")
    standing = PolicyStatus(denied, 3, 812, "111122223333")
    async with client_of(world.control_plane.kubeconfig) as client:
        book = RecordingHandler()
        statuses = PolicyStatusWriter(client, lambda: {name: standing}, lambda: True)
        rules = PolicyInformer(client, book, statuses, Mode.REQUIRED)
        task = asyncio.ensure_future(rules.run())
        await eventually(lambda: name in book.policies)
        await statuses.write_due()
        await statuses.write_due()
        first = await people.shown(name)
        standing = PolicyStatus(ConditionValue("True", "InForce", ""), 3, 812, None)
        await statuses.write_due()
        second = await people.shown(name)
        last = await people.make()
        await eventually(lambda: last in book.policies, SOON)
        task.cancel()
    assert book.told.count(name) <= 1, "what is written here is not told"
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
