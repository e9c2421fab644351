import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.api.batchjob import ObjectRef, Phase, Status
from awsbatch_operator.api.decoding import Snapshot
from awsbatch_operator.api.events import Event, EventReason
from awsbatch_operator.api.interfaces import BatchJobClient, Conflict, Gone, ListError, NotWritten, Written
from awsbatch_operator.api.job import Job
from awsbatch_operator.api.names import FINALIZER
from awsbatch_operator.kube.batchjobs import KubeBatchJobClient, PreflightError
from awsbatch_operator.kube.client import ApiError
from awsbatch_operator.kube.events import EventPoster
from unit.kube.scripted_client import Reply, Script, ScriptedClient, not_found

REF = ObjectRef("team-a", "train-42", "u-1")
ALL = "/apis/awsbatch.dev/v1alpha1/batchjobs"
PATH = "/apis/awsbatch.dev/v1alpha1/namespaces/team-a/batchjobs/train-42"
WANTED = Status(1, Phase.RUNNING, job=Job("RUNNING"))
SHOWN: dict[str, object] = {"observedGeneration": 1, "phase": "Running", "jobStatus": "STARTING", "isTerminated": False}


def body(uid: str = "u-1", **status: Any) -> dict[str, Any]:
    metadata = {"namespace": "team-a", "name": "train-42", "uid": uid, "resourceVersion": "8"}
    return {"metadata": metadata, "spec": {"jobId": "j"}, "status": status}


def always(reply: Reply) -> Script:
    return lambda _verb, _path, _sent: reply


def objects(script: Script, *namespaces: str) -> tuple[KubeBatchJobClient, ScriptedClient]:
    client = ScriptedClient(script)
    return KubeBatchJobClient(client, EventPoster(client, "pod-1"), namespaces), client


async def written(reply: Reply) -> Written | Conflict | Gone | NotWritten:
    return await objects(always(reply))[0].write_status(REF, {"phase": "Running"}, "7")


def test_it_implements_the_interface() -> None:
    interface: BatchJobClient = objects(always({}))[0]
    assert interface.change(WANTED, SHOWN) == {"jobStatus": "RUNNING", "isCancelled": False}
    assert interface.change(WANTED, Status(1, Phase.RUNNING, job=Job("STARTING"))) == {"jobStatus": "RUNNING"}
    assert not interface.change(WANTED, WANTED)
    assert not interface.change(Status(), {})


async def test_a_write_sends_the_difference_for_the_reconciled_version() -> None:
    jobs, client = objects(always(body(phase="Running")))
    assert await jobs.write_status(REF, jobs.change(WANTED, SHOWN), "7") == Written("8", {"phase": "Running"})
    guarded = {"metadata": {"resourceVersion": "7"}, "status": {"jobStatus": "RUNNING", "isCancelled": False}}
    assert client.calls == [("patch", f"{PATH}/status", guarded)]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ApiError(409, "stale"), Conflict()),
        (not_found("train-42"), Gone()),
        (ApiError(422, "status.phase: Unsupported value"), NotWritten("status.phase: Unsupported value", refused=True)),
        (ApiError(400, "denied by a webhook"), NotWritten("denied by a webhook", refused=True)),
        (ApiError(403, "forbidden"), NotWritten("forbidden", refused=True)),
        (ApiError(413, "too large"), NotWritten("too large", refused=True)),
        (not_found(), NotWritten("not found", refused=False)),
        (ApiError(401, "expired"), NotWritten("expired", refused=False)),
        (ApiError(408, "timeout"), NotWritten("timeout", refused=False)),
        (ApiError(429, "slow down"), NotWritten("slow down", refused=False)),
        (ApiError(503, "away"), NotWritten("away", refused=False)),
        (ApiError(0, "can't be reached"), NotWritten("can't be reached", refused=False)),
    ],
)
async def test_each_refusal_of_a_write_has_its_outcome(error: ApiError, outcome: object) -> None:
    assert await written(error) == outcome


@pytest.mark.looptime(start=0)
async def test_a_write_that_hangs_fails_after_ten_seconds_and_is_not_a_refusal() -> None:
    client = ScriptedClient(always({}), latency=3_600)
    jobs = KubeBatchJobClient(client, EventPoster(client, "pod-1"))
    outcome = await jobs.write_status(REF, {"phase": "Running"}, "7")
    assert outcome == NotWritten("the Kubernetes API did not answer within 10 s", refused=False)
    assert asyncio.get_running_loop().time() == pytest.approx(10)


