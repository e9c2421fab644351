"""JobDetail to Job: every shape of job, and anything else that may stand in a body."""

import gc
import json
import math
from typing import Any

import pytest

from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.interfaces import DescribedJob
from awsbatch_operator.api.job import NOT_FOUND, Array, Job, Node
from awsbatch_operator.aws.answers import JobDetail
from awsbatch_operator.aws.decoding import decode
from awsbatch_operator.aws.job_detail import (
    FOREIGN,
    MAX_STATUSES,
    MAX_TAGS,
    NO_JOBS,
    UNREADABLE,
    job_of,
    parse_describe_jobs,
    tags_of,
)
from awsbatch_operator.aws.values import MAX_TEXT

ID = "61e743ed-35e4-48da-b2de-5c8333821c84"
HERE = "eu-west-1"
QUEUE = "arn:aws:batch:eu-west-1:123456789012:job-queue/main"
SECRET = "hunter2"


def detail(**given: Any) -> dict[str, Any]:
    """A JobDetail of a running container job, as real Batch answers it, empty lists included."""
    return {
        "jobId": ID,
        "jobName": "train",
        "jobArn": f"arn:aws:batch:eu-west-1:123456789012:job/{ID}",
        "jobQueue": QUEUE,
        "jobDefinition": "arn:aws:batch:eu-west-1:123456789012:job-definition/train:7",
        "status": "RUNNING",
        "createdAt": 1_700_000_000_123,
        "startedAt": 1_700_000_005_456,
        "attempts": [],
        "eksAttempts": [],
        "dependsOn": [],
        "container": {"logStreamName": "train/default/1"},
        **given,
    }


def decoded(body: dict[str, Any]) -> JobDetail:
    found = decode(json.dumps(body).encode(), JobDetail)
    assert found is not None
    return found


def job(**given: Any) -> Job:
    return job_of(decoded(detail(**given)))


def results(answer: Any, ids: list[str], region: str = HERE, account: str | None = None) -> Any:
    return parse_describe_jobs(json.dumps(answer).encode(), ids, region, account)


def ended(code: int | None, reason: str | None = None, log: str | None = None) -> dict[str, Any]:
    return {"exitCode": code, "reason": reason, "logStreamName": log}


def awslogs(driver: str | None = "awslogs", **options: str) -> dict[str, Any]:
    return {"logConfiguration": {"logDriver": driver, "options": options, "secretOptions": [{"name": SECRET}]}}


@pytest.mark.parametrize(
    ("configuration", "group"),
    [
        ({}, "/aws/batch/job"),
        ({"logConfiguration": None}, "/aws/batch/job"),
        (awslogs(**{"splunk-token": SECRET}), "/aws/batch/job"),
        (awslogs(**{"awslogs-group": "team-a", "awslogs-region": SECRET}), "team-a"),
        (awslogs(None, **{"awslogs-group": "team-a"}), "team-a"),
        (awslogs("splunk", **{"splunk-token": SECRET}), None),
    ],
)
def test_the_log_group_is_that_of_the_stream(configuration: dict[str, Any], group: str | None) -> None:
    running = job(container={"logStreamName": "s", **configuration})
    assert (running.log_stream_name, running.log_group_name) == ("s", group)
    assert job(container=configuration).log_group_name is None, "without a stream there is no log to find"
    several = job(container={}, ecsProperties=multi({**ended(0, log="s"), **configuration}))
    assert several.log_group_name == group
    later = job(status="FAILED", container=configuration, attempts=[{"container": ended(1, log="s")}])
    assert later.log_group_name == group, "attempts have no log configuration; that of the job holds for them"
    assert SECRET not in repr((running, decoded(detail(container=configuration))))


def test_a_running_job_is_mirrored_field_by_field() -> None:
    assert job() == Job(
        status="RUNNING",
        name="train",
        arn=f"arn:aws:batch:eu-west-1:123456789012:job/{ID}",
        queue=QUEUE,
        definition="arn:aws:batch:eu-west-1:123456789012:job-definition/train:7",
        created_at=1_700_000_000_123,
        started_at=1_700_000_005_456,
        log_stream_name="train/default/1",
        log_group_name="/aws/batch/job",
        attempts=0,
    )


