"""What the policy informer passes on, and its preflight checks: on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.api.access_policy import InvalidPolicy, Policy, parse_policy
from awsbatch_operator.api.interfaces import PolicyEventHandler
from awsbatch_operator.api.label_selector import Labels
from awsbatch_operator.kube.client import JSON, METADATA, METADATA_LIST, ApiError, KubeClient, Response, WatchEvent
from awsbatch_operator.kube.credentials import ClusterConfig
from awsbatch_operator.kube.policy_informer import NAMESPACES, POLICIES, PolicyInformer
from awsbatch_operator.kube.policy_status import PolicyStatusWriter
from awsbatch_operator.kube.preflight import PreflightError
from awsbatch_operator.policy.resolution import Mode
from unit.kube.scripted_client import Reply, ScriptedClient
from unit.kube.scripted_watch import AWAY, GONE, UNSERVED, Collection

pytestmark = pytest.mark.looptime(start=1_000)

SPEC = {"namespaceSelector": {"matchLabels": {"team": "a"}}, "jobs": {"queues": ["team-a-*"]}}
BOTH = "batchaccesspolicies and namespaces"
OTHER = {**SPEC, "allow": ["Observe"]}


class RecordingHandler:
    def __init__(self) -> None:
        self.calls: list[object] = []

    def on_policies(self, policies: Mapping[str, Policy | InvalidPolicy]) -> None:
        self.calls.append(("policies", dict(policies)))

    def on_policy(self, name: str, policy: Policy | InvalidPolicy | None) -> None:
        self.calls.append((name, policy))

    def on_namespaces(self, labels: Mapping[str, Labels]) -> None:
        self.calls.append(("namespaces", dict(labels)))

    def on_namespace(self, name: str, labels: Labels | None) -> None:
        self.calls.append((name, labels))

    def on_stale_since(self, since: float | None, watch: str) -> None:
        self.calls.append(("stale", since, watch))

    def take(self) -> list[object]:
        """Return the calls since the last `take`."""
        calls, self.calls = self.calls, []
        return calls


class Cluster(KubeClient):
    """Two collections; remembers in which form each was asked for."""

    def __init__(self) -> None:
        super().__init__(lambda: ClusterConfig("http://nobody.example"))
        self.policies, self.namespaces = Collection(), Collection()
        self.forms: set[tuple[str, str, str]] = set()

    def policy(self, name: str, spec: object = None, **metadata: Any) -> dict[str, Any]:
        body = self.policies.make(name)
        body["spec"] = SPEC if spec is None else spec
        body["metadata"] |= {"generation": 1} | metadata
        return body

    def namespace(self, name: str, **labels: str) -> dict[str, Any]:
        body = self.namespaces.make(name)
        del body["spec"]
        if labels:
            body["metadata"]["labels"] = labels
        return body

    async def get(self, path: str, params: Mapping[str, str] | None = None, accept: str = JSON) -> Response:
        self.forms.add(("list", path, accept))
        return await self._at(path).get(path, params, accept)

    @asynccontextmanager
    async def watch(
        self, path: str, params: Mapping[str, str], accept: str = JSON, **options: Any
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        self.forms.add(("watch", path, accept))
        async with self._at(path).watch(path, params, accept, **options) as events:
            yield events

    def _at(self, path: str) -> Collection:
        return {POLICIES: self.policies, NAMESPACES: self.namespaces}[path]


@asynccontextmanager
async def running(cluster: Cluster, mode: Mode = Mode.OPTIONAL) -> AsyncIterator[RecordingHandler]:
    handler = RecordingHandler()
    interface: PolicyEventHandler = handler
    statuses = PolicyStatusWriter(cluster, dict, lambda: False)
    rules = PolicyInformer(cluster, interface, statuses, mode, jitter=lambda _low, high: high)
    task = asyncio.ensure_future(rules.run())
    try:
        await asyncio.sleep(0.1)
        yield handler
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


async def settled() -> None:
    await asyncio.sleep(0.1)


async def test_both_lists_arrive_before_the_watches_count_as_fresh() -> None:
    cluster = Cluster()
    cluster.policy("a")
    cluster.policy("odd", {"jobs": 1})
    cluster.namespace("team-a", team="a")
    cluster.namespace("bare")
    async with running(cluster) as handler:
        first, *whole, last = handler.take()
    odd = parse_policy("odd", {"jobs": 1})
    assert isinstance(odd, InvalidPolicy)
    assert (first, last) == (("stale", 1_000, BOTH), ("stale", None, ""))
    assert ("policies", {"a": parse_policy("a", SPEC), "odd": odd}) in whole
    assert ("namespaces", {"bare": {}, "team-a": {"team": "a"}}) in whole
    assert len([one for one in whole if isinstance(one, tuple) and one[0] != "stale"]) == 2
    assert cluster.forms == {
        ("list", POLICIES, JSON),
        ("watch", POLICIES, JSON),
        ("list", NAMESPACES, METADATA_LIST),
        ("watch", NAMESPACES, METADATA),
    }


async def test_a_policy_is_reported_again_when_its_spec_changes() -> None:
    cluster = Cluster()
    cluster.policy("a")
    async with running(cluster) as handler:
        handler.take()
        cluster.policies.send("MODIFIED", cluster.policy("a") | {"status": {"jobs": 3}})
        await settled()
        assert handler.take() == []
        cluster.policies.send("MODIFIED", cluster.policy("a", OTHER, generation=2))
        cluster.policies.send("ADDED", cluster.policy("b", OTHER))
        cluster.policies.send("DELETED", cluster.policies.objects.pop("a"))
        cluster.policies.send("ADDED", cluster.policy("a", OTHER, generation=2))
        await settled()
        a, b = parse_policy("a", OTHER), parse_policy("b", OTHER)
        assert handler.take() == [("a", a), ("b", b), ("a", None), ("a", a)]


async def test_a_list_updates_what_counts_as_a_change() -> None:
    cluster = Cluster()
    cluster.policy("a")
    cluster.namespace("team-a", team="a")
    async with running(cluster) as handler:
        await asyncio.sleep(2)
        cluster.policy("a", OTHER, generation=2)
        cluster.namespace("team-a", team="b")
        cluster.policies.end(GONE)
        cluster.namespaces.end(GONE)
        await settled()
        handler.take()
        cluster.policies.send("MODIFIED", cluster.policy("a", OTHER, generation=2))
        cluster.namespaces.send("MODIFIED", cluster.namespace("team-a", team="b"))
        await settled()
        assert handler.take() == []


async def test_a_policy_applies_until_its_deletion_is_complete() -> None:
    cluster = Cluster()
    cluster.policy("a")
    async with running(cluster) as handler:
        handler.take()
        body = cluster.policy("a", generation=2, deletionTimestamp="2026-11-25T22:00:00Z")
        cluster.policies.send("MODIFIED", body)
        await settled()
        assert handler.take() == [("a", parse_policy("a", SPEC))]
        cluster.policies.send("DELETED", body)
        await settled()
        assert handler.take() == [("a", None)]


async def test_a_namespace_is_reported_again_when_its_labels_change() -> None:
    cluster = Cluster()
    cluster.namespace("team-a", team="a")
    async with running(cluster) as handler:
        handler.take()
        same = cluster.namespace("team-a", team="a")
        same["metadata"]["annotations"] = {"note": "new"}
        cluster.namespaces.send("MODIFIED", same)
        await settled()
        assert handler.take() == []
        cluster.namespaces.send("MODIFIED", cluster.namespace("team-a", team="b"))
        cluster.namespaces.send("MODIFIED", cluster.namespace("team-a"))
        cluster.namespaces.send("DELETED", cluster.namespace("team-a"))
        cluster.namespaces.send("ADDED", cluster.namespace("team-a"))
        await settled()
        assert handler.take() == [("team-a", {"team": "b"}), ("team-a", {}), ("team-a", None), ("team-a", {})]


async def test_staleness_starts_with_the_watch_that_failed_first() -> None:
    cluster = Cluster()
    async with running(cluster) as handler:
        handler.take()
        await asyncio.sleep(5)
        cluster.policies.send("BOOKMARK", {"metadata": {"resourceVersion": "9"}})
        await asyncio.sleep(5)
        cluster.policies.error = cluster.namespaces.error = AWAY
        cluster.policies.end(AWAY)
        await settled()
        cluster.namespaces.end(AWAY)
        await asyncio.sleep(5)
        assert handler.take() == [
            ("stale", pytest.approx(1_005.1), "batchaccesspolicies"),
            ("stale", pytest.approx(1_000, abs=0.1), BOTH),
        ]
        cluster.namespaces.error = None
        await asyncio.sleep(2)
        cluster.policies.error = None
        await asyncio.sleep(2)
        assert handler.take() == [
            ("namespaces", {}),
            ("stale", pytest.approx(1_005.1), "batchaccesspolicies"),
            ("policies", {}),
            ("stale", None, ""),
        ]


# -- preflight --------------------------------------------------------------------------------------------------------

READY: dict[str, Any] = {"metadata": {"resourceVersion": "1"}, "items": []}


def rights(*lacking: tuple[str, str], policies: Reply = READY, namespaces: Reply = READY) -> Callable[..., Reply]:
    def script(_verb: str, path: str, sent: Mapping[str, Any]) -> Reply:
        if path in (POLICIES, NAMESPACES):
            return policies if path == POLICIES else namespaces
        requested = sent["spec"]["resourceAttributes"]
        assert requested["namespace"] == ""
        assert requested["group"] == ("" if requested["resource"] == "namespaces" else "awsbatch.dev")
        resource = "/".join(filter(None, (requested["resource"], requested["subresource"])))
        return {"status": {"allowed": (requested["verb"], resource) not in lacking}}

    return script


async def preflight(script: Callable[..., Reply], mode: Mode) -> None:
    client = ScriptedClient(script)
    await PolicyInformer(client, RecordingHandler(), PolicyStatusWriter(client, dict, lambda: False), mode).preflight()


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("verb", ["list", "watch"])
@pytest.mark.parametrize(
    ("resource", "group"), [("batchaccesspolicies", "[awsbatch.dev]"), ("namespaces", '[""]')], ids=["bap", "ns"]
)
async def test_a_missing_permission_is_an_error_in_both_modes(mode: Mode, verb: str, resource: str, group: str) -> None:
    with pytest.raises(PreflightError) as raised:
        await preflight(rights((verb, resource)), mode)
    assert str(raised.value).startswith(
        f"Kubernetes forbids {verb} {resource} in the whole cluster: grant it by a ClusterRole to the operator's "
        f"service account (apiGroups: {group}), even with --namespace"
    )
    assert "\n" not in str(raised.value)


async def test_all_missing_permissions_are_reported_at_once() -> None:
    everything = [(verb, what) for what in ("batchaccesspolicies", "namespaces") for verb in ("list", "watch")]
    with pytest.raises(PreflightError, match=r'list b\w+, watch b\w+, list n\w+, watch n.*\[awsbatch.dev, ""\]'):
        await preflight(rights(*everything), Mode.OPTIONAL)


async def test_policies_apply_without_permission_to_write_their_status() -> None:
    with capture_logs() as logs:
        await preflight(rights(("patch", "batchaccesspolicies/status")), Mode.REQUIRED)
    (warning,) = logs
    assert warning["log_level"] == "warning"
    assert "patch batchaccesspolicies/status in the whole cluster" in warning["error"]


async def test_preflight_with_all_permissions_logs_nothing() -> None:
    with capture_logs() as logs:
        await preflight(rights(), Mode.REQUIRED)
    assert logs == []


async def test_a_cluster_without_policies_is_an_error_where_they_are_required() -> None:
    remedy = r"kubectl apply -f crds/batchaccesspolicies\.awsbatch\.dev\.yaml"
    with pytest.raises(PreflightError, match=f"does not serve BatchAccessPolicy: .*{remedy}"):
        await preflight(rights(policies=UNSERVED), Mode.REQUIRED)
    with capture_logs() as logs:
        await preflight(rights(policies=UNSERVED), Mode.OPTIONAL)
    assert [line["log_level"] for line in logs] == ["warning"]


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("what", ["policies", "namespaces"])
async def test_a_failing_api_server_is_an_error(mode: Mode, what: str) -> None:
    with pytest.raises(PreflightError, match="HTTP 503"):
        await preflight(rights(**{what: ApiError(503, "away")}), mode)


async def test_a_resource_found_by_the_preflight_never_becomes_none() -> None:
    cluster = Cluster()
    handler = RecordingHandler()
    rules = PolicyInformer(cluster, handler, PolicyStatusWriter(cluster, dict, lambda: False), Mode.OPTIONAL)
    await rules._check_served()
    cluster.policies.error = UNSERVED
    task = asyncio.ensure_future(rules.run())
    await asyncio.sleep(20)
    task.cancel()
    assert handler.take() == [("stale", 1_000, BOTH), ("namespaces", {}), ("stale", 1_000, "batchaccesspolicies")]


@pytest.mark.parametrize(("mode", "reported"), [(Mode.OPTIONAL, [("policies", {})]), (Mode.REQUIRED, [])])
async def test_a_cluster_that_never_knew_policies_has_none_where_they_are_optional(
    mode: Mode, reported: list[object]
) -> None:
    cluster = Cluster()
    cluster.policies.error = UNSERVED
    async with running(cluster, mode) as handler:
        await asyncio.sleep(20)
        assert [one for one in handler.take() if isinstance(one, tuple) and one[0] == "policies"] == reported
