"""Whether a job is admitted, and whether it may be ended now: every row, and what holds for all of them."""

import copy
import itertools
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awsbatch_operator.domain.admission import (
    TAGS_HOLD_FOR,
    Admission,
    Admitted,
    Facts,
    MayEnd,
    MayNotEnd,
    MustLook,
    NotAdmitted,
    ParentNeeded,
    admit,
    parent_of,
    termination,
)
from awsbatch_operator.domain.job import ABSENT, Absent
from builders import JOB_ID, NOW
from unit.domain.policies import MINE, QUEUE, a_grant, everything, facts

BOTH = {"queues": ["team-a-*"], "tags": {"team": "a", "k8s-namespace": "${namespace}"}}
TAGS = {"tags": BOTH["tags"]}
CHILD, NODE = f"{JOB_ID}:3", f"{JOB_ID}#1"

# -- queues -----------------------------------------------------------------------------------------------------------

QUEUES: list[tuple[str, str | None, bool]] = [
    ("team-a-gpu", QUEUE, True),
    ("team-a-*", QUEUE, True),
    ("*", QUEUE, True),
    ("**", QUEUE, True),
    ("*-gpu", QUEUE, True),
    ("*a*g*", QUEUE, True),
    ("team-a-gpu*", QUEUE, True),
    ("team-a", QUEUE, False),
    ("team-a-", QUEUE, False),
    ("eam-a-gpu", QUEUE, False),
    ("Team-A-*", QUEUE, False),
    ("team-b-*", QUEUE, False),
    (QUEUE, QUEUE, True),
    ("arn:aws:batch:*:111122223333:job-queue/team-a-*", QUEUE, True),
    ("arn:aws*:batch:*:*:job-queue/*", QUEUE, True),
    ("arn:aws:batch:*:444455556666:job-queue/team-a-*", QUEUE, False),
    ("arn:aws:batch:us-*:111122223333:job-queue/team-a-*", QUEUE, False),
    ("arn:aws:batch:eu-west-1:111122223333:job-queue/team-b-*", QUEUE, False),
    ("arn:aws-cn:batch:*:*:job-queue/*", QUEUE, False),
    # A pattern for names is not held against what stands in every ARN.
    ("*batch*", QUEUE, False),
    ("*aws*", QUEUE, False),
    ("arn*", QUEUE, False),
    ("*eu-west-1*", QUEUE, False),
    ("*111122223333*", QUEUE, False),
    ("*queue*", QUEUE, False),
    # DescribeJobs may give a name, as old pages of AWS say.
    ("team-a-*", "team-a-gpu", True),
    ("team-b-*", "team-a-gpu", False),
    ("arn:aws:batch:*:*:job-queue/*", "team-a-gpu", False),
    # What is no queue is in none.
    ("*", None, False),
    ("*", "", False),
    ("*", "team-a gpu", False),
    ("*", QUEUE + "\n", False),
    ("*", QUEUE + "/team-a-gpu", False),
    ("team-a-*", "arn:aws:batch:eu-west-1:111122223333:job-queue/team-b/team-a-gpu", False),
    ("*", "arn:aws:batch:eu-west-1:111122223333:job-definition/team-a-gpu:1", False),
    ("arn:aws:batch:*:*:job-queue/*", "arn:aws:batch:eu-west-1::job-queue/team-a-gpu", False),
]


@pytest.mark.parametrize(("pattern", "queue", "admitted"), QUEUES)
def test_a_queue_is_held_against_a_pattern(pattern: str, queue: str | None, admitted: bool) -> None:
    wanted = Admitted if admitted else NotAdmitted
    for queues in ([pattern], ["nothing-like-it", pattern]):
        grant = a_grant(jobs={"queues": queues})
        # Where no tag is asked for it makes no difference which there are, or whether a job is part of another.
        for job_id, tags in itertools.product((JOB_ID, CHILD, NODE), (MINE, {}, None)):
            assert type(admit(grant, facts(job_id, queue, tags))) is wanted


NAMES = st.text("ab-_1", min_size=1, max_size=8)
PATTERNS = st.text("ab-_1*", min_size=1, max_size=8)


@given(pattern=PATTERNS, name=NAMES)
def test_patterns_mean_what_they_mean_in_shells(pattern: str, name: str) -> None:
    arn = f"arn:aws:batch:eu-west-1:111122223333:job-queue/{name}"
    by_name = admit(a_grant(jobs={"queues": [pattern]}), facts(queue=arn))
    by_arn = admit(a_grant(jobs={"queues": [f"arn:*:batch:*:*:job-queue/{pattern}"]}), facts(queue=arn))
    assert isinstance(by_name, Admitted) is fnmatchcase(name, pattern)
    assert isinstance(by_arn, Admitted) is fnmatchcase(name, pattern)


