"""Mode, policies, role, region, queue, tag, what is allowed and what is stated: what the engine shows and does.

The first row that fits a case holds for it.
"""

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pytest

from awsbatch_operator.domain.access import Mode
from awsbatch_operator.domain.job import Place
from awsbatch_operator.domain.policy import Policy, Unreadable
from builders import DENIED, THROTTLED
from unit.domain.policies import a_policy, unreadable
from unit.engine.world import REGION, World

pytestmark = pytest.mark.looptime(start=1_000)


class Case(NamedTuple):
    matching: str
    role: str
    allow: str
    region: str
    queue: str
    tag: str
    asked: str
    mode: str


@dataclass(frozen=True)
class Shown:
    """Phase, reasons of Stalled or Reconciling and of Terminated (if asked), whether looked at, whether sent."""

    phase: str
    trouble: str | None
    fate: str | None
    looked: bool
    sent: bool = False


def denied(reason: str, *, looked: bool = False) -> Shown:
    return Shown("Denied", reason, reason, looked)


RUNNING: Final = Shown("Running", None, None, looked=True)
SENT: Final = Shown("Terminating", "TerminationInProgress", "TerminationInProgress", looked=True, sent=True)
TABLE: Final[list[tuple[dict[str, str], Shown]]] = [
    ({"matching": "two"}, denied("AmbiguousPolicy")),
    ({"matching": "unreadable"}, denied("PolicyUnreadable")),
    ({"matching": "none", "mode": "required"}, denied("NoAccessPolicy")),
    ({"matching": "none", "asked": "no"}, RUNNING),
    ({"matching": "none"}, SENT),
    ({"region": "not listed"}, denied("JobNotAllowed")),
    ({"role": "refused"}, Shown("Unknown", "AccessDenied", "TerminationRequested", looked=True)),
    ({"role": "throttled"}, Shown("Unknown", "Throttled", "TerminationRequested", looked=True)),
    ({"queue": "foreign"}, denied("JobNotAllowed", looked=True)),
    ({"tag": "foreign"}, denied("JobNotAllowed", looked=True)),
    ({"asked": "no"}, RUNNING),
    ({"allow": "Observe"}, Shown("Running", "TerminationNotAllowed", "TerminationNotAllowed", looked=True)),
    ({}, SENT),
]
ROLES: Final = {
    "none": None,
    "assumed": "arn:aws:iam::111122223333:role/good",
    "refused": "arn:aws:iam::111122223333:role/refused",
    "throttled": "arn:aws:iam::111122223333:role/throttled",
}
REGIONS: Final = {"own": None, "listed": "us-east-1", "not listed": "sa-east-1"}
CASES: Final = [
    Case(*one)
    for one in itertools.product(
        *(("none", "one", "two", "unreadable"), ROLES, ("Observe", "Observe, Terminate"), REGIONS),
        *(("granted", "foreign"), ("granted", "foreign"), ("no", "yes"), Mode),
    )
]


def row_of(case: Case) -> int:
    return next(n for n, (fits, _) in enumerate(TABLE) if all(getattr(case, key) == fits[key] for key in fits))


def wanted(case: Case) -> Shown:
    shown = TABLE[row_of(case)][1]
    return shown if case.asked == "yes" else Shown(shown.phase, shown.trouble, None, shown.looked, shown.sent)


def policies() -> list[Policy | Unreadable]:
    """For each role and what is allowed, selected by labels of their own."""
    found: list[Policy | Unreadable] = []
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
    odd = {"matchLabels": {"matching": "unreadable"}}
    return [*found, unreadable("later", namespaceSelector=odd, jobs={"queues": ["*"]}, until="friday")]


def labels_of(case: Case) -> dict[str, str]:
    chosen = {"role": case.role, "verbs": str(len(case.allow))} if case.matching in ("one", "two") else {}
    return {"matching": case.matching, **chosen}


async def shown_by(mode: Mode, cases: list[Case]) -> dict[Case, Shown]:
    world = World(mode=mode)
    namespaces: dict[tuple[str, str, str], str] = {}
    for case in cases:
        namespaces.setdefault(case[:3], f"ns-{len(namespaces)}")
    world.rules(*policies(), **{namespaces[case[:3]]: labels_of(case) for case in cases})
    for state, fault in (("refused", DENIED), ("throttled", THROTTLED)):
        for region, allowed in itertools.product((REGION, "us-east-1"), ("7", "18")):
            world.batch.place_faults[Place(region, ROLES[state], f"{state}-{allowed}")] = fault
    async with world.running():
        uids: dict[Case, str] = {}
        for number, case in enumerate(cases):
            job_id = world.a_job(f"job-{number}", queue="team-a-gpu" if case.queue == "granted" else "other")
            world.batch.tags[job_id] = {"team": "a" if case.tag == "granted" else "b"}
            spec: dict[str, Any] = {"jobId": job_id}
            spec |= {"region": REGIONS[case.region]} if REGIONS[case.region] else {}
            spec |= {"terminate": {"reason": "why"}} if case.asked == "yes" else {}
            uids[case] = world.objects.create(job_id, spec, namespace=namespaces[case[:3]])
        await asyncio.sleep(150)
        looked = {job_id for _, ids in world.batch.looks for job_id in ids}
        sent = {job_id for _, job_id, _ in world.batch.terminations}
        return {case: _shown(world, uid, f"job-{n}", looked, sent) for n, (case, uid) in enumerate(uids.items())}


def _shown(world: World, uid: str, job_id: str, looked: set[str], sent: set[str]) -> Shown:
    status = world.objects.status(uid)
    trouble = status.condition("Stalled") or status.condition("Reconciling")
    fate = status.condition("Terminated")
    assert (status.job is not None) == (status.phase in ("Running", "Terminating"))
    said = [one.reason if one is not None else None for one in (trouble, fate)]
    return Shown(str(status.phase), said[0], said[1], looked=job_id in looked, sent=job_id in sent)


@pytest.mark.parametrize("mode", Mode)
async def test_the_engine_shows_and_does_what_the_table_says_in_every_case(mode: Mode) -> None:
    cases = [case for case in CASES if case.mode == mode]
    shown = await shown_by(mode, cases)
    assert {case: told for case, told in shown.items() if told != wanted(case)} == {}


def test_every_row_of_the_table_holds_for_some_case() -> None:
    assert {row_of(case) for case in CASES} == set(range(len(TABLE)))
