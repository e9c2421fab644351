"""The JobDetails of seeded jobs of every kind."""

import pytest

from unit.sandbox.batch_wire_calls import START, Wire

NOW = int(START * 1000)


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_flags_start_and_end_are_absent_unless_they_apply(wire: Wire) -> None:
    detail = wire.describe(wire.batch.seed(status="RUNNABLE"))
    for key in ("isTerminated", "isCancelled", "startedAt", "stoppedAt", "statusReason"):
        assert key not in detail


def test_a_running_job_has_a_start_a_log_stream_and_no_exit_code(wire: Wire) -> None:
    detail = wire.describe(wire.batch.seed(definition="train:7"))
    assert (detail["startedAt"], detail["createdAt"]) == (NOW, NOW)
    assert detail["container"]["logStreamName"].startswith("train/default/")
    assert "exitCode" not in detail["container"]


def test_a_finished_job_has_its_end_its_exit_code_and_one_attempt(wire: Wire) -> None:
    detail = wire.describe(
        wire.batch.seed(status="FAILED", exit_code=3, started_at=1000, stopped_at=NOW, past_attempts=1)
    )
    assert (detail["createdAt"], detail["startedAt"], detail["stoppedAt"]) == (1000, 1000, NOW)
    assert [one["container"]["exitCode"] for one in detail["attempts"]] == [1, 3]
    assert detail["statusReason"] == "Essential container in task exited"


def test_a_job_that_was_terminated_before_it_ran_has_no_start_and_no_attempt(wire: Wire) -> None:
    detail = wire.describe(wire.batch.seed(status="FAILED", is_cancelled=True, status_reason="by hand"))
    assert (detail["statusReason"], detail["attempts"], detail["isCancelled"]) == ("by hand", [], True)
    assert "startedAt" not in detail


def test_the_simulator_returns_secrets_in_clear_text(wire: Wire) -> None:
    given = {"environment": {"TOKEN": "t0p"}, "secrets": {"KEY": "arn:aws:secret"}, "command": ["run", "--key=1"]}
    detail = wire.describe(wire.batch.seed(**given, parameters={"input": "s3://private"}, tags={"team": "a"}))
    assert detail["container"]["environment"] == [{"name": "TOKEN", "value": "t0p"}]
    assert detail["container"]["secrets"] == [{"name": "KEY", "valueFrom": "arn:aws:secret"}]
    assert detail["container"]["command"] == ["run", "--key=1"]
    assert (detail["parameters"], detail["tags"]) == ({"input": "s3://private"}, {"team": "a"})


def test_an_array_parent_is_pending_with_a_summary_and_its_children_have_an_index(wire: Wire) -> None:
    parent = wire.batch.seed(children=["RUNNING", "SUCCEEDED"], tags={"team": "a"})
    detail = wire.describe(parent)
    assert (detail["status"], detail["arrayProperties"]["size"]) == ("PENDING", 2)
    assert detail["arrayProperties"]["statusSummary"]["RUNNING"] == 1
    assert "startedAt" not in detail
    assert "exitCode" not in detail["container"]
    child = wire.describe(f"{parent}:1")
    assert child["arrayProperties"] == {"statusSummary": {}, "index": 1}
    assert (child["status"], child["tags"], child["jobArn"][-2:]) == ("SUCCEEDED", {}, ":1")


def test_the_summary_of_an_array_follows_each_child(wire: Wire) -> None:
    parent = wire.batch.seed(array_size=3, status="RUNNABLE")
    assert wire.describe(parent)["arrayProperties"]["statusSummary"]["RUNNABLE"] == 3
    wire.batch.move(f"{parent}:1", "RUNNING")
    summary = wire.describe(parent)["arrayProperties"]["statusSummary"]
    assert (summary["RUNNABLE"], summary["RUNNING"]) == (2, 1)


@pytest.mark.parametrize(
    ("children", "status", "reason"),
    [(["SUCCEEDED", "SUCCEEDED"], "SUCCEEDED", None), (["FAILED", "SUCCEEDED"], "FAILED", "Array Child Job failed")],
)
def test_a_finished_array_is_judged_by_its_children(
    wire: Wire, children: list[str], status: str, reason: str | None
) -> None:
    detail = wire.describe(wire.batch.seed(children=children))
    assert (detail["status"], detail.get("statusReason"), detail["stoppedAt"]) == (status, reason, NOW)


def test_a_multi_node_job_names_its_nodes_and_a_node_its_place(wire: Wire) -> None:
    job_id = wire.batch.seed(num_nodes=2, main_node=1)
    assert wire.describe(job_id)["nodeProperties"]["numNodes"] == 2
    assert wire.describe(f"{job_id}#0")["nodeDetails"] == {"nodeIndex": 0, "isMainNode": False}
    assert wire.describe(f"{job_id}#1")["nodeDetails"] == {"nodeIndex": 1, "isMainNode": True}


def test_an_eks_job_shows_its_end_in_pod_and_eks_attempts(wire: Wire) -> None:
    detail = wire.describe(wire.batch.seed(kind="eks", status="FAILED", exit_code=2, container_reason="OOMKilled"))
    assert (detail["attempts"], "container" in detail) == ([], False)
    assert detail["eksProperties"]["podProperties"]["containers"][0]["exitCode"] == 2
    assert detail["eksAttempts"][0]["containers"] == [{"name": "default", "exitCode": 2, "reason": "OOMKilled"}]


def test_a_job_of_several_containers_shows_its_end_by_task(wire: Wire) -> None:
    detail = wire.describe(wire.batch.seed(kind="ecs-multi", status="FAILED", exit_code=2))
    assert detail["container"] == {}
    assert detail["ecsProperties"]["taskProperties"][0]["containers"][0]["exitCode"] == 2
    assert detail["attempts"][0]["taskProperties"][0]["containers"][0]["exitCode"] == 2


def test_many_jobs_differ_by_id_and_name(wire: Wire) -> None:
    job_ids = wire.batch.seed_many(3, name="load", status="RUNNABLE")
    assert {detail["jobName"] for detail in wire.shown(*job_ids)} == {"load-0", "load-1", "load-2"}
    assert len(wire.batch.jobs()) == 3


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"colour": "red"}, "'colour' is not a field of a job"),
        ({"status": "DONE"}, "status must be one of"),
        ({"kind": "service"}, "kind must be one of"),
        ({"array_size": 1}, "array_size must be 2..10000, got 1"),
        ({"children": ["RUNNING", "LOST"]}, "children must be statuses"),
        ({"children": ["RUNNING", "RUNNING"], "array_size": 3}, "children has 2 statuses but array_size is 3"),
        ({"num_nodes": 2, "main_node": 2}, "main_node must be below num_nodes"),
    ],
)
def test_a_seed_that_cannot_be_names_its_field(wire: Wire, job: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wire.batch.seed(**job)


def test_an_id_can_be_seeded_once_only(wire: Wire) -> None:
    job_id = wire.batch.seed(job_id="mine")
    with pytest.raises(ValueError, match="job_id mine exists already"):
        wire.batch.seed(job_id=job_id)


def test_the_inside_of_a_job_can_be_seen_without_a_call(wire: Wire) -> None:
    parent = wire.batch.seed(array_size=2)
    assert wire.batch.job(parent)["children"] == [f"{parent}:0", f"{parent}:1"]
    assert wire.batch.job(f"{parent}:0")["parent"] == parent
    assert wire.batch.calls() == []
