"""Trouble with events: whatever becomes of SQS and of what is in a queue, jobs are polled and terminated as ever."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from awsbatch_sandbox.batch.settings import DEFAULT_ACCOUNT
from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.by_events import FLAGS, QUIET, a_job_that_is_not_polled, arrive, in_queue, polls, wait_for_quiet
from integration.replicas import CRASH_TAKEOVER, two_replicas
from integration.scenario import SOON, phase, reasons_sent
from integration.teams import Stage, Team, stage_on

FLOOD = 1_000
LONG_POLL = 20.0
"""Seconds for which a request for messages may wait for its answer."""


@pytest.fixture(scope="module")
def events() -> Iterator[World]:
    with World("embedded", grace=0.2, flags=FLAGS, events=True) as world:
        yield world


@pytest.fixture
def cluster(events: World) -> Iterator[Cluster]:
    if not events.operator.running:
        events.operator.start()
    yield events.cluster
    events.cluster.delete_all()
    events.batch.clear_faults()


def wake(world: World) -> None:
    """End the long poll that waits: what happens to the next one is seen now."""
    world.batch.send_message(world.events_queue, json.dumps({"jobId": "unknown"}))


def expire(world: World) -> Callable[[], object]:
    world.batch.fault("ReceiveMessage", kind="expired_403", times=None)
    wake(world)
    return world.batch.clear_faults


def delete(world: World) -> Callable[[], object]:
    world.batch.delete_queue(world.events_queue)
    return lambda: world.batch.create_queue(sources=[{"account": DEFAULT_ACCOUNT}])


@pytest.mark.parametrize("break_queue", [expire, delete])
def test_without_a_queue_jobs_are_polled_as_ever_until_it_is_back(
    events: World, cluster: Cluster, break_queue: Callable[[World], Callable[[], object]]
) -> None:
    job_id = a_job_that_is_not_polled(events, cluster, "trouble")
    repair = break_queue(events)
    wait_for(lambda: not arrive(events), timeout=LONG_POLL + SOON, what="the operator notices")
    before = polls(events, job_id)
    time.sleep(QUIET)
    assert polls(events, job_id) >= before + 2
    assert events.operator.get("/readyz")[0] == 200
    assert cluster.get("trouble")["status"]["phase"] == "Running"
    repair()
    wait_for_quiet(events, job_id)
    events.batch.move(job_id, "SUCCEEDED")
    cluster.wait_for("trouble", phase("Succeeded"), timeout=SOON)


def test_a_flood_of_messages_of_one_array_delays_no_termination(events: World, cluster: Cluster) -> None:
    array = events.seed("array", children=["RUNNING"] * 3)
    job_id = a_job_that_is_not_polled(events, cluster, "urgent")
    before = polls(events, array)
    began = time.monotonic()
    for number in range(FLOOD):
        named = array if number % 2 else f"{array}:{number % 3}"
        events.batch.send_message(events.events_queue, json.dumps({"jobId": named, "status": "FAILED"}))
    patched = time.monotonic()
    cluster.terminate("urgent", "why")
    wait_for(lambda: reasons_sent(events, job_id), timeout=SOON, what="TerminateJob", every=0.02)
    latency = time.monotonic() - patched
    wait_for(lambda: in_queue(events) == [], timeout=4 * SOON, what="the flood is over")
    took = time.monotonic() - began
    described = polls(events, array) - before
    print(f"{FLOOD} messages in {took:.1f} s, {latency:.2f} s to TerminateJob, {described} polls of the array")
    assert latency < 2.0
    assert described <= took * 1.5 + 5
    assert cluster.get("array")["status"]["phase"] == "Running"


def test_sigterm_ends_a_long_poll(events: World, cluster: Cluster) -> None:
    a_job_that_is_not_polled(events, cluster, "last")
    began = time.monotonic()
    events.operator.signal(signal.SIGTERM)
    wait_for(lambda: not events.operator.running, timeout=LONG_POLL, what="the operator ends", every=0.05)
    took = time.monotonic() - began
    print(f"the operator ended {took:.1f} s after SIGTERM")
    assert (events.operator.exit_code, took < 10.0) == (0, True)


def test_only_the_leader_receives_and_a_takeover_loses_no_end(events: World, cluster: Cluster, tmp_path: Path) -> None:
    flags = ("--poll-with-events=5m", f"--events-queue={events.events_queue}")
    jobs = [events.seed(name) for name in ("before", "between", "after")]
    with two_replicas(events, cluster, tmp_path, *flags) as pair:
        cluster.wait_for("after", phase("Running"), timeout=SOON)
        wait_for(lambda: pair.leader.total("events_queue_alive") == 1, timeout=SOON, what="events arrive")
        events.batch.move(jobs[0], "SUCCEEDED")
        cluster.wait_for("before", phase("Succeeded"), timeout=SOON)
        assert {call["access_key"] for call in events.batch.calls("ReceiveMessage")} == {"first"}
        pair.leader.kill9()
        events.batch.move(jobs[1], "FAILED")
        cluster.wait_for("between", phase("Failed"), timeout=CRASH_TAKEOVER + SOON)
        wait_for(lambda: pair.follower.total("events_queue_alive") == 1, timeout=SOON, what="events arrive again")
        events.batch.move(jobs[2], "SUCCEEDED")
        cluster.wait_for("after", phase("Succeeded"), timeout=SOON)
        wait_for(lambda: in_queue(events) == [], timeout=2 * LONG_POLL, what="all messages are deleted")
        pair.assert_one_acted_at_a_time("first", "second")


# -- a queue of a policy -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stage(events: World) -> Iterator[Stage]:
    with stage_on(events, "--poll-with-events=5m") as stage:
        yield stage


def a_queue(team: Team) -> str:
    """One of the team's account, which its policy names."""
    url = team.world.batch.create_queue(team.name, account=team.account)
    team.grant(role={"arn": team.role, "eventsQueue": url})
    return url