def test_a_terminated_job_shows_reason_flag_exit_code_and_attempts() -> None:
    reason = 'INC-4711: "runaway"\ncost 💸'
    shown = job(
        status="FAILED",
        statusReason=reason,
        isTerminated=True,
        stoppedAt=1_700_000_009_000,
        container=ended(137, "OutOfMemoryError", "log/1"),
        attempts=[{"container": {}}, {"container": {}}],
    )
    assert (shown.status_reason, shown.is_terminated, shown.is_cancelled) == (reason, True, False)
    assert (shown.exit_code, shown.container_reason, shown.log_stream_name) == (137, "OutOfMemoryError", "log/1")
    assert (shown.attempts, shown.stopped_at) == (2, 1_700_000_009_000)


def test_a_job_ended_before_it_ran_has_no_start_and_no_exit_code() -> None:
    shown = job(status="FAILED", startedAt=None, stoppedAt=1_700_000_009_000, container={}, isCancelled=True)
    assert (shown.started_at, shown.exit_code, shown.is_cancelled, shown.attempts) == (None, None, True, 0)


def test_a_retried_job_that_waits_again_shows_its_last_attempt() -> None:
    attempts = [{"container": ended(1, log="a")}, {"container": ended(2, "why", "b")}]
    shown = job(status="RUNNABLE", container={}, attempts=attempts)
    assert (shown.exit_code, shown.container_reason, shown.log_stream_name, shown.attempts) == (2, "why", "b", 2)


def test_an_earlier_attempts_exit_code_never_stands_beside_the_log_of_the_present_one() -> None:
    shown = job(
        status="RUNNING", container={"logStreamName": "second"}, attempts=[{"container": ended(1, "x", "first")}]
    )
    assert (shown.exit_code, shown.container_reason, shown.log_stream_name) == (None, None, "second")


def test_a_finished_job_takes_from_its_last_attempt_what_its_container_lacks() -> None:
    shown = job(
        status="FAILED", container={"logStreamName": "log"}, attempts=[{"container": ended(9, "killed", "log")}]
    )
    assert (shown.exit_code, shown.container_reason, shown.log_stream_name) == (9, "killed", "log")


def multi(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"taskProperties": [{"containers": list(containers)}]}


def test_the_first_failed_container_explains_a_failed_job() -> None:
    shown = job(
        status="FAILED", container={}, ecsProperties=multi(ended(0), ended(3, "bad", "b"), ended(137, "killed"))
    )
    assert (shown.exit_code, shown.container_reason, shown.log_stream_name) == (3, "bad", "b")


def test_a_sidecar_killed_at_the_end_does_not_spoil_a_good_job() -> None:
    shown = job(status="SUCCEEDED", container={}, ecsProperties=multi(ended(143, log="side"), ended(0, log="main")))
    assert (shown.exit_code, shown.log_stream_name) == (0, "main")


def test_the_containers_of_the_last_attempts_task_count_when_nothing_nearer_tells() -> None:
    shown = job(status="RUNNABLE", container={}, attempts=[multi(ended(1)), multi(ended(5, "r", "l"))])
    assert (shown.exit_code, shown.container_reason, shown.log_stream_name, shown.attempts) == (5, "r", "l", 2)


def test_a_container_with_only_a_reason_is_shown_before_one_with_nothing() -> None:
    shown = job(status="FAILED", container={}, ecsProperties=multi({}, {"reason": "CannotPullContainerError"}))
    assert (shown.exit_code, shown.container_reason) == (None, "CannotPullContainerError")


def test_the_first_running_container_with_a_log_is_shown() -> None:
    assert job(container={}, ecsProperties=multi({}, ended(None, log="b"), ended(None, log="c"))).log_stream_name == "b"


def test_an_eks_job_shows_its_pods_containers() -> None:
    pod = {"podProperties": {"containers": [{"name": "a"}, {"name": "b", **ended(2, "Error")}], "podName": "p"}}
    shown = job(status="FAILED", container=None, eksProperties=pod, eksAttempts=[{"containers": []}] * 3)
    assert (shown.exit_code, shown.container_reason, shown.log_stream_name, shown.attempts) == (2, "Error", None, 3)


def test_an_eks_job_falls_back_to_its_last_attempt() -> None:
    attempts = [{"containers": [ended(1, "first")]}, {"containers": [ended(4, "second")]}]
    shown = job(status="RUNNABLE", container=None, eksProperties={"podProperties": {}}, eksAttempts=attempts)
    assert (shown.exit_code, shown.container_reason, shown.attempts) == (4, "second", 2)


def test_an_array_parent_shows_its_size_and_its_children_by_status() -> None:
    summary = {"SUCCEEDED": 1, "RUNNING": 2, "PENDING": 0}
    shown = job(status="PENDING", arrayProperties={"size": 3, "statusSummary": summary})
    assert shown.array == Array(size=3, status_summary={"PENDING": 0, "RUNNING": 2, "SUCCEEDED": 1})
    assert shown.running


