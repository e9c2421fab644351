"""Tests the lifecycle of jobs in the simulated AWS Batch."""

import pytest

from unit.sandbox.batch_wire_calls import START, Wire, frozen

NOW = int(START * 1000)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.mark.parametrize("status", ["SUBMITTED", "PENDING", "RUNNABLE"])
def test_terminating_a_job_that_is_not_on_compute_fails_it_at_once(wire: Wire, status: str) -> None:
    job_id = wire.batch.seed(status=status)
    wire.terminate(job_id, "INC-4711")
    detail = wire.describe(job_id)
    assert detail["status"] == "FAILED"
    assert detail["statusReason"] == "INC-4711"
    assert detail["attempts"] == []
    assert detail["stoppedAt"] == NOW
    assert detail["isTerminated"] is True
    assert "startedAt" not in detail
    assert "exitCode" not in detail["container"]


def test_terminating_a_running_job_flags_it_and_fails_it_after_the_grace(wire: Wire) -> None:
    job_id = wire.batch.seed(grace=30)
    wire.terminate(job_id, "INC-4711")
    assert (wire.describe(job_id)["status"], wire.describe(job_id)["isTerminated"]) == ("RUNNING", True)
    assert "statusReason" not in wire.describe(job_id)
    wire.batch.advance(29.999)
    assert wire.describe(job_id)["status"] == "RUNNING"
    wire.batch.advance(0.001)
    detail = wire.describe(job_id)
    assert (detail["status"], detail["statusReason"]) == ("FAILED", "INC-4711")
    assert detail["container"]["exitCode"] == 137
    assert detail["attempts"][-1]["container"]["exitCode"] == 137
    assert detail["stoppedAt"] == NOW + 30_000


def test_the_end_has_its_own_time_even_if_it_is_read_late(wire: Wire) -> None:
    job_id = wire.batch.seed(grace=2)
    wire.terminate(job_id)
    wire.batch.advance(3600)
    assert wire.describe(job_id)["stoppedAt"] == NOW + 2000


@pytest.mark.parametrize("code", [143, 0])
def test_the_exit_code_of_a_termination_can_be_chosen(wire: Wire, code: int) -> None:
    job_id = wire.batch.seed(grace=1, exit_code_on_term=code)
    wire.terminate(job_id)
    wire.batch.advance(1)
    assert (wire.describe(job_id)["status"], wire.describe(job_id)["container"]["exitCode"]) == ("FAILED", code)


def test_a_job_killed_while_starting_ran_no_container(wire: Wire) -> None:
    job_id = wire.batch.seed(status="STARTING", grace=1)
    wire.terminate(job_id)
    wire.batch.advance(1)
    detail = wire.describe(job_id)
    assert (detail["status"], detail["attempts"], "exitCode" in detail["container"]) == ("FAILED", [], False)


def test_a_second_request_keeps_the_first_reason_and_grace(wire: Wire) -> None:
    job_id = wire.batch.seed(grace=10)
    wire.terminate(job_id, "first")
    wire.batch.advance(5)
    wire.terminate(job_id, "second")
    wire.batch.advance(5)
    assert (wire.describe(job_id)["status"], wire.describe(job_id)["statusReason"]) == ("FAILED", "first")


def test_a_stuck_job_is_flagged_and_never_ends(wire: Wire) -> None:
    job_id = wire.batch.seed(stuck=True)
    wire.terminate(job_id)
    wire.batch.advance(86_400)
    assert (wire.describe(job_id)["status"], wire.describe(job_id)["isTerminated"]) == ("RUNNING", True)


def test_a_job_that_ignores_termination_accepts_it_and_shows_nothing(wire: Wire) -> None:
    job_id = wire.batch.seed(ignores_terminate=True)
    wire.terminate(job_id)
    wire.terminate(job_id)
    assert "isTerminated" not in wire.describe(job_id)
    assert len(wire.batch.terminate_requests()) == 2