# -- tags -------------------------------------------------------------------------------------------------------------

OWN_TAGS: list[tuple[Mapping[str, str] | None, bool]] = [
    (MINE, True),
    ({"team": "a", "k8s-namespace": "train"}, True),
    ({"team": "a", "k8s-namespace": "serve"}, False),
    ({"team": "a", "k8s-namespace": "${namespace}"}, False),
    ({"team": "a", "k8s-namespace": ""}, False),
    ({"team": "a", "k8s-namespace": "Train"}, False),
    ({"team": "a", "K8s-Namespace": "train"}, False),
    ({"team": "a", "k8s-namespace": "train "}, False),
    ({"team": "b", "k8s-namespace": "train"}, False),
    ({"team": "a"}, False),
    ({"k8s-namespace": "train"}, False),
    ({}, False),
    (None, False),
]


@pytest.mark.parametrize(("tags", "admitted"), OWN_TAGS)
def test_a_job_must_have_each_tag(tags: Mapping[str, str] | None, admitted: bool) -> None:
    wanted = Admitted if admitted else NotAdmitted
    assert type(admit(a_grant(jobs=TAGS), facts(tags=tags))) is wanted
    assert type(admit(a_grant(jobs=BOTH), facts(tags=tags))) is wanted
    # A job that is part of no other has no parent to lend it tags.
    assert type(admit(a_grant(jobs=TAGS), facts(tags=tags), facts("another"))) is wanted


@pytest.mark.parametrize("job_id", [JOB_ID, CHILD, NODE])
def test_both_rules_must_hold(job_id: str) -> None:
    for queue, tags in itertools.product((QUEUE, QUEUE.replace("team-a", "team-b")), (MINE, {"team": "b"})):
        admission = admit(a_grant(jobs=BOTH), facts(job_id, queue, tags if job_id == JOB_ID else {}), facts(tags=tags))
        assert isinstance(admission, Admitted) is (queue == QUEUE and tags == MINE)


def test_a_tag_may_hold_the_namespace_among_other_words() -> None:
    grant = a_grant("train", jobs={"tags": {"owner": "ns/${namespace}@prod/${namespace}", "note": "*", "price": "$5"}})
    right = {"owner": "ns/train@prod/train", "note": "*", "price": "$5"}
    assert isinstance(admit(grant, facts(tags=right)), Admitted)
    assert isinstance(admit(grant, facts(tags={**right, "note": "anything"})), NotAdmitted)
    assert isinstance(
        admit(a_grant("serve", jobs={"tags": {"o": "${namespace}"}}), facts(tags={"o": "train"})), NotAdmitted
    )


# -- children and nodes -----------------------------------------------------------------------------------------------

PARENTS: list[tuple[Facts | Absent | None, Mapping[str, str] | None, type]] = [
    (None, {}, ParentNeeded),
    (None, MINE, ParentNeeded),
    (None, None, NotAdmitted),
    (ABSENT, {}, NotAdmitted),
    (ABSENT, MINE, NotAdmitted),
    (facts(), {}, Admitted),
    (facts(), MINE, Admitted),
    (facts(), {"run": "18"}, Admitted),
    (facts(), {"team": "b"}, NotAdmitted),
    (facts(), {"team": "a", "k8s-namespace": "serve"}, NotAdmitted),
    (facts(), None, NotAdmitted),
    (facts(tags={}), {}, NotAdmitted),
    (facts(tags={}), MINE, NotAdmitted),
    (facts(tags=None), MINE, NotAdmitted),
    (facts(tags={"team": "b"}), MINE, NotAdmitted),
    # The tags of another job than the one that it is part of.
    (facts("another"), {}, NotAdmitted),
    (facts("another"), MINE, NotAdmitted),
    (facts(CHILD), {}, NotAdmitted),
]


@pytest.mark.parametrize("job_id", [CHILD, NODE])
@pytest.mark.parametrize(("parent", "own", "wanted"), PARENTS)
def test_a_part_is_held_against_the_tags_of_the_whole(
    job_id: str, parent: Facts | Absent | None, own: Mapping[str, str] | None, wanted: type
) -> None:
    admission = admit(a_grant(jobs=BOTH), facts(job_id, tags=own), parent)
    assert type(admission) is wanted
    if isinstance(admission, ParentNeeded):
        assert admission.job_id == JOB_ID