def alive(world: World) -> dict[str, float]:
    found = world.operator.metrics().get("awsbatch_operator_events_queue_alive", [])
    return {labels["account"]: value for labels, value in found}


def test_the_queue_of_a_policy_reports_the_jobs_of_its_team_alone(teams: list[Team]) -> None:
    world, urls = teams[0].world, [a_queue(team) for team in teams]
    jobs = [team.job(f"of-{team.name}") for team in teams]
    for team in teams:
        team.cluster.wait_for(f"of-{team.name}", phase("Running"), timeout=SOON)
    expected = {team.account: 1.0 for team in teams}
    wait_for(lambda: alive(world) == expected, timeout=2 * SOON, what="canaries come back to both queues")
    wait_for_quiet(world, jobs[1])
    receivers = {(call["queue"], call["role"]) for call in world.batch.calls("ReceiveMessage")}
    assert receivers == {(url, team.role) for url, team in zip(urls, teams, strict=True)}

    before, version = polls(world, jobs[1]), _version(teams[1])
    lies: dict[str, Any] = {"jobId": jobs[1], "status": "FAILED", "stoppedAt": 1, "statusReason": "forged"}
    for body in (lies, {"source": "aws.batch", "detail": lies}):
        world.batch.send_message(urls[0], json.dumps(body))
    wait_for(lambda: in_queue(world, urls[0]) == [], timeout=SOON, what="the forged messages are deleted")
    time.sleep(1.0)
    assert (polls(world, jobs[1]), _version(teams[1])) == (before, version)

    world.batch.move(jobs[1], "SUCCEEDED", account=teams[1].account)
    teams[1].cluster.wait_for(f"of-{teams[1].name}", phase("Succeeded"), timeout=SOON)
    assert _phase(teams[0]) == "Running"


def _version(team: Team) -> str:
    return str(team.cluster.get(f"of-{team.name}")["metadata"]["resourceVersion"])


def _phase(team: Team) -> str:
    return str(team.cluster.get(f"of-{team.name}")["status"]["phase"])