def test_known_child_statuses_stay_if_there_are_too_many() -> None:
    summary = {f"ODD-{n}": 1 for n in range(10_000)} | {"RUNNING": 2, "SUCCEEDED": 3, "X" * 65: 4}
    shown = job(status="PENDING", arrayProperties={"statusSummary": summary}).array
    assert shown is not None
    assert len(shown.status_summary) == MAX_STATUSES
    assert (shown.count("RUNNING"), shown.count("SUCCEEDED"), shown.count("ODD-0")) == (2, 3, 1)


def test_an_array_child_shows_its_index_and_no_summary() -> None:
    assert job(arrayProperties={"index": 0, "statusSummary": {}}).array == Array(index=0)


def test_a_multi_node_job_shows_how_many_nodes_it_has() -> None:
    assert job(nodeProperties={"numNodes": 4, "mainNode": 0}).node == Node(num_nodes=4)


def test_a_node_shows_its_index_and_whether_it_is_the_main_one() -> None:
    assert job(nodeDetails={"nodeIndex": 1, "isMainNode": False}).node == Node(index=1, main=False)


@pytest.mark.parametrize("empty", [None, {}, [], "x", 3])
def test_a_plain_job_is_neither_array_nor_node(empty: Any) -> None:
    shown = job(arrayProperties=empty, nodeProperties=empty, nodeDetails=empty)
    assert (shown.array, shown.node) == (None, None)


def test_an_unknown_status_is_kept_as_it_is() -> None:
    assert job(status="HIBERNATING").status == "HIBERNATING"


@pytest.mark.parametrize("status", [None, "", 7, ["RUNNING"]])
def test_a_job_without_a_readable_status_counts_as_alive(status: Any) -> None:
    assert job(status=status).status == "UNKNOWN"
    assert not job(status=status).finished


@pytest.mark.parametrize("flag", [None, "true", 1, 0, [], False])
def test_a_flag_holds_only_when_it_is_true(flag: Any) -> None:
    assert not job(isTerminated=flag, isCancelled=flag).flagged


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        *((0, 0), (137, 137), (137.0, 137), (-(2**63), -(2**63))),
        *((rubbish, None) for rubbish in (True, "1", math.nan, math.inf, 2**63, 1e300, 10**400, None)),
    ],
)
def test_an_exit_code_is_an_int64_or_nothing(raw: Any, read: int | None) -> None:
    assert job(container={"exitCode": raw}).exit_code == read


@pytest.mark.parametrize("moment", [0, -1, 253_402_300_800_000, 1e30, "2024", True])
def test_a_moment_that_rfc_3339_cannot_write_is_left_out(moment: Any) -> None:
    shown = job(createdAt=moment, startedAt=moment, stoppedAt=moment)
    assert (shown.created_at, shown.started_at, shown.stopped_at) == (None, None, None)


def test_the_last_millisecond_that_can_be_written_is_kept() -> None:
    assert job(stoppedAt=253_402_300_799_999).stopped_at == 253_402_300_799_999


def test_a_reason_of_1024_characters_stays_whole_and_a_longer_text_is_cut_to_that() -> None:
    whole = "ü" * 1024
    assert job(statusReason=whole).status_reason == whole
    assert job(statusReason=whole + "x").status_reason == "ü" * 1023 + "…"


def test_half_a_surrogate_pair_does_not_pass() -> None:
    shown = job(statusReason="a\ud83db").status_reason
    assert shown is not None
    assert shown == "a\ufffdb"


def test_equal_texts_of_many_jobs_are_kept_once() -> None:
    first, second = (job() for _ in range(2))
    assert first.queue is second.queue
    assert first.definition is second.definition
    assert first.status is second.status


def test_a_job_keeps_nothing_of_the_body_alive() -> None:
    body = detail(container={"environment": [{"name": "A", "value": SECRET}]}, tags={"a": "b"})
    shown = job_of(decoded(body))
    assert not any(isinstance(each, (dict, list)) for each in gc.get_referents(shown))