def test_only_the_first_requests_are_lost_if_configured(wire: Wire) -> None:
    job_id = wire.batch.seed(ignore_terminates=1)
    wire.terminate(job_id)
    assert "isTerminated" not in wire.describe(job_id)
    wire.terminate(job_id)
    assert wire.describe(job_id)["isTerminated"] is True


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_terminating_a_finished_job_changes_nothing(wire: Wire, status: str) -> None:
    job_id = wire.batch.seed(status=status)
    before = wire.describe(job_id)
    wire.terminate(job_id)
    assert wire.describe(job_id) == before
    assert wire.batch.calls("TerminateJob")[0]["effective"] == []


def test_terminating_an_unknown_or_garbage_id_succeeds(wire: Wire) -> None:
    wire.terminate("61e743ed-35e4-48da-b2de-5c8333821c84")
    wire.terminate("no job at all!")
    assert wire.batch.calls("TerminateJob")[0]["http_status"] == 200


def test_a_pending_job_is_flagged_and_held_until_all_its_dependencies_end(wire: Wire) -> None:
    first, second = wire.batch.seed(), wire.batch.seed()
    job_id = wire.batch.seed(status="PENDING", depends_on=[first, second])
    wire.terminate(job_id, "INC-4711")
    wire.batch.move(first, "SUCCEEDED")
    assert (wire.describe(job_id)["status"], wire.describe(job_id)["isTerminated"]) == ("PENDING", True)
    wire.batch.move(second, "SUCCEEDED")
    assert (wire.describe(job_id)["status"], wire.describe(job_id)["statusReason"]) == ("FAILED", "INC-4711")


def test_a_pending_job_goes_on_when_its_dependencies_succeed_and_fails_when_one_failed(wire: Wire) -> None:
    good, bad = wire.batch.seed(), wire.batch.seed()
    goes_on = wire.batch.seed(status="PENDING", depends_on=[good])
    fails = wire.batch.seed(status="PENDING", depends_on=[good, bad])
    wire.batch.move(good, "SUCCEEDED")
    wire.batch.move(bad, "FAILED")
    assert wire.describe(goes_on)["status"] == "RUNNABLE"
    assert (wire.describe(fails)["status"], wire.describe(fails)["statusReason"]) == ("FAILED", "Dependent Job failed")


def test_the_flag_of_a_job_that_has_not_started_can_be_chosen() -> None:
    wire = Wire(frozen(early_flag="isCancelled"))
    early, running = wire.batch.seed(status="RUNNABLE"), wire.batch.seed()
    wire.terminate(early)
    wire.terminate(running)
    assert (wire.describe(early).get("isCancelled"), wire.describe(early).get("isTerminated")) == (True, None)
    assert (wire.describe(running).get("isCancelled"), wire.describe(running).get("isTerminated")) == (None, True)


@pytest.mark.parametrize("status", ["STARTING", "RUNNING"])
def test_cancelling_a_job_on_compute_has_no_effect(wire: Wire, status: str) -> None:
    job_id = wire.batch.seed(status=status)
    before = wire.describe(job_id)
    wire.cancel(job_id)
    assert wire.describe(job_id) == before


def test_cancelling_a_runnable_job_fails_it_with_the_reason(wire: Wire) -> None:
    job_id = wire.batch.seed(status="RUNNABLE")
    wire.cancel(job_id, "not needed")
    detail = wire.describe(job_id)
    assert (detail["status"], detail["statusReason"], detail["isCancelled"]) == ("FAILED", "not needed", True)


def test_a_natural_end_inside_the_grace_wins_over_the_termination(wire: Wire) -> None:
    job_id = wire.batch.seed(grace=10, run_for=5)
    wire.terminate(job_id)
    wire.batch.advance(60)
    detail = wire.describe(job_id)
    assert (detail["status"], detail["isTerminated"], detail["container"]["exitCode"]) == ("SUCCEEDED", True, 0)
    assert detail["statusReason"] == "Essential container in task exited"


def test_a_natural_end_with_another_exit_code_is_a_failure(wire: Wire) -> None:
    job_id = wire.batch.seed(run_for=5, exit_code=3)
    wire.batch.advance(5)
    assert (wire.describe(job_id)["status"], wire.describe(job_id)["container"]["exitCode"]) == ("FAILED", 3)