async def test_a_read_gives_the_object_as_it_is_now() -> None:
    snapshot = await objects(always(body(phase="Failed")))[0].read(REF)
    assert isinstance(snapshot, Snapshot)
    assert (snapshot.ref, snapshot.resource_version, snapshot.status.phase) == (REF, "8", Phase.FAILED)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (not_found("train-42"), Gone()),
        (body(uid="u-2"), Gone()),
        (not_found(), NotWritten("not found", refused=False)),
        (ApiError(403, "forbidden"), NotWritten("forbidden", refused=True)),
        (ApiError(0, "away"), NotWritten("away", refused=False)),
    ],
)
async def test_a_read_distinguishes_gone_from_unreadable(reply: Reply, outcome: object) -> None:
    assert await objects(always(reply))[0].read(REF) == outcome


def page(*names: str, then: str = "") -> dict[str, Any]:
    items = [
        {"metadata": {"namespace": "n", "name": name, "uid": f"u-{name}", "resourceVersion": f"1-{name}"}}
        for name in names
    ]
    return {"metadata": {"continue": then, "resourceVersion": "9"}, "items": items}


async def listed(script: Script, *namespaces: str) -> tuple[list[str], ScriptedClient]:
    jobs, client = objects(script, *namespaces)
    found = [(ref.name, version) async for ref, version in jobs.versions()]
    assert all(version == f"1-{name}" for name, version in found)
    return [name for name, _ in found], client