SECRETS: dict[str, Any] = {
    "parameters": {"password": SECRET},
    "tags": {"token": SECRET},
    "container": {
        "environment": [{"name": "PASSWORD", "value": SECRET}],
        "command": ["login", SECRET],
        "secrets": [{"name": "S", "valueFrom": SECRET}],
        "volumes": [{"name": SECRET, "host": {"sourcePath": SECRET}}],
        "mountPoints": [{"containerPath": SECRET}],
        "logConfiguration": {"options": {"splunk-token": SECRET}, "secretOptions": [{"valueFrom": SECRET}]},
        "repositoryCredentials": {"credentialsParameter": SECRET},
        "image": SECRET,
        "user": SECRET,
        "jobRoleArn": SECRET,
        **ended(1, "reason", "log"),
    },
    "ecsProperties": {
        "taskProperties": [
            {"volumes": [{"name": SECRET}], "containers": [{"environment": [{"value": SECRET}], "command": [SECRET]}]}
        ]
    },
    "eksProperties": {
        "podProperties": {
            "containers": [{"env": [{"name": "P", "value": SECRET}], "args": [SECRET], "command": [SECRET]}],
            "initContainers": [{"env": [{"value": SECRET}]}],
            "volumes": [{"secret": {"secretName": SECRET}}],
            "metadata": {"annotations": {"a": SECRET}, "labels": {"l": SECRET}},
        }
    },
    "nodeProperties": {
        "numNodes": 2,
        "nodeRangeProperties": [{"container": {"environment": [{"value": SECRET}], "command": [SECRET]}}],
    },
    "retryStrategy": {"evaluateOnExit": [{"onReason": SECRET}]},
    "somethingNew": SECRET,
}


def test_no_secret_of_any_kind_leaves_with_the_job() -> None:
    body = detail(**SECRETS)
    assert json.dumps(body).count(SECRET) > 20
    assert SECRET not in repr(job_of(decoded(body)))
    assert SECRET not in repr(results({"jobs": [body]}, [ID], HERE))


def described(shown: Job) -> DescribedJob:
    return DescribedJob(shown, {}, first_started_at=shown.started_at)


@pytest.mark.parametrize(
    ("given", "start"),
    [
        ({"startedAt": None}, None),
        ({"startedAt": 5}, 5),
        ({"startedAt": 7, "attempts": [{"startedAt": 6}, {"startedAt": 5}]}, 5),
        ({"startedAt": None, "attempts": [{"startedAt": 0}, None, {"startedAt": 6}]}, 6),
        ({"startedAt": None, "eksAttempts": [{"startedAt": 6}]}, 6),
        ({"startedAt": 3, "attempts": [{"startedAt": "soon"}]}, 3),
    ],
)
def test_the_first_start_is_that_of_the_earliest_attempt(given: dict[str, Any], start: int | None) -> None:
    found = results({"jobs": [detail(**given)]}, [ID], HERE)[ID]
    assert isinstance(found, DescribedJob)
    assert found.first_started_at == start


@pytest.mark.parametrize(("given", "depends"), [(None, False), ([], False), ([{"jobId": "other"}], True), ("x", False)])
def test_a_job_with_dependencies_is_known_as_one(given: Any, depends: bool) -> None:
    found = results({"jobs": [detail(dependsOn=given)]}, [ID], HERE)[ID]
    assert isinstance(found, DescribedJob)
    assert found.has_dependencies is depends


def test_answers_are_matched_by_id_whatever_their_order() -> None:
    ids = [f"{ID}:{index}" for index in range(5)]
    bodies = [detail(jobId=job_id, jobName=job_id) for job_id in reversed(ids)]
    found = results({"jobs": bodies}, ids, HERE)
    assert found == {job_id: described(job().replace(name=job_id)) for job_id in ids}


def test_only_a_full_answer_that_lacks_the_job_means_absent() -> None:
    assert results({"jobs": []}, [ID], HERE) == {ID: NOT_FOUND}


@pytest.mark.parametrize("answer", [{}, {"jobs": None}, {"jobs": {}}, {"jobs": "x"}, {"message": "cut"}])
def test_an_answer_without_a_list_of_jobs_is_no_answer(answer: dict[str, Any]) -> None:
    assert results(answer, [ID], HERE) == NO_JOBS


@pytest.mark.parametrize("entry", [None, 3, "x", [], {}, {"jobId": None}, {"jobId": 5, "status": "RUNNING"}])
def test_an_unreadable_entry_may_be_the_job_that_seems_absent(entry: Any) -> None:
    assert results({"jobs": [entry, detail()]}, [ID, "other"], HERE) == {
        ID: described(job()),
        "other": UNREADABLE,
    }


def test_jobs_that_nobody_asked_for_are_dropped() -> None:
    assert results({"jobs": [detail(), detail(jobId="other")]}, [ID], HERE) == {ID: described(job())}


