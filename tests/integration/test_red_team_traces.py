"""What a team may learn from its denied objects, and by writing over their statuses; see the note on the red team."""

import itertools
import json
import statistics
import time
from collections.abc import Iterator

import pytest

from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.scenario import SOON, accepted, phase, reasons_sent, says
from integration.teams import Stage, Team, stage_on

REASON = "INC-4711: runaway cost"
BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")
DENIED = says("Stalled", "True", "JobNotAllowed")
NO_LEAVE = says("Terminated", "False", "JobNotAllowed")
MARK = "zebrafish"
"""Stands in all that a job can say of itself."""
ALL_OF_A_DENIAL = {"observedGeneration", "phase", "region", "conditions"}


@pytest.fixture(scope="module")
def stage(world: World) -> Iterator[Stage]:
    """One that says all it can in its log."""
    with stage_on(world, "--log-level=debug") as stage:
        yield stage


@pytest.fixture
def shared(teams: list[Team]) -> tuple[Team, Team]:
    """Two namespaces under one policy and one role, which tags alone keep apart."""
    team, other = teams
    team.grant(
        namespaceSelector={"matchExpressions": [{"key": "team", "operator": "In", "values": [team.name, other.name]}]}
    )
    team.wait_until_known()
    return team, other


def test_a_status_forged_before_a_restart_gives_no_access(stage: Stage, shared: tuple[Team, Team]) -> None:
    owner, thief = shared
    job_id = owner.job("own")
    admitted = owner.cluster.wait_for("own", phase("Running"), timeout=SOON)["status"]
    forged = {
        "copied": {key: printed for key, printed in admitted.items() if key != "conditions"},
        "finished": {"phase": "Succeeded", "jobStatus": "SUCCEEDED", "access": admitted["access"], "attempts": 1},
        "elsewhere": {"phase": "Running", "jobStatus": "RUNNING", "accountId": "999999999999"},
    }
    for name in forged:
        thief.cluster.create(name, job_id)
        thief.cluster.create(f"no-{name}", f"no-{job_id}")
    for name in forged:
        thief.cluster.wait_for(name, phase("Denied"), timeout=SOON)
        thief.cluster.wait_for(f"no-{name}", phase("Denied"), timeout=SOON)
    stage.operator.kill9()
    for name, status in forged.items():
        for one in (name, f"no-{name}"):
            thief.cluster.patch_status(one, status)
            thief.cluster.terminate(one, "mine now")
    assert stage.operator.running
    for name in forged:
        none = thief.cluster.wait_for(f"no-{name}", says("Terminated", "False", _reason_for(name)), timeout=SOON)[
            "status"
        ]
        status = thief.cluster.wait_for(name, says("Terminated", "False", _reason_for(name)), timeout=SOON)["status"]
        assert set(none) == set(status)
        assert not {"jobName", "jobArn", "jobStatus", "access", "attempts"} & set(status)
    assert reasons_sent(stage.world, job_id) == []


def _reason_for(name: str) -> str:
    return "AccountChanged" if name == "elsewhere" else "JobNotAllowed"


def test_a_forged_acceptance_in_one_namespace_does_not_delay_the_termination_of_another(
    stage: Stage, shared: tuple[Team, Team]
) -> None:
    owner, thief = shared
    job_id = owner.job("own")
    owner.cluster.wait_for("own", phase("Running"), timeout=SOON)
    thief.cluster.create("theirs", job_id)
    thief.cluster.wait_for("theirs", phase("Denied"), timeout=SOON)
    stage.operator.kill9()
    at = "2099-01-01T00:00:00.000Z"
    forged = {"reason": "forged", "requestedAt": at, "acceptedAt": at, "requests": 9}
    thief.cluster.patch_status("theirs", {"termination": forged})
    owner.cluster.terminate("own", REASON)
    assert stage.operator.running
    status = owner.cluster.wait_for("own", BY_REQUEST, timeout=SOON)["status"]
    assert status["termination"]["reason"] == REASON
    assert reasons_sent(stage.world, job_id) == [REASON]


def test_an_object_with_a_denied_job_shows_nothing_of_the_termination_by_another(
    stage: Stage, shared: tuple[Team, Team]
) -> None:
    owner, thief = shared
    job_id = owner.job("own", grace=1.0)
    owner.cluster.wait_for("own", phase("Running"), timeout=SOON)
    thief.cluster.create("theirs", job_id, terminate={"reason": "mine now"})
    before = thief.cluster.wait_for("theirs", NO_LEAVE, timeout=SOON)
    owner.cluster.terminate("own", REASON)
    owner.cluster.wait_for("own", accepted, timeout=SOON)
    owner.cluster.wait_for("own", BY_REQUEST, timeout=SOON)
    assert thief.cluster.get("theirs") == before
    assert [event["reason"] for event in thief.cluster.events("theirs")] == ["JobNotAllowed"]
    assert reasons_sent(stage.world, job_id) == [REASON]


