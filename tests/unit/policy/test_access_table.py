"""The whole table of the oracle: mode, policies, region, queue, tags, verbs and what is wanted lead to one result."""

import itertools
from collections.abc import Mapping
from typing import Any, Final

import pytest

from awsbatch_operator.api.access_policy import InvalidPolicy, Policy
from awsbatch_operator.policy.authorizer import MAX_TAG_AGE, Allow, NeedsDescribe, authorize_terminate, authorize_view
from awsbatch_operator.policy.resolution import Deny, Mode, resolve_scope, select_policy
from builders import JOB_ID, NOW
from unit.policy.oracle import (
    DESCRIBE_AGAIN,
    DESCRIBE_PARENT,
    OWN_REGION,
    TABLE,
    TERMINATE,
    VIEW,
    Case,
    expected,
    row_of,
)
from unit.policy.policies import QUEUE, a_policy, an_invalid_policy, attributes

OWN: Final = {"team": "a", "k8s-namespace": "train"}
FOREIGN: Final = {**OWN, "team": "b"}
SPEC: Final[dict[str, Any]] = {
    "jobs": {"queues": ["team-a-*"], "tags": {"team": "a", "k8s-namespace": "${namespace}"}},
    "regions": [OWN_REGION, "us-east-1"],
}
CHILD: Final = f"{JOB_ID}:3"
SELECTING: Final = ("none", "one", "two", "an unreadable one", "one and an unreadable one")
REGIONS: Final[Mapping[str, str | None]] = {"left out": None, "allowed": "us-east-1", "foreign": "sa-east-1"}
QUEUES: Final[Mapping[str, str | None]] = {
    "allowed": QUEUE,
    "foreign": QUEUE.replace("team-a", "team-b"),
    "unknown": None,
}
TAGS: Final[Mapping[str, tuple[Any, Any]]] = {
    "allowed": (attributes(tags=OWN), None),
    "old": (attributes(tags=OWN, at=NOW - MAX_TAG_AGE - 1), None),
    "foreign": (attributes(tags=FOREIGN), None),
    "none": (attributes(tags={}), None),
    "unknown": (attributes(tags=None), None),
    "the parent's": (attributes(CHILD, tags={}), attributes(tags=OWN)),
    "the parent's, foreign": (attributes(CHILD, tags={}), attributes(tags=FOREIGN)),
    "the parent's, not described": (attributes(CHILD, tags={}), None),
}
VERBS: Final = ("Observe", "Observe, Terminate")
CASES: Final = [
    Case(*one) for one in itertools.product(Mode, SELECTING, REGIONS, QUEUES, TAGS, VERBS, (VIEW, TERMINATE))
]


def policies(selecting: str, verbs: str) -> list[Policy | InvalidPolicy]:
    of_others = a_policy("team-b", namespaceSelector={"matchLabels": {"team": "b"}}, jobs={"queues": ["*"]})
    ours = a_policy(**SPEC, allow=verbs.split(", "))
    also = a_policy("also-a", jobs={"queues": ["*"]})
    later = an_invalid_policy("later", jobs={"queues": ["*"]}, until="friday")
    found: Mapping[str, list[Policy | InvalidPolicy]] = {
        "none": [],
        "one": [ours],
        "two": [ours, also],
        "an unreadable one": [later],
        "one and an unreadable one": [ours, later],
    }
    return [of_others, *found[selecting]]


def decided(case: Case) -> str:
    choice = select_policy(policies(case.selecting, case.verbs), {"team": "a"})
    scope = resolve_scope(choice, Mode(case.mode), "train", REGIONS[case.region], OWN_REGION)
    if isinstance(scope, Deny):
        return scope.reason
    job, parent = TAGS[case.tags]
    job = attributes(job.job_id, QUEUES[case.queue], job.tags, job.observed_at)
    viewed = authorize_view(scope, job, parent)
    result = viewed if case.wanted == VIEW else authorize_terminate(scope, job, parent, NOW)
    match result:
        case Deny():
            return result.reason
        case NeedsDescribe():
            return DESCRIBE_AGAIN if isinstance(viewed, Allow) else DESCRIBE_PARENT
        case Allow():
            return case.wanted


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("selecting", SELECTING)
def test_the_table_holds_for_every_case(mode: Mode, selecting: str) -> None:
    cases = [case for case in CASES if (case.mode, case.selecting) == (mode, selecting)]
    assert len(cases) == len(REGIONS) * len(QUEUES) * len(TAGS) * len(VERBS) * 2
    assert [(case, decided(case)) for case in cases] == [(case, expected(case)) for case in cases]


def test_every_row_of_the_table_holds_for_some_case() -> None:
    assert {row_of(case) for case in CASES} == set(range(len(TABLE)))