def test_the_parent_of_what_is_refused_anyway_is_not_asked_for() -> None:
    assert isinstance(admit(a_grant(jobs=BOTH), facts(CHILD, queue=None, tags={})), NotAdmitted)


@pytest.mark.parametrize(
    ("job_id", "parent"),
    [
        (CHILD, JOB_ID),
        (NODE, JOB_ID),
        ("a:0", "a"),
        (JOB_ID, None),
        ("a:b", None),
        ("a:1:2", None),
        (":1", None),
        ("", None),
    ],
)
def test_the_id_of_a_part_holds_that_of_the_whole(job_id: str, parent: str | None) -> None:
    assert parent_of(job_id) == parent


# -- without a policy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job_id", [JOB_ID, CHILD, NODE])
def test_where_none_is_required_and_none_selects_every_job_is_admitted(job_id: str) -> None:
    admission = admit(everything(), facts(job_id, None, None))
    assert isinstance(admission, Admitted)
    assert isinstance(termination(admission, NOW + 10 * TAGS_HOLD_FOR), MayEnd)


# -- ending -----------------------------------------------------------------------------------------------------------

FOREIGN = {"team": "b"}
LATE = NOW + TAGS_HOLD_FOR
ENDINGS: list[tuple[dict[str, Any], Facts, Facts | None, int, type | str]] = [
    ({"jobs": BOTH}, facts(), None, NOW, MayEnd),
    ({"jobs": BOTH}, facts(), None, LATE, MayEnd),
    ({"jobs": BOTH}, facts(), None, LATE + 1, MustLook),
    ({"jobs": BOTH}, facts(), None, NOW - 1, MustLook),
    ({"jobs": BOTH}, facts(tags=FOREIGN), None, NOW, "JobNotAllowed"),
    ({"jobs": BOTH}, facts(tags=FOREIGN), None, LATE + 1, "JobNotAllowed"),
    ({"jobs": BOTH}, facts(queue=None), None, NOW, "JobNotAllowed"),
    # A queue is for life.
    ({}, facts(), None, LATE + 1, MayEnd),
    ({}, facts(), None, NOW - 1, MayEnd),
    ({"jobs": BOTH, "allow": ["Observe"]}, facts(), None, NOW, "TerminationNotAllowed"),
    ({"jobs": BOTH, "allow": ["Observe"]}, facts(), None, LATE + 1, "TerminationNotAllowed"),
    ({"jobs": BOTH, "allow": ["Observe"]}, facts(tags=FOREIGN), None, NOW, "JobNotAllowed"),
    ({"allow": ["Observe"]}, facts(), None, NOW, "TerminationNotAllowed"),
    # A part is as old as the older of the two looks.
    ({"jobs": BOTH}, facts(CHILD, tags={}), None, NOW, MustLook),
    ({"jobs": BOTH}, facts(CHILD, tags={}), facts(), LATE, MayEnd),
    ({"jobs": BOTH}, facts(CHILD, tags={}, at=LATE), facts(), LATE + 1, MustLook),
    ({"jobs": BOTH}, facts(CHILD, tags={}), facts(at=LATE), LATE + 1, MustLook),
    ({"jobs": BOTH}, facts(CHILD, tags={}), facts(tags=FOREIGN), NOW, "JobNotAllowed"),
]


@pytest.mark.parametrize(("spec", "job", "parent", "now", "outcome"), ENDINGS)
def test_whether_a_job_may_be_ended(
    spec: dict[str, Any], job: Facts, parent: Facts | None, now: int, outcome: type | str
) -> None:
    may = termination(admit(a_grant(**spec), job, parent), now)
    if isinstance(outcome, str):
        assert isinstance(may, MayNotEnd)
        assert may.refusal.reason == outcome
    else:
        assert type(may) is outcome


def test_who_must_look_again_looks_at_all_that_the_yes_rests_on() -> None:
    plain = termination(admit(a_grant(jobs=BOTH), facts()), LATE + 1)
    part = termination(admit(a_grant(jobs=BOTH), facts(CHILD, tags={}), facts()), LATE + 1)
    unknown = termination(admit(a_grant(jobs=BOTH), facts(CHILD, tags={})), NOW)
    assert plain == MustLook((JOB_ID,))
    assert part == MustLook((CHILD, JOB_ID))
    assert unknown == MustLook((JOB_ID,))


