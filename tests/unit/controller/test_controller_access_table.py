"""What the controller shows and does in each case of the oracle's table, with roles that work and roles that don't."""

import asyncio
import itertools
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import pytest

from awsbatch_operator.api.access_policy import InvalidPolicy, Policy
from awsbatch_operator.api.job import Target
from awsbatch_operator.policy.resolution import Mode
from builders import DENIED, THROTTLED
from unit.controller.world import REGION, World
from unit.policy import oracle
from unit.policy.oracle import TERMINATE, VIEW
from unit.policy.policies import a_policy, an_invalid_policy

pytestmark = pytest.mark.looptime(start=1_000)


class Case(NamedTuple):
    selecting: str
    role: str
    verbs: str
    region: str
    queue: str
    tags: str
    wanted: str
    mode: str


@dataclass(frozen=True)
class Shown:
    """Phase, reasons of Stalled or Reconciling and of Terminated (if wanted), whether described, whether sent."""

    phase: str
    problem: str | None
    result: str | None
    described: bool
    sent: bool = False


RUNNING: Final = Shown("Running", None, None, described=True)
SENT: Final = Shown("Terminating", "TerminationInProgress", "TerminationInProgress", described=True, sent=True)
OBSERVED: Final = Shown("Running", "TerminationNotAllowed", "TerminationNotAllowed", described=True)
ROLE_ERRORS: Final = {
    "refused": Shown("Unknown", "AccessDenied", "AccessDenied", described=True),
    "throttled": Shown("Unknown", "Throttled", "TerminationPending", described=True),
}
ROLES: Final = {
    "none": None,
    "assumed": "arn:aws:iam::111122223333:role/good",
    "refused": "arn:aws:iam::111122223333:role/refused",
    "throttled": "arn:aws:iam::111122223333:role/throttled",
}
REGIONS: Final = {"left out": None, "allowed": "us-east-1", "foreign": "sa-east-1"}
SELECTING: Final = ("none", "one", "two", "an unreadable one")
CASES: Final = [
    Case(*one)
    for one in itertools.product(
        *(SELECTING, ROLES, ("Observe", "Observe, Terminate"), REGIONS),
        *(("allowed", "foreign"), ("allowed", "foreign"), (VIEW, TERMINATE), Mode),
    )
]


def wanted(case: Case) -> Shown:
    """The oracle's result, as a status shows it; a role that can't be used hides all that depends on the job."""
    facts = oracle.Case(case.mode, case.selecting, case.region, case.queue, case.tags, case.verbs, case.wanted)
    described = oracle.expected(facts._replace(queue="allowed", tags="allowed", wanted=VIEW)) == VIEW
    shown = ROLE_ERRORS.get(case.role) if described and case.selecting == "one" else None
    if shown is None:
        result = oracle.expected(facts)
        found = {VIEW: RUNNING, TERMINATE: SENT, "TerminationNotAllowed": OBSERVED}
        shown = found.get(result, Shown("Denied", result, result, described))
    return shown if case.wanted == TERMINATE else replace(shown, result=None)


def policies() -> list[Policy | InvalidPolicy]:
    """One for each role and set of verbs, selected by labels of its own."""
    found: list[Policy | InvalidPolicy] = []
    for role, allow in itertools.product(ROLES, ("Observe", "Observe, Terminate")):
        spec: dict[str, Any] = {
            "namespaceSelector": {"matchLabels": {"role": role, "verbs": str(len(allow))}},
            "jobs": {"queues": ["team-a-*"], "tags": {"team": "a"}},
            "regions": [REGION, "us-east-1"],
            "allow": allow.split(", "),
        }
        if ROLES[role]:
            spec["role"] = {"arn": ROLES[role]}
        found.append(a_policy(f"{role}-{len(allow)}", **spec))
    found.append(a_policy("second", namespaceSelector={"matchLabels": {"matching": "two"}}))
    odd = {"matchLabels": {"matching": "an-unreadable-one"}}
    return [*found, an_invalid_policy("later", namespaceSelector=odd, jobs={"queues": ["*"]}, until="friday")]


def labels_of(case: Case) -> dict[str, str]:
    chosen = {"role": case.role, "verbs": str(len(case.verbs))} if case.selecting in ("one", "two") else {}
    return {"matching": case.selecting.replace(" ", "-"), **chosen}


async def shown_by(mode: Mode, cases: list[Case]) -> dict[Case, Shown]:
    world = World(mode=mode)
    namespaces: dict[tuple[str, str, str], str] = {}
    for case in cases:
        namespaces.setdefault(case[:3], f"ns-{len(namespaces)}")
    world.set_policies(*policies(), **{namespaces[case[:3]]: labels_of(case) for case in cases})
    for state, error in (("refused", DENIED), ("throttled", THROTTLED)):
        for region, verbs in itertools.product((REGION, "us-east-1"), ("7", "18")):
            world.batch.target_errors[Target(region, ROLES[state], f"{state}-{verbs}")] = error
    async with world.running():
        uids: dict[Case, str] = {}
        for number, case in enumerate(cases):
            job_id = world.a_job(f"job-{number}", queue="team-a-gpu" if case.queue == "allowed" else "other")
            world.batch.tags[job_id] = {"team": "a" if case.tags == "allowed" else "b"}
            spec: dict[str, Any] = {"jobId": job_id}
            spec |= {"region": REGIONS[case.region]} if REGIONS[case.region] else {}
            spec |= {"terminate": {"reason": "why"}} if case.wanted == TERMINATE else {}
            uids[case] = world.objects.create(job_id, spec, namespace=namespaces[case[:3]])
        await asyncio.sleep(150)
        described = {job_id for _, ids in world.batch.describes for job_id in ids}
        sent = {job_id for _, job_id, _ in world.batch.terminations}
        return {case: _shown(world, uid, f"job-{n}", described, sent) for n, (case, uid) in enumerate(uids.items())}


def _shown(world: World, uid: str, job_id: str, described: set[str], sent: set[str]) -> Shown:
    status = world.objects.status(uid)
    problem = status.condition("Stalled") or status.condition("Reconciling")
    result = status.condition("Terminated")
    assert (status.job is not None) == (status.phase in ("Running", "Terminating"))
    reasons = [one.reason if one is not None else None for one in (problem, result)]
    return Shown(str(status.phase), reasons[0], reasons[1], described=job_id in described, sent=job_id in sent)


@pytest.mark.parametrize("mode", Mode)
async def test_the_controller_shows_and_does_what_the_oracle_says_in_every_case(mode: Mode) -> None:
    cases = [case for case in CASES if case.mode == mode]
    shown = await shown_by(mode, cases)
    assert {case: found for case, found in shown.items() if found != wanted(case)} == {}
    assert len(set(shown.values())) >= 10, "or the cases differ in nothing"