def test_a_denied_job_appears_nowhere(stage: Stage, teams: list[Team]) -> None:
    team = teams[0]
    team.grant(jobs={"queues": [f"{team.name}-*"]})
    team.wait_until_known()
    job_id = team.seed(
        name=MARK,
        queue=f"{MARK}-queue",
        definition=f"{MARK}:7",
        image=MARK,
        command=[MARK],
        environment={MARK: MARK},
        parameters={MARK: MARK},
        tags={MARK: MARK, "k8s-namespace": team.name},
    )
    team.cluster.create("theirs", job_id)
    team.cluster.wait_for("theirs", DENIED, timeout=SOON)
    stage.world.batch.move(job_id, "FAILED", exit_code=42, reason=MARK, container_reason=MARK)
    team.cluster.terminate("theirs", REASON)
    status = team.cluster.wait_for("theirs", NO_LEAVE, timeout=SOON)["status"]
    assert set(status) == ALL_OF_A_DENIAL
    assert {call["operation"] for call in team.calls()} == {"DescribeJobs"}
    shown = json.dumps([team.cluster.get("theirs"), team.cluster.events("theirs"), team.policies.get(team.name)])
    for place in (shown, stage.operator.output(), stage.operator.get("/metrics")[1]):
        assert MARK not in place
    assert job_id not in stage.operator.get("/metrics")[1]


CRAFTED = (
    'x"}\n{"level": "info", "message": "forged", "jobId": "1"}',
    "\u001b[31mred\u001b[0m\r\u2028\u2029\u202eforged\u0085",
    "$(id) `id` ${jndi:ldap://x} %s {0} {jobName}",
    "é" * 1024,
    "\U0001f980" * 512,
)


def test_a_crafted_reason_is_sent_as_written_and_stays_one_text_everywhere(stage: Stage, teams: list[Team]) -> None:
    team = teams[0]
    team.grant()
    for number, reason in enumerate(CRAFTED):
        team.cluster.create(f"own-{number}", team.seed(job_id=f"{team.name}-{number}"), terminate={"reason": reason})
        team.cluster.create(f"none-{number}", f"x-{team.name}-{number}", terminate={"reason": reason})
    for number, reason in enumerate(CRAFTED):
        team.cluster.wait_for(f"own-{number}", BY_REQUEST, timeout=SOON)
        team.cluster.wait_for(f"none-{number}", NO_LEAVE, timeout=SOON)
        assert reasons_sent(stage.world, f"{team.name}-{number}") == [reason]
        assert all(len(event["note"].encode()) <= 1024 for event in team.cluster.events(f"own-{number}"))
        assert reason[:9] not in stage.operator.get("/metrics")[1]
    lines = stage.operator.logs()
    assert not [line for line in lines if line["message"] == "forged"]
    denied = [json.dumps(line, ensure_ascii=False) for line in lines if f"x-{team.name}" in json.dumps(line)]
    assert denied
    assert not [line for line, reason in itertools.product(denied, CRAFTED) if reason[:20] in line]


def test_timing_does_not_reveal_whether_a_denied_job_exists_or_is_polled_for_others(
    stage: Stage, shared: tuple[Team, Team]
) -> None:
    owner, thief = shared
    busy = [owner.job(f"own-{number}") for number in range(PAIRS)]
    for number in range(PAIRS):
        owner.cluster.wait_for(f"own-{number}", phase("Running"), timeout=SOON)
    kinds = {
        "busy": busy,
        "there": [owner.seed() for _ in range(PAIRS)],
        "none": [f"none-{number}" for number in range(PAIRS)],
    }
    created: dict[str, float] = {}
    for number, kind in itertools.product(range(PAIRS), kinds):
        name = f"{kind}-{number}"
        thief.cluster.create(name, kinds[kind][number])
        created[name] = time.monotonic()
    series = _followed(thief, created)
    assert {tuple(shown for shown, _ in one) for one in series.values()} == {("Unknown", "Denied")}
    took = {
        kind: sorted(one[-1][1] - created[name] for name, one in series.items() if name.startswith(kind))
        for kind in kinds
    }
    reported = {kind: f"{one[0]:.2f} {statistics.median(one):.2f} {one[-1]:.2f}" for kind, one in took.items()}
    for kind in ("busy", "there"):
        assert abs(statistics.median(took[kind]) - statistics.median(took["none"])) < POLL, reported


PAIRS = 20
POLL = 0.5
"""Seconds between the owner's polls: what the denial would come sooner by if one of them counted."""


def _followed(team: Team, names: dict[str, float]) -> dict[str, list[tuple[str, float]]]:
    """By object each phase that its status came to have, and when."""
    series: dict[str, list[tuple[str, float]]] = {name: [] for name in names}

    def denied() -> bool:
        now = time.monotonic()
        for body in team.cluster.objects():
            shown = body.get("status", {}).get("phase")
            one = series[body["metadata"]["name"]]
            if shown is not None and (not one or one[-1][0] != shown):
                one.append((shown, now))
        return all(one and one[-1][0] == "Denied" for one in series.values())

    wait_for(denied, timeout=SOON, what="all are denied", every=0.01)
    return series