def test_leave_to_end_a_job_lapses_with_time_and_with_the_grant() -> None:
    grant = a_grant(jobs=BOTH)
    leave = termination(admit(grant, facts()), NOW + 5)
    assert isinstance(leave, MayEnd)
    assert [leave.holds(grant, at) for at in (NOW - 1, NOW, LATE, LATE + 1)] == [False, True, True, False]
    assert leave.holds(a_grant(jobs=BOTH), NOW), "the policy was written anew and says the same"
    narrower = a_grant(jobs={**BOTH, "queues": ["team-a-gpu"]})
    for other in (narrower, a_grant("serve", jobs=BOTH), a_grant(jobs=BOTH, allow=["Observe"]), None):
        assert not leave.holds(other, NOW)


def test_leave_by_a_queue_lapses_with_the_grant_alone() -> None:
    leave = termination(admit(a_grant(), facts()), NOW)
    assert isinstance(leave, MayEnd)
    assert leave.holds(a_grant(), NOW - 1)
    assert leave.holds(a_grant(), NOW + 100 * TAGS_HOLD_FOR)
    assert not leave.holds(a_grant(jobs={"queues": ["*"]}), NOW)


# -- what a verdict is ------------------------------------------------------------------------------------------------


def test_only_admit_makes_a_yes() -> None:
    admission = admit(a_grant(), facts())
    leave = termination(admission, NOW)
    assert isinstance(admission, Admitted)
    assert isinstance(leave, MayEnd)
    with pytest.raises(TypeError, match="only admit"):
        Admitted(a_grant(), JOB_ID, NOW, None)
    with pytest.raises(TypeError, match="only termination"):
        MayEnd(a_grant(), JOB_ID, None, None)
    with pytest.raises(TypeError):
        Admitted(a_grant(), JOB_ID, NOW)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="seal"):
        replace(admission, job_id="another")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="seal"):
        replace(leave, job_id="another")  # type: ignore[call-arg]
    assert copy.copy(admission) == admission


@pytest.mark.parametrize(
    "verdict",
    [
        admit(a_grant(), facts()),
        admit(a_grant(), facts(queue=None)),
        admit(a_grant(jobs=TAGS), facts(CHILD)),
        termination(admit(a_grant(), facts()), NOW),
        termination(admit(a_grant(), facts(queue=None)), NOW),
        termination(admit(a_grant(jobs=TAGS), facts(CHILD)), NOW),
    ],
    ids=lambda verdict: type(verdict).__name__,
)
def test_a_ruling_is_no_truth(verdict: Any) -> None:
    with pytest.raises(TypeError, match="match its type"):
        assert verdict


# -- properties -------------------------------------------------------------------------------------------------------

KEYS, VALUES = st.sampled_from(["team", "k8s-namespace", "run"]), st.sampled_from(["a", "b", "train", "serve", ""])
TAG_RULES = st.dictionaries(KEYS, VALUES | st.just("${namespace}"), min_size=1, max_size=3)
QUEUE_RULES = st.lists(
    st.sampled_from(["team-a-*", "team-b-*", "*-gpu", "arn:aws:batch:*:111122223333:job-queue/team-b-*"]),
    min_size=1,
    max_size=2,
    unique=True,
)
RULES = st.one_of(
    st.fixed_dictionaries({"queues": QUEUE_RULES}),
    st.fixed_dictionaries({"tags": TAG_RULES}),
    st.fixed_dictionaries({"queues": QUEUE_RULES, "tags": TAG_RULES}),
)
NAMED = ["team-a-gpu", "team-b-gpu", "shared"]
FACTS = st.builds(
    Facts,
    job_id=st.sampled_from([JOB_ID, CHILD, NODE, "another"]),
    queue=st.none() | st.sampled_from([f"arn:aws:batch:eu-west-1:111122223333:job-queue/{name}" for name in NAMED]),
    tags=st.none() | st.dictionaries(KEYS, VALUES, max_size=3),
    seen_at=st.integers(NOW - 2 * TAGS_HOLD_FOR, NOW),
)
PARENT = st.none() | st.just(ABSENT) | FACTS


def by_hand(spec: Mapping[str, Any], job: Facts, parent: Facts | Absent | None) -> bool:
    """The issue's words: every stated rule must hold, and of a part the tags are those of the whole."""
    name = (job.queue or "").rpartition("/")[2]
    subjects = {pattern: job.queue or "" if ":" in pattern else name for pattern in spec.get("queues", ())}
    held = ["queues" not in spec or any(subject and fnmatchcase(subject, one) for one, subject in subjects.items())]
    whole = parent if isinstance(parent, Facts) and parent.job_id == JOB_ID else None
    deciding = whole if job.job_id in (CHILD, NODE) else job
    above = None if deciding is None else deciding.tags
    for key, value in spec.get("tags", {}).items():
        wanted = "train" if value == "${namespace}" else value
        known = job.tags is not None and above is not None
        held.append(known and (above or {}).get(key) == wanted == (job.tags or {}).get(key, wanted))
    return all(held)


