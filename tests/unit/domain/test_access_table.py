"""From mode, policies, region, queue, tags, what is allowed and what is asked to one verdict: the whole table.

The first row that fits a case holds for it. Of a case nothing but what the row names makes a difference.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

from awsbatch_operator.domain.access import Mode, NoPolicy, Refusal, choose, grant
from awsbatch_operator.domain.admission import (
    TAGS_HOLD_FOR,
    Admitted,
    MayEnd,
    MayNotEnd,
    MustLook,
    NotAdmitted,
    ParentNeeded,
    admit,
    termination,
)
from awsbatch_operator.domain.policy import Policy, Unreadable
from builders import JOB_ID, NOW
from unit.domain.policies import QUEUE, a_policy, facts, unreadable

ANY: Final = "any"


@dataclass(frozen=True, slots=True)
class Case:
    mode: str
    matching: str
    region: str
    queue: str
    tags: str
    allow: str
    asked: str


def row(verdict: str, **fits: str) -> tuple[dict[str, str], str]:
    return fits, verdict


TABLE: Final = [
    row("Stalled/AmbiguousPolicy", matching="two"),
    row("Stalled/AmbiguousPolicy", matching="one and an unreadable one"),
    row("Stalled/PolicyUnreadable", matching="an unreadable one"),
    row("Stalled/NoAccessPolicy", matching="none", mode="required"),
    row("observe", matching="none", asked="nothing"),
    row("terminate", matching="none", asked="its end"),
    row("Stalled/JobNotAllowed", region="foreign"),
    row("Stalled/JobNotAllowed", queue="foreign"),
    row("Stalled/JobNotAllowed", queue="unknown"),
    row("Stalled/JobNotAllowed", tags="foreign"),
    row("Stalled/JobNotAllowed", tags="none"),
    row("Stalled/JobNotAllowed", tags="unknown"),
    row("look at the parent", tags="the parent's, not looked up"),
    row("Stalled/JobNotAllowed", tags="the parent's, foreign"),
    row("observe", asked="nothing"),
    row("Terminated=False/TerminationNotAllowed", allow="Observe"),
    row("look again", tags="its own, seen long ago"),
    row("terminate"),
]

MINE = {"team": "a", "k8s-namespace": "train"}
SPEC: dict[str, Any] = {"jobs": {"queues": ["team-a-*"], "tags": {"team": "a", "k8s-namespace": "${namespace}"}}}
MATCHING: Final = ("none", "one", "two", "an unreadable one", "one and an unreadable one")
REGIONS: Final[Mapping[str, str | None]] = {"left out": None, "granted": "us-east-1", "foreign": "sa-east-1"}
QUEUES: Final[Mapping[str, str | None]] = {
    "granted": QUEUE,
    "foreign": QUEUE.replace("team-a", "team-b"),
    "unknown": None,
}
TAGS: Final[Mapping[str, tuple[Any, Any]]] = {
    "its own": (facts(tags=MINE), None),
    "its own, seen long ago": (facts(tags=MINE, at=NOW - TAGS_HOLD_FOR - 1), None),
    "foreign": (facts(tags={**MINE, "team": "b"}), None),
    "none": (facts(tags={}), None),
    "unknown": (facts(tags=None), None),
    "the parent's": (facts(f"{JOB_ID}:3", tags={}), facts(tags=MINE)),
    "the parent's, foreign": (facts(f"{JOB_ID}:3", tags={}), facts(tags={**MINE, "team": "b"})),
    "the parent's, not looked up": (facts(f"{JOB_ID}:3", tags={}), None),
}
ALLOW: Final = ("Observe", "Observe, Terminate")
ASKED: Final = ("nothing", "its end")
CASES: Final = [Case(*one) for one in itertools.product(Mode, MATCHING, REGIONS, QUEUES, TAGS, ALLOW, ASKED)]


def policies(matching: str, allow: str) -> list[Policy | Unreadable]:
    of_others = a_policy("team-b", namespaceSelector={"matchLabels": {"team": "b"}}, jobs={"queues": ["*"]})
    ours = a_policy(**SPEC, regions=["eu-west-1", "us-east-1"], allow=allow.split(", "))
    also = a_policy("also-a", jobs={"queues": ["*"]})
    later = unreadable("later", jobs={"queues": ["*"]}, until="friday")
    found: Mapping[str, list[Policy | Unreadable]] = {
        "none": [],
        "one": [ours],
        "two": [ours, also],
        "an unreadable one": [later],
        "one and an unreadable one": [ours, later],
    }
    return [of_others, *found[matching]]


def wanted(case: Case) -> tuple[int, str]:
    """The row and its verdict."""
    for number, (fits, verdict) in enumerate(TABLE):
        if all(getattr(case, name) == value for name, value in fits.items()):
            return number, verdict
    raise AssertionError(f"no row for {case}")


def judged(case: Case) -> str:
    chosen = choose(policies(case.matching, case.allow), {"team": "a"})
    granted = grant(chosen, Mode(case.mode), "train", REGIONS[case.region], "eu-west-1")
    if isinstance(granted, Refusal):
        return f"Stalled/{granted.reason}"
    job, parent = TAGS[case.tags]
    admission = admit(granted, facts(job.job_id, QUEUES[case.queue], job.tags, job.seen_at), parent)
    match admission:
        case NotAdmitted():
            return f"Stalled/{admission.refusal.reason}"
        case ParentNeeded():
            return "look at the parent"
        case Admitted() if case.asked == "nothing":
            return "observe"
        case Admitted():
            match termination(admission, NOW):
                case MayEnd():
                    return "terminate"
                case MustLook():
                    return "look again"
                case MayNotEnd(refusal=refusal):
                    return f"Terminated=False/{refusal.reason}"


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("matching", MATCHING)
def test_the_table_holds_for_every_case(mode: Mode, matching: str) -> None:
    cases = [case for case in CASES if (case.mode, case.matching) == (mode, matching)]
    assert len(cases) == len(REGIONS) * len(QUEUES) * len(TAGS) * len(ALLOW) * len(ASKED)
    assert [(case, judged(case)) for case in cases] == [(case, wanted(case)[1]) for case in cases]


def test_every_row_of_the_table_holds_for_some_case() -> None:
    assert {wanted(case)[0] for case in CASES} == set(range(len(TABLE)))


def test_nothing_is_granted_where_nothing_selects() -> None:
    assert choose(policies("none", "Observe"), {"team": "a"}) == NoPolicy()
