"""What users may do with `spec.terminate`, and what becomes of its reason."""

import signal
from collections.abc import Callable

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.competing import TERMINATE_RATE, Namespaces
from integration.scenario import SOON, accepted, claim, phase, reasons_sent, says, terminations_tried

pytestmark = pytest.mark.usefixtures("operator")

BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")
LIVES_ON = 0.8
"""Seconds that a terminated job lives on: long enough to edit its object, over before the first poll after the call."""
ODD_REASONS = {
    "quotes": """she said "stop", 'now' `please` \\ $HOME {{x}} <b>&amp;</b>""",
    "newlines": "first line\nsecond\tline\r\nthird ",
    "emoji": "🔥 coût élevé 中止 👩‍👩‍👧 \u202eabc",
    "spaces-around": "  kept as it is  ",
    "longest": "é" + "x" * 1022 + "🛑",
}


def test_a_reason_arrives_exactly_as_it_was_written(world: World, cluster: Cluster) -> None:
    ids = {name: world.batch.seed() for name in ODD_REASONS}
    for name, reason in ODD_REASONS.items():
        cluster.create(name, ids[name])
        cluster.terminate(name, reason)
    for name, reason in ODD_REASONS.items():
        status = cluster.wait_for(name, BY_REQUEST, timeout=SOON)["status"]
        assert reasons_sent(world, ids[name]) == [reason]
        assert status["termination"]["reason"] == reason
        assert status["statusReason"] == reason


def test_many_terminations_with_one_odd_reason_share_a_call_that_keeps_it(world: World, cluster: Cluster) -> None:
    reason = "\n".join(ODD_REASONS.values())[:1024]
    ids = world.batch.seed_many(30)
    for number, job_id in enumerate(ids):
        cluster.create(f"job-{number}", job_id)
    for number in range(len(ids)):
        cluster.wait_for(f"job-{number}", phase("Running"), timeout=SOON)
    # Until the first call is answered the others gather, and then go together. All are stated before it receives one:
    # how long that takes is the machine's affair.
    world.batch.fault("TerminateJob", kind="slow", seconds=3.0)
    world.operator.signal(signal.SIGSTOP)
    for number in range(len(ids)):
        cluster.terminate(f"job-{number}", reason)
    world.operator.signal(signal.SIGCONT)
    for number, job_id in enumerate(ids):
        assert cluster.wait_for(f"job-{number}", BY_REQUEST, timeout=SOON)["status"]["statusReason"] == reason
        assert reasons_sent(world, job_id) == [reason]
    assert world.batch.counts()["TerminateJobs"] <= 5


