"""What the rulebook is told, and what is checked before: on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.domain.access import Mode
from awsbatch_operator.domain.labels import Labels
from awsbatch_operator.domain.policy import Policy, Unreadable, parse_policy
from awsbatch_operator.domain.ports import Rulebook
from awsbatch_operator.kube.access import NAMESPACES, POLICIES, AccessRules
from awsbatch_operator.kube.client import JSON, METADATA, METADATA_LIST, Answer, ApiError, KubeClient, Told
from awsbatch_operator.kube.policies import PolicyStatuses
from awsbatch_operator.kube.preflight import PreflightError
from unit.kube.scripted_client import Reply, ScriptedClient
from unit.kube.scripted_watch import AWAY, GONE, UNSERVED, Collection

pytestmark = pytest.mark.looptime(start=1_000)

SPEC = {"namespaceSelector": {"matchLabels": {"team": "a"}}, "jobs": {"queues": ["team-a-*"]}}
OTHER = {**SPEC, "allow": ["Observe"]}


class Book:
    def __init__(self) -> None:
        self.told: list[object] = []

    def policies_are(self, policies: Mapping[str, Policy | Unreadable]) -> None:
        self.told.append(("policies", dict(policies)))

    def policy_is(self, name: str, policy: Policy | Unreadable | None) -> None:
        self.told.append((name, policy))

    def namespaces_are(self, labels: Mapping[str, Labels]) -> None:
        self.told.append(("namespaces", dict(labels)))

    def namespace_is(self, name: str, labels: Labels | None) -> None:
        self.told.append((name, labels))

    def blind(self, since: float | None) -> None:
        self.told.append(("blind", since))

    def news(self) -> list[object]:
        """Since the last time."""
        told, self.told = self.told, []
        return told


class Cluster(KubeClient):
    """Two collections; remembers in which form each was asked for."""

    def __init__(self) -> None:
        super().__init__()
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

    async def get(self, path: str, params: Mapping[str, str] | None = None, accept: str = JSON) -> Answer:
        self.forms.add(("list", path, accept))
        return await self._at(path).get(path, params, accept)

    @asynccontextmanager
    async def watch(
        self, path: str, params: Mapping[str, str], accept: str = JSON, **options: Any
    ) -> AsyncIterator[AsyncIterator[Told]]:
        self.forms.add(("watch", path, accept))
        async with self._at(path).watch(path, params, accept, **options) as events:
            yield events

    def _at(self, path: str) -> Collection:
        return {POLICIES: self.policies, NAMESPACES: self.namespaces}[path]


@asynccontextmanager
async def running(cluster: Cluster, mode: Mode = Mode.OPTIONAL) -> AsyncIterator[Book]:
    book = Book()
    port: Rulebook = book
    statuses = PolicyStatuses(cluster, dict, lambda: False)
    rules = AccessRules(cluster, port, statuses, mode, jitter=lambda _low, high: high)
    task = asyncio.ensure_future(rules.run())
    try:
        await asyncio.sleep(0.1)
        yield book
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


async def settled() -> None:
    await asyncio.sleep(0.1)


async def test_both_are_told_whole_before_both_can_be_heard() -> None:
    cluster = Cluster()
    cluster.policy("a")
    cluster.policy("odd", {"jobs": 1})
    cluster.namespace("team-a", team="a")
    cluster.namespace("bare")
    async with running(cluster) as book:
        first, *whole, last = book.news()
    odd = parse_policy("odd", {"jobs": 1})
    assert isinstance(odd, Unreadable)
    assert (first, last) == (("blind", 1_000), ("blind", None))
    assert ("policies", {"a": parse_policy("a", SPEC), "odd": odd}) in whole
    assert ("namespaces", {"bare": {}, "team-a": {"team": "a"}}) in whole
    assert len(whole) == 2
    assert cluster.forms == {
        ("list", POLICIES, JSON),
        ("watch", POLICIES, JSON),
        ("list", NAMESPACES, METADATA_LIST),
        ("watch", NAMESPACES, METADATA),
    }


async def test_a_policy_is_told_anew_when_it_says_something_else() -> None:
    cluster = Cluster()
    cluster.policy("a")
    async with running(cluster) as book:
        book.news()
        cluster.policies.tell("MODIFIED", cluster.policy("a") | {"status": {"jobs": 3}})
        await settled()
        assert book.news() == []
        cluster.policies.tell("MODIFIED", cluster.policy("a", OTHER, generation=2))
        cluster.policies.tell("ADDED", cluster.policy("b", OTHER))
        cluster.policies.tell("DELETED", cluster.policies.objects.pop("a"))
        cluster.policies.tell("ADDED", cluster.policy("a", OTHER, generation=2))
        await settled()
        a, b = parse_policy("a", OTHER), parse_policy("b", OTHER)
        assert book.news() == [("a", a), ("b", b), ("a", None), ("a", a)]


async def test_after_a_list_it_is_known_what_was_told() -> None:
    cluster = Cluster()
    cluster.policy("a")
    cluster.namespace("team-a", team="a")
    async with running(cluster) as book:
        await asyncio.sleep(2)
        cluster.policy("a", OTHER, generation=2)
        cluster.namespace("team-a", team="b")
        cluster.policies.end(GONE)
        cluster.namespaces.end(GONE)
        await settled()
        book.news()
        cluster.policies.tell("MODIFIED", cluster.policy("a", OTHER, generation=2))
        cluster.namespaces.tell("MODIFIED", cluster.namespace("team-a", team="b"))
        await settled()
        assert book.news() == []


async def test_what_is_being_deleted_is_in_force_until_it_is_gone() -> None:
    cluster = Cluster()
    cluster.policy("a")
    async with running(cluster) as book:
        book.news()
        body = cluster.policy("a", generation=2, deletionTimestamp="2026-11-25T22:00:00Z")
        cluster.policies.tell("MODIFIED", body)
        await settled()
        assert book.news() == [("a", parse_policy("a", SPEC))]
        cluster.policies.tell("DELETED", body)
        await settled()
        assert book.news() == [("a", None)]


async def test_a_namespace_is_told_anew_when_its_labels_differ() -> None:
    cluster = Cluster()
    cluster.namespace("team-a", team="a")
    async with running(cluster) as book:
        book.news()
        same = cluster.namespace("team-a", team="a")
        same["metadata"]["annotations"] = {"note": "new"}
        cluster.namespaces.tell("MODIFIED", same)
        await settled()
        assert book.news() == []
        cluster.namespaces.tell("MODIFIED", cluster.namespace("team-a", team="b"))
        cluster.namespaces.tell("MODIFIED", cluster.namespace("team-a"))
        cluster.namespaces.tell("DELETED", cluster.namespace("team-a"))
        cluster.namespaces.tell("ADDED", cluster.namespace("team-a"))
        await settled()
        assert book.news() == [("team-a", {"team": "b"}), ("team-a", {}), ("team-a", None), ("team-a", {})]


async def test_blind_is_who_does_not_hear_both_since_the_earlier_of_the_two() -> None:
    cluster = Cluster()
    async with running(cluster) as book:
        book.news()
        await asyncio.sleep(5)
        cluster.policies.tell("BOOKMARK", {"metadata": {"resourceVersion": "9"}})
        await asyncio.sleep(5)
        cluster.policies.trouble = cluster.namespaces.trouble = AWAY
        cluster.policies.end(AWAY)
        await settled()
        cluster.namespaces.end(AWAY)
        await asyncio.sleep(5)
        assert book.news() == [("blind", pytest.approx(1_005.1)), ("blind", pytest.approx(1_000, abs=0.1))]
        cluster.namespaces.trouble = None
        await asyncio.sleep(2)
        cluster.policies.trouble = None
        await asyncio.sleep(2)
        assert book.news() == [
            ("namespaces", {}),
            ("blind", pytest.approx(1_005.1)),
            ("policies", {}),
            ("blind", None),
        ]


# -- preflight --------------------------------------------------------------------------------------------------------

READY: dict[str, Any] = {"metadata": {"resourceVersion": "1"}, "items": []}


def rights(*lacking: tuple[str, str], policies: Reply = READY, namespaces: Reply = READY) -> Callable[..., Reply]:
    def script(_verb: str, path: str, sent: Mapping[str, Any]) -> Reply:
        if path in (POLICIES, NAMESPACES):
            return policies if path == POLICIES else namespaces
        asked = sent["spec"]["resourceAttributes"]
        assert asked["namespace"] == ""
        assert asked["group"] == ("" if asked["resource"] == "namespaces" else "awsbatch.dev")
        resource = "/".join(filter(None, (asked["resource"], asked["subresource"])))
        return {"status": {"allowed": (asked["verb"], resource) not in lacking}}

    return script


async def preflight(script: Callable[..., Reply], mode: Mode) -> None:
    client = ScriptedClient(script)
    await AccessRules(client, Book(), PolicyStatuses(client, dict, lambda: False), mode).preflight()


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("verb", ["list", "watch"])
@pytest.mark.parametrize(
    ("resource", "group"), [("batchaccesspolicies", "[awsbatch.dev]"), ("namespaces", '[""]')], ids=["bap", "ns"]
)
async def test_a_right_that_lacks_is_an_error_in_both_modes(mode: Mode, verb: str, resource: str, group: str) -> None:
    with pytest.raises(PreflightError) as raised:
        await preflight(rights((verb, resource)), mode)
    assert str(raised.value).startswith(
        f"Kubernetes forbids {verb} {resource} in the whole cluster: grant it by a ClusterRole to the operator's "
        f"service account (apiGroups: {group}), with --namespace too"
    )
    assert "\n" not in str(raised.value)


async def test_all_rights_that_lack_are_told_at_once() -> None:
    everything = [(verb, what) for what in ("batchaccesspolicies", "namespaces") for verb in ("list", "watch")]
    with pytest.raises(PreflightError, match=r'list b\w+, watch b\w+, list n\w+, watch n.*\[awsbatch.dev, ""\]'):
        await preflight(rights(*everything), Mode.OPTIONAL)


async def test_without_the_right_to_show_their_status_policies_hold_all_the_same() -> None:
    with capture_logs() as logs:
        await preflight(rights(("patch", "batchaccesspolicies/status")), Mode.REQUIRED)
    (warning,) = logs
    assert warning["log_level"] == "warning"
    assert "patch batchaccesspolicies/status in the whole cluster" in warning["error"]


async def test_who_has_all_is_taken_without_a_word() -> None:
    with capture_logs() as logs:
        await preflight(rights(), Mode.REQUIRED)
    assert logs == []


async def test_a_cluster_that_knows_no_policies_is_refused_where_they_are_required() -> None:
    remedy = r"kubectl apply -f crds/batchaccesspolicies\.awsbatch\.dev\.yaml"
    with pytest.raises(PreflightError, match=f"knows no BatchAccessPolicy: .*{remedy}"):
        await preflight(rights(policies=UNSERVED), Mode.REQUIRED)
    with capture_logs() as logs:
        await preflight(rights(policies=UNSERVED), Mode.OPTIONAL)
    assert [line["log_level"] for line in logs] == ["warning"]


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("what", ["policies", "namespaces"])
async def test_an_api_server_in_trouble_is_an_error(mode: Mode, what: str) -> None:
    with pytest.raises(PreflightError, match="HTTP 503"):
        await preflight(rights(**{what: ApiError(503, "away")}), mode)


async def test_what_the_preflight_saw_served_is_never_none_afterwards() -> None:
    cluster = Cluster()
    book = Book()
    rules = AccessRules(cluster, book, PolicyStatuses(cluster, dict, lambda: False), Mode.OPTIONAL)
    await rules._check_served()
    cluster.policies.trouble = UNSERVED
    task = asyncio.ensure_future(rules.run())
    await asyncio.sleep(20)
    task.cancel()
    assert book.news() == [("blind", 1_000), ("namespaces", {})]


@pytest.mark.parametrize(("mode", "told"), [(Mode.OPTIONAL, [("policies", {})]), (Mode.REQUIRED, [])])
async def test_a_cluster_that_never_knew_policies_has_none_where_they_are_optional(
    mode: Mode, told: list[object]
) -> None:
    cluster = Cluster()
    cluster.policies.trouble = UNSERVED
    async with running(cluster, mode) as book:
        await asyncio.sleep(20)
        assert [one for one in book.news() if isinstance(one, tuple) and one[0] == "policies"] == told