def test_a_retry_goes_back_to_runnable_and_keeps_the_attempt(wire: Wire) -> None:
    job_id = wire.batch.seed()
    wire.batch.move(job_id, "RUNNABLE", exit_code=1, reason="Host EC2 (instance i-1) terminated.")
    detail = wire.describe(job_id)
    assert (detail["status"], len(detail["attempts"])) == ("RUNNABLE", 1)
    assert detail["attempts"][0]["statusReason"] == "Host EC2 (instance i-1) terminated."
    wire.batch.move(job_id, "RUNNING")
    wire.batch.move(job_id, "SUCCEEDED")
    ended = wire.describe(job_id)
    assert [one["container"]["exitCode"] for one in ended["attempts"]] == [1, 0]
    assert ended["attempts"][0]["container"]["logStreamName"] != ended["container"]["logStreamName"]


def test_terminating_an_array_parent_ends_all_its_live_children(wire: Wire) -> None:
    parent = wire.batch.seed(children=["RUNNABLE", "RUNNING", "SUCCEEDED"], grace=10)
    assert wire.describe(parent)["status"] == "PENDING"
    wire.terminate(parent, "INC-4711")
    detail = wire.describe(parent)
    assert (detail["status"], detail["isTerminated"]) == ("PENDING", True)
    assert detail["arrayProperties"]["statusSummary"]["FAILED"] == 1
    wire.batch.advance(10)
    detail = wire.describe(parent)
    assert (detail["status"], detail["statusReason"]) == ("FAILED", "INC-4711")
    assert (detail["stoppedAt"], detail["arrayProperties"]["statusSummary"]["FAILED"]) == (NOW + 10_000, 2)
    assert [wire.describe(f"{parent}:{index}")["status"] for index in range(3)] == ["FAILED", "FAILED", "SUCCEEDED"]


def test_a_terminated_child_makes_its_parent_fail_once_the_others_end(wire: Wire) -> None:
    parent = wire.batch.seed(array_size=2, grace=1)
    wire.terminate(f"{parent}:1", "only this")
    wire.batch.advance(1)
    assert (wire.describe(f"{parent}:1")["status"], wire.describe(f"{parent}:0")["status"]) == ("FAILED", "RUNNING")
    assert wire.describe(parent)["status"] == "PENDING"
    wire.batch.move(f"{parent}:0", "SUCCEEDED")
    detail = wire.describe(parent)
    assert (detail["status"], detail["statusReason"]) == ("FAILED", "Array Child Job failed")
    assert "isTerminated" not in detail


def test_moving_an_array_parent_moves_its_children(wire: Wire) -> None:
    parent = wire.batch.seed(array_size=2, status="SUBMITTED")
    assert wire.describe(parent)["status"] == "SUBMITTED"
    wire.batch.move(parent, "RUNNING")
    assert wire.describe(parent)["arrayProperties"]["statusSummary"]["RUNNING"] == 2
    wire.batch.move(parent, "SUCCEEDED")
    assert wire.describe(parent)["status"] == "SUCCEEDED"


def test_a_waiting_array_is_flagged_and_ends_when_its_dependency_ends(wire: Wire) -> None:
    dependency = wire.batch.seed()
    parent = wire.batch.seed(status="PENDING", array_size=2, depends_on=[dependency])
    wire.terminate(parent, "INC-4711")
    assert (wire.describe(parent)["status"], wire.describe(f"{parent}:0")["status"]) == ("PENDING", "PENDING")
    wire.batch.move(dependency, "SUCCEEDED")
    assert (wire.describe(parent)["status"], wire.describe(parent)["statusReason"]) == ("FAILED", "INC-4711")


def test_terminating_a_multi_node_job_ends_its_nodes_but_not_the_reverse(wire: Wire) -> None:
    job_id = wire.batch.seed(num_nodes=3, grace=1)
    wire.terminate(f"{job_id}#2")
    wire.batch.advance(1)
    assert (wire.describe(f"{job_id}#2")["status"], wire.describe(job_id)["status"]) == ("FAILED", "RUNNING")
    wire.terminate(job_id, "INC-4711")
    assert wire.describe(f"{job_id}#1")["isTerminated"] is True
    wire.batch.advance(1)
    detail = wire.describe(job_id)
    assert (detail["status"], detail["statusReason"]) == ("FAILED", "INC-4711")
    assert detail["attempts"][-1]["container"]["exitCode"] == 137
    assert wire.describe(f"{job_id}#1")["status"] == "FAILED"