def test_removing_the_termination_after_its_acceptance_changes_nothing(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed(grace=LIVES_ON)
    cluster.create("regret", job_id, terminate={"reason": "first"})
    cluster.wait_for("regret", accepted, timeout=SOON)
    cluster.patch("regret", {"spec": {"terminate": None}})
    body = cluster.wait_for("regret", BY_REQUEST, timeout=SOON)
    assert "terminate" not in body["spec"]
    assert body["status"]["observedGeneration"] == 2
    assert body["status"]["termination"]["reason"] == "first"
    assert reasons_sent(world, job_id) == ["first"]


def test_rewording_after_the_acceptance_sends_nothing_new(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed(grace=LIVES_ON)
    cluster.create("reworded", job_id, terminate={"reason": "first"})
    cluster.wait_for("reworded", accepted, timeout=SOON)
    cluster.terminate("reworded", "second")
    status = cluster.wait_for("reworded", BY_REQUEST, timeout=SOON)["status"]
    assert status["termination"]["reason"] == "first"
    assert status["statusReason"] == "first"
    assert reasons_sent(world, job_id) == ["first"]


def test_stating_it_again_on_a_terminated_job_changes_nothing(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed()
    cluster.create("again", job_id, terminate={"reason": "first"})
    cluster.wait_for("again", BY_REQUEST, timeout=SOON)
    cluster.terminate("again", "second")
    settled = cluster.wait_for("again", lambda status: status["observedGeneration"] == 2, timeout=SOON)["status"]
    assert BY_REQUEST(settled)
    assert settled["termination"]["reason"] == "first"
    assert reasons_sent(world, job_id) == ["first"]


def test_an_object_that_is_deleted_while_terminating_is_gone_at_once(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed(grace=LIVES_ON)
    cluster.create("short-lived", job_id, terminate={"reason": "first"})
    cluster.wait_for("short-lived", accepted, timeout=SOON)
    cluster.delete("short-lived")
    assert cluster.objects() == []
    wait_for(lambda: world.batch.job(job_id)["status"] == "FAILED", timeout=SOON, what="the job ends all the same")
    assert reasons_sent(world, job_id) == ["first"]


def test_deleting_an_object_without_a_termination_does_not_affect_its_job(world: World, cluster: Cluster) -> None:
    job_id, other = world.batch.seed(), world.batch.seed()
    cluster.create("watched", job_id)
    cluster.wait_for("watched", phase("Running"), timeout=SOON)
    cluster.delete("watched")
    cluster.create("next", other, terminate={"reason": "another job"})
    cluster.wait_for("next", BY_REQUEST, timeout=SOON)
    assert world.batch.job(job_id)["status"] == "RUNNING"
    assert [call["job_ids"] for call in terminations_tried(world)] == [[other]]


def test_an_object_created_again_with_the_same_name_is_another_one(world: World, cluster: Cluster) -> None:
    first, second = world.batch.seed(), world.batch.seed()
    cluster.create("phoenix", first, terminate={"reason": "first"})
    cluster.wait_for("phoenix", accepted, timeout=SOON)
    cluster.delete("phoenix")
    cluster.create("phoenix", second)
    status = cluster.wait_for("phoenix", phase("Running"), timeout=SOON)["status"]
    assert "termination" not in status
    assert reasons_sent(world, second) == []


def test_what_becomes_of_a_termination_that_is_changed_while_it_waits_for_its_turn(namespaces: Namespaces) -> None:
    world, cluster = namespaces.world, namespaces.noisy
    # So many with different reasons go first that those which are stated after them wait for seconds.
    first = namespaces.running(cluster, 8 * TERMINATE_RATE)
    changes: dict[str, Callable[[str], object]] = {
        "withdrawn": lambda name: cluster.patch(name, {"spec": {"terminate": None}}),
        "reworded": lambda name: cluster.terminate(name, "second words"),
        "deleted": cluster.delete,
    }
    jobs = {name: world.batch.seed() for name in changes}
    for name, job_id in jobs.items():
        cluster.create(name, job_id)
    for name in jobs:
        cluster.wait_for(name, phase("Running"), timeout=SOON)
    for number, name in enumerate(first):
        cluster.terminate(name, f"reason {number}")
    for name in changes:
        cluster.terminate(name, "first words")
    for name, change in changes.items():
        change(name)
    assert [reasons_sent(world, job_id) for job_id in jobs.values()] == [[], [], []], "changed too late for this test"
    last = world.batch.seed()
    cluster.create("last", last, terminate={"reason": "last of all"})
    wait_for(lambda: reasons_sent(world, last), timeout=60, what="the last of all is sent")
    sent = {name: reasons_sent(world, job_id) for name, job_id in jobs.items()}
    assert sent == {"withdrawn": [], "reworded": ["second words"], "deleted": []}
    status = cluster.wait_for("withdrawn", lambda status: status["observedGeneration"] == 3, timeout=SOON)["status"]
    assert (status["phase"], "termination" in status, claim(status, "Terminated")) == ("Running", False, None)


def test_a_sent_termination_is_recorded_although_it_was_withdrawn_meanwhile(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed(grace=5.0)
    cluster.create("job", job_id)
    cluster.wait_for("job", phase("Running"), timeout=SOON)
    world.batch.fault("TerminateJob", kind="slow", seconds=1.5)
    cluster.terminate("job", "sent all the same")
    wait_for(lambda: terminations_tried(world), timeout=SOON, what="the call is under way")
    cluster.patch("job", {"spec": {"terminate": None}})
    status = cluster.wait_for("job", accepted, timeout=SOON)["status"]
    assert status["termination"]["reason"] == "sent all the same"
    assert reasons_sent(world, job_id) == ["sent all the same"]