@given(spec=RULES, job=FACTS, parent=PARENT)
def test_a_job_is_admitted_exactly_when_every_stated_rule_holds(
    spec: Mapping[str, Any], job: Facts, parent: Facts | Absent | None
) -> None:
    admission = admit(a_grant(jobs=dict(spec)), job, parent)
    assert isinstance(admission, Admitted) is by_hand(spec, job, parent)


@given(spec=RULES, job=FACTS, parent=PARENT, data=st.data())
def test_no_form_of_a_policy_changes_what_it_admits(
    spec: Mapping[str, Any], job: Facts, parent: Facts | Absent | None, data: st.DataObject
) -> None:
    """Fields, tags and patterns in another order, a pattern beside one that holds it: the same verdict."""
    queues = data.draw(st.permutations(spec.get("queues", [])))
    tags = dict(data.draw(st.permutations(list(spec.get("tags", {}).items()))))
    other = {field: value for field, value in (("tags", tags), ("queues", queues)) if value}
    one, another = (admit(a_grant(jobs=form), job, parent) for form in (dict(spec), other))
    assert type(one) is type(another)
    assert kept(one) == kept(another)


def kept(admission: Admission) -> tuple[str, int] | str:
    match admission:
        case Admitted(job_id=job_id, seen_at=seen_at):
            return job_id, seen_at
        case NotAdmitted(policy=policy):
            return policy
        case ParentNeeded(job_id=job_id):
            return job_id


@given(spec=RULES, more=RULES, job=FACTS, parent=PARENT)
def test_a_rule_more_admits_no_more(spec: dict[str, Any], more: dict[str, Any], job: Facts, parent: Any) -> None:
    narrower = {**more, **spec, "tags": {**more.get("tags", {}), **spec.get("tags", {})}}
    if not narrower["tags"]:
        del narrower["tags"]
    if isinstance(admit(a_grant(jobs=narrower), job, parent), Admitted):
        assert isinstance(admit(a_grant(jobs=spec), job, parent), Admitted)


@given(spec=RULES, job=FACTS, parent=PARENT, less=st.sampled_from(["queue", "tags", "parent"]))
def test_to_know_less_admits_no_more(spec: dict[str, Any], job: Facts, parent: Any, less: str) -> None:
    grant = a_grant(jobs=spec)
    fewer = replace(job, queue=None if less == "queue" else job.queue, tags=None if less == "tags" else job.tags)
    if isinstance(admit(grant, fewer, None if less == "parent" else parent), Admitted):
        assert isinstance(admit(grant, job, parent), Admitted)


@given(spec=RULES, one=FACTS, other=FACTS, parent=PARENT)
def test_a_no_is_the_same_for_every_job(spec: dict[str, Any], one: Facts, other: Facts, parent: Any) -> None:
    grant = a_grant(jobs=spec)
    noes = [verdict for job in (one, other) if isinstance(verdict := admit(grant, job, parent), NotAdmitted)]
    assert len(set(noes)) <= 1
    for no in noes:
        assert no == NotAdmitted("team-a")
        assert termination(no, NOW) == MayNotEnd(no.refusal)
        words = f"{no} {no.refusal}"
        assert not any(secret in words for secret in (JOB_ID, *NAMED, "gpu", "train", "111122223333"))


@given(
    spec=RULES,
    job=FACTS,
    parent=PARENT,
    allow=st.sampled_from([["Observe"], ["Observe", "Terminate"]]),
    now=st.integers(NOW - 3 * TAGS_HOLD_FOR, NOW + 3 * TAGS_HOLD_FOR),
)
def test_leave_is_given_only_for_what_is_admitted_allowed_and_fresh(
    spec: dict[str, Any], job: Facts, parent: Any, allow: list[str], now: int
) -> None:
    grant = a_grant(jobs=spec, allow=allow)
    admission = admit(grant, job, parent)
    leave = termination(admission, now)
    if isinstance(leave, MayEnd):
        assert isinstance(admission, Admitted)
        assert "Terminate" in allow
        assert (leave.grant, leave.job_id) == (grant, job.job_id)
        assert leave.holds(grant, now)
        assert by_hand(spec, job, parent)
        if "tags" in spec:
            assert 0 <= now - job.seen_at <= TAGS_HOLD_FOR