def test_terminating_the_main_node_terminates_the_job(wire: Wire) -> None:
    job_id = wire.batch.seed(num_nodes=2, main_node=1)
    wire.terminate(f"{job_id}#1")
    assert wire.describe(job_id)["isTerminated"] is True


def test_finished_jobs_are_forgotten_after_their_retention_with_their_children(wire: Wire) -> None:
    kept, gone = wire.batch.seed(), wire.batch.seed(status="SUCCEEDED")
    parent = wire.batch.seed(status="FAILED", array_size=2)
    wire.batch.advance(7 * 86_400 - 1)
    assert len(wire.shown(kept, gone, parent, f"{parent}:0")) == 4
    wire.batch.advance(1)
    assert [detail["jobId"] for detail in wire.shown(kept, gone, parent, f"{parent}:0")] == [kept]
    wire.terminate(gone)


@pytest.mark.parametrize(("retention", "left"), [(10, 0), (3600, 1)])
def test_a_changed_retention_applies_to_jobs_that_ended_before(retention: float, left: int) -> None:
    wire = Wire(frozen(retention=60))
    job_id = wire.batch.seed(status="FAILED")
    wire.batch.settings(retention=retention)
    wire.batch.advance(61)
    assert len(wire.shown(job_id)) == left


def test_a_job_moved_back_to_an_active_state_is_kept(wire: Wire) -> None:
    job_id = wire.batch.seed(status="FAILED")
    wire.batch.move(job_id, "RUNNING")
    wire.batch.advance(8 * 86_400)
    assert wire.describe(job_id)["status"] == "RUNNING"


def test_a_natural_job_goes_through_the_states_by_itself() -> None:
    wire = Wire(frozen(submitted_for=1, runnable_for=2, starting_for=3, run_for=4))
    job_id = wire.batch.seed(status="SUBMITTED", natural=True)
    seen = []
    for _ in range(11):
        seen.append(wire.describe(job_id)["status"])
        wire.batch.advance(1)
    assert seen == ["SUBMITTED"] + ["RUNNABLE"] * 2 + ["STARTING"] * 3 + ["RUNNING"] * 4 + ["SUCCEEDED"]


def test_a_natural_job_waits_for_its_dependency() -> None:
    wire = Wire(frozen(submitted_for=1))
    dependency = wire.batch.seed()
    job_id = wire.batch.seed(status="SUBMITTED", natural=True, depends_on=[dependency])
    wire.batch.advance(1)
    assert wire.describe(job_id)["status"] == "PENDING"
    wire.batch.move(dependency, "SUCCEEDED")
    assert wire.describe(job_id)["status"] == "RUNNABLE"


def test_moving_a_job_by_hand_stops_its_own_transitions() -> None:
    wire = Wire(frozen(submitted_for=1))
    job_id = wire.batch.seed(status="SUBMITTED", natural=True, run_for=100)
    wire.batch.move(job_id, "RUNNING")
    wire.batch.advance(50)
    assert wire.describe(job_id)["status"] == "RUNNING"


def test_forgetting_hiding_and_moving_need_a_job_that_is_there(wire: Wire) -> None:
    for verb in (wire.batch.forget, wire.batch.hide, wire.batch.job):
        with pytest.raises(LookupError, match="job_id x is not known: seed it first"):
            verb("x")
    with pytest.raises(LookupError, match="seed it first"):
        wire.batch.move("x", "RUNNING")


def test_a_status_that_batch_does_not_have_is_refused(wire: Wire) -> None:
    job_id = wire.batch.seed()
    with pytest.raises(ValueError, match="status must be one of SUBMITTED"):
        wire.batch.move(job_id, "DONE")


def test_the_clock_only_moves_forward(wire: Wire) -> None:
    with pytest.raises(ValueError, match="seconds must not be negative"):
        wire.batch.advance(-1)