TEST_VERSION = {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
OTHER = "example.com/other"


@pytest.mark.parametrize(
    ("finalizers", "add", "operations"),
    [
        ((), True, [{"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]}]),
        ((OTHER,), True, [{"op": "add", "path": "/metadata/finalizers/-", "value": FINALIZER}]),
        (
            (OTHER, FINALIZER),
            False,
            [
                {"op": "test", "path": "/metadata/finalizers/1", "value": FINALIZER},
                {"op": "remove", "path": "/metadata/finalizers/1"},
            ],
        ),
    ],
)
async def test_the_finalizer_is_written_by_a_json_patch_that_tests_what_it_rests_on(
    finalizers: tuple[str, ...], add: bool, operations: list[dict[str, Any]]
) -> None:
    answer = body()
    answer["metadata"]["finalizers"] = [OTHER]
    jobs, client = objects(always(answer))
    assert await jobs.write_finalizer(REF, finalizers, "7", add=add) == Written("8", {}, (OTHER,))
    assert client.calls == [("json patch", PATH, {"operations": [TEST_VERSION, *operations]})]


CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/batchjobs.awsbatch.dev"


@pytest.mark.parametrize(
    ("reply", "deleted"),
    [
        ({"metadata": {"name": "batchjobs.awsbatch.dev"}}, False),
        ({"metadata": {"name": "batchjobs.awsbatch.dev", "deletionTimestamp": "2026-11-30T13:00:00Z"}}, True),
        (not_found("batchjobs.awsbatch.dev"), True),
        (ApiError(403, "cannot get"), NotWritten("cannot get")),
        (ApiError(0, "away"), NotWritten("away")),
        ({}, NotWritten("the response of the Kubernetes API is not the CRD")),
    ],
)
async def test_only_the_crd_itself_says_that_it_is_not_being_deleted(reply: Reply, deleted: bool | NotWritten) -> None:
    jobs, client = objects(always(reply))
    assert await jobs.crd_deleted() == deleted
    assert client.calls == [("get", CRD_PATH, {})]


async def on_delete_preflight(script: Script) -> None:
    client = ScriptedClient(script)
    await KubeBatchJobClient(client, EventPoster(client, "pod-1"), on_delete=True).preflight()


async def test_on_delete_needs_to_patch_objects_and_to_read_the_crd() -> None:
    with pytest.raises(PreflightError, match="forbids patch batchjobs in the whole cluster"):
        await on_delete_preflight(cluster(frozenset({"patch/"})))

    def script(verb: str, path: str, sent: Mapping[str, Any]) -> Reply:
        return ApiError(403, "cannot get it") if path == CRD_PATH else cluster()(verb, path, sent)

    with pytest.raises(PreflightError, match=r"must read the CRD .*: cannot get it; grant get"):
        await on_delete_preflight(script)
    await objects(cluster(frozenset({"patch/"})))[0].preflight()


async def test_all_pages_are_listed() -> None:
    def script(_verb: str, _path: str, sent: Mapping[str, Any]) -> Reply:
        return page("b") if sent.get("continue") == "t1" else page("a", then="t1")

    names, client = await listed(script)
    assert names == ["a", "b"]
    assert client.calls == [("get", ALL, {"limit": "500"}), ("get", ALL, {"limit": "500", "continue": "t1"})]


async def test_each_watched_namespace_is_listed() -> None:
    names, client = await listed(always(page("a")), "n1", "n2")
    assert names == ["a", "a"]
    assert [path.split("/")[5] for _, path, _ in client.calls] == ["n1", "n2"]


async def test_after_an_expired_page_the_list_starts_again() -> None:
    expired = iter([True])

    def script(_verb: str, _path: str, sent: Mapping[str, Any]) -> Reply:
        if "continue" not in sent:
            return page("a", then="t1")
        return ApiError(410, "expired") if next(expired, False) else page("b")

    assert (await listed(script))[0] == ["a", "a", "b"]


@pytest.mark.parametrize("page", [{}, {"metadata": {"resourceVersion": "9"}}, {"metadata": {}, "items": []}])
async def test_an_answer_that_is_not_a_list_is_an_error(page: dict[str, Any]) -> None:
    with pytest.raises(ListError, match="not a list of batchjobs"):
        await listed(always(page))


@pytest.mark.parametrize(("error", "calls"), [(ApiError(410, "expired"), 2), (ApiError(503, "away"), 1)])
async def test_a_list_that_can_not_be_read_to_its_end_raises(error: ApiError, calls: int) -> None:
    jobs, client = objects(always(error))
    with pytest.raises(ListError, match=error.message):
        async for _ in jobs.versions():
            pass
    assert len(client.calls) == calls


def cluster(denied: frozenset[str] = frozenset(), lists: Reply | None = None) -> Script:
    """An API server on which the reviews deny these: `verb/subresource` of KubeBatchJobClient, `verb events`."""

    def script(verb: str, _path: str, sent: Mapping[str, Any]) -> Reply:
        if verb == "get":
            return lists or page()
        requested = sent["spec"]["resourceAttributes"]
        if requested["group"] == "events.k8s.io":
            return {"status": {"allowed": f"{requested['verb']} {requested['resource']}" not in denied}}
        return {"status": {"allowed": f"{requested['verb']}/{requested['subresource']}" not in denied}}

    return script


async def test_preflight_passes_on_a_complete_cluster() -> None:
    jobs, client = objects(cluster())
    await jobs.preflight()
    assert client.verbs.count("get") == 1


@pytest.mark.parametrize(
    ("script", "reported"),
    [
        (cluster(lists=ApiError(0, "the Kubernetes API at x can't be reached: refused")), "at x can't be reached"),
        (cluster(lists=ApiError(401, "Unauthorized")), "rejects the credentials"),
        (cluster(lists=not_found()), r"kubectl apply -f crds/batchjobs\.awsbatch\.dev\.yaml"),
        (cluster(lists=ApiError(500, "etcd")), "HTTP 500: etcd"),
        (cluster(lists=ApiError(403, "forbidden")), "HTTP 403: forbidden"),
        (
            cluster(frozenset({"list/", "patch/status"}), ApiError(403, "forbidden")),
            "forbids list batchjobs, patch batchjobs/status in namespace team-a: grant it by a Role",
        ),
        (cluster(frozenset({"watch/"})), "forbids watch batchjobs in namespace team-a"),
        (always(ApiError(0, "gone again")), "gone again"),
    ],
)
async def test_a_preflight_error_is_one_line(script: Script, reported: str) -> None:
    with pytest.raises(PreflightError, match=reported) as raised:
        await objects(script, "team-a")[0].preflight()
    assert "\n" not in str(raised.value)


async def test_a_permission_in_the_whole_cluster_needs_a_cluster_role() -> None:
    with pytest.raises(PreflightError, match="in the whole cluster: grant it by a ClusterRole"):
        await objects(cluster(frozenset({"get/"})))[0].preflight()


async def test_failed_access_reviews_are_reported() -> None:
    def script(verb: str, _path: str, _sent: Mapping[str, Any]) -> Reply:
        return page() if verb == "get" else ApiError(503, "away")

    with pytest.raises(PreflightError, match="HTTP 503: away"):
        await objects(script)[0].preflight()


async def test_forbidden_access_reviews_do_not_prevent_the_start() -> None:
    def script(verb: str, _path: str, _sent: Mapping[str, Any]) -> Reply:
        return page() if verb == "get" else ApiError(403, "selfsubjectaccessreviews is forbidden")

    await objects(script)[0].preflight()


async def test_forbidden_events_do_not_prevent_the_start() -> None:
    jobs, _ = objects(cluster(frozenset({"create events", "get events"})), "team-a")
    with capture_logs() as logs:
        await jobs.preflight()
    [line] = logs
    assert "forbids create events, get events in namespace team-a: grant it by a Role" in line["error"]
    assert "(apiGroups: [events.k8s.io])" in line["error"]


async def test_events_go_to_the_poster() -> None:
    client = ScriptedClient(always({}))
    async with EventPoster(client, "pod-1") as events:
        KubeBatchJobClient(client, events).post_event(REF, Event(EventReason.JOB_FAILED, "exit 1"))
    assert client.verbs == ["post"]