THEIRS = "222222222222"
ARNS = [
    (f"arn:aws:batch:eu-west-1:{THEIRS}:job/{ID}", THEIRS, False),
    (f"arn:aws:batch:eu-west-1:{THEIRS}:job/{ID}", None, False),
    (f"arn:aws:batch:eu-west-1:123456789012:job/{ID}", THEIRS, True),
    (f"arn:aws:batch:us-east-1:{THEIRS}:job/{ID}", THEIRS, True),
    (f"arn:aws:batch:us-east-1:{THEIRS}:job/{ID}", None, True),
    (f"arn:aws-cn:batch:eu-west-1:{THEIRS}:job/{ID}", THEIRS, False),
    ("nonsense", THEIRS, False),
    (None, THEIRS, False),
    ({"a": 1}, None, False),
]


@pytest.mark.parametrize(("arn", "account", "foreign"), ARNS)
def test_a_job_of_another_account_or_region_is_no_answer(arn: Any, account: str | None, foreign: bool) -> None:
    found = results({"jobs": [detail(jobArn=arn)]}, [ID], HERE, account)
    assert (found == {ID: FOREIGN}) is foreign


TAGS: list[tuple[Any, Any]] = [
    ({"team": "a"}, {"team": "a"}),
    ({}, {}),
    (None, {}),
    ([], None),
    ("", None),
    (0, None),
    ([["team", "a"]], None),
    ({"team": None}, None),
    ({"team": 1}, None),
    ({"team": "a", "x": {"team": "a"}}, None),
    ({"team": "x" * (MAX_TEXT + 1)}, None),
    ({"k" * (MAX_TEXT + 1): "a"}, None),
    ({f"k{n}": "" for n in range(MAX_TAGS + 1)}, None),
    ({"team": "\ud83d"}, {"team": "\ufffd"}),
]


@pytest.mark.parametrize(("tags", "expected"), TAGS)
def test_tags_are_a_map_of_texts_or_cannot_be_read(tags: Any, expected: Any) -> None:
    assert tags_of(decoded({"tags": tags})) == expected


def test_a_job_without_tags_has_none() -> None:
    assert tags_of(decoded({})) == {}


def test_jobs_share_what_their_tags_have_in_common() -> None:
    one, other = (tags_of(decoded({"tags": {"the-team": "team-a-b", "x": name}})) for name in "ab")
    assert one is not None
    assert other is not None
    assert [id(part) for tag in list(one.items())[:1] for part in tag] == [
        id(part) for tag in list(other.items())[:1] for part in tag
    ]


LAST = detail(jobId="last")


@pytest.mark.parametrize(
    "item",
    [
        b'{"jobId":"x","container":{"environment":[{"name":"A","value":"\\ud83d"}]}}',
        b'{"jobId":"x","statusReason":"\xed\xa0\xbd"}',
        b'{"jobId":"x","createdAt":NaN,"startedAt":-Infinity,"stoppedAt":' + b"1" * 10_000 + b"}",
        b'{"jobId":"x","tags":{"a":"\xff"},"attempts":7,"status":["RUNNING"]}',
    ],
    ids=["half a surrogate where nothing is decoded", "not UTF-8", "numbers that are none", "wrong types"],
)
def test_a_malformed_job_does_not_affect_other_jobs(item: bytes) -> None:
    body = b'{"jobs":[' + item + b"," + json.dumps(LAST).encode() + b"]}"
    found = parse_describe_jobs(body, ["x", "last"], HERE)
    assert not isinstance(found, CallError)
    assert isinstance(found["x"], DescribedJob)
    assert found["last"] == described(job())


def test_a_surrogate_pair_and_an_escaped_backslash_are_kept_when_a_body_is_repaired() -> None:
    text = "\\ud83d \\n \ud83d\udca9 \\\\ NaN"
    body = b'{"jobs":[{"jobId":"x","jobName":"\\ud83d","statusReason":' + json.dumps(text).encode() + b"}]}"
    found = parse_describe_jobs(body, ["x"], HERE)
    assert found == {
        "x": DescribedJob(Job("UNKNOWN", text.encode("utf-16", "surrogatepass").decode("utf-16"), name="\ufffd"), {})
    }


def test_an_id_that_is_not_utf_8_may_be_the_job_that_seems_absent() -> None:
    assert parse_describe_jobs(b'{"jobs":[{"jobId":"\xff"}]}', [ID], HERE) == {ID: UNREADABLE}
