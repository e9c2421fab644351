"""Whether a job is admitted, and whether it may be terminated now: every row, and the properties of all of them."""

import copy
import itertools
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awsbatch_operator.api.access_policy import Verb
from awsbatch_operator.api.job import NOT_FOUND, NotFound
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.policy.authorizer import (
    MAX_TAG_AGE,
    Allow,
    JobAttributes,
    NeedsDescribe,
    allow_is_valid,
    authorize_terminate,
    authorize_view,
    deciding_parent,
    job_not_allowed,
    parent_of,
    terminate_denied,
)
from awsbatch_operator.policy.resolution import Deny, Scope
from builders import JOB_ID, NOW
from unit.policy.policies import MINE, QUEUE, a_scope, attributes, unrestricted

BOTH = {"queues": ["team-a-*"], "tags": {"team": "a", "k8s-namespace": "${namespace}"}}
TAGS = {"tags": BOTH["tags"]}
CHILD, NODE = f"{JOB_ID}:3", f"{JOB_ID}#1"


def view(
    scope: Scope, job: JobAttributes, parent: JobAttributes | NotFound | None = None
) -> Allow | Deny | NeedsDescribe:
    return authorize_view(scope, job, parent)


def terminate(
    scope: Scope, job: JobAttributes, parent: JobAttributes | NotFound | None = None, now: Millis = NOW
) -> Allow | Deny | NeedsDescribe:
    return authorize_terminate(scope, job, parent, now)


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
    # A pattern for names does not match the words that every ARN contains.
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
    # What is no queue matches no pattern.
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
def test_a_queue_must_match_a_pattern(pattern: str, queue: str | None, admitted: bool) -> None:
    wanted = Allow if admitted else Deny
    for queues in ([pattern], ["nothing-like-it", pattern]):
        scope = a_scope(jobs={"queues": queues})
        # A policy without tags ignores the tags of a job, and whether it is a child.
        for job_id, tags in itertools.product((JOB_ID, CHILD, NODE), (MINE, {}, None)):
            assert type(view(scope, attributes(job_id, queue, tags))) is wanted


NAMES = st.text("ab-_1", min_size=1, max_size=8)
PATTERNS = st.text("ab-_1*", min_size=1, max_size=8)


@given(pattern=PATTERNS, name=NAMES)
def test_patterns_work_as_in_a_shell(pattern: str, name: str) -> None:
    arn = f"arn:aws:batch:eu-west-1:111122223333:job-queue/{name}"
    by_name = view(a_scope(jobs={"queues": [pattern]}), attributes(queue=arn))
    by_arn = view(a_scope(jobs={"queues": [f"arn:*:batch:*:*:job-queue/{pattern}"]}), attributes(queue=arn))
    assert isinstance(by_name, Allow) is fnmatchcase(name, pattern)
    assert isinstance(by_arn, Allow) is fnmatchcase(name, pattern)


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
    wanted = Allow if admitted else Deny
    assert type(view(a_scope(jobs=TAGS), attributes(tags=tags))) is wanted
    assert type(view(a_scope(jobs=BOTH), attributes(tags=tags))) is wanted
    # Another job lends no tags to one that is no child.
    assert type(view(a_scope(jobs=TAGS), attributes(tags=tags), attributes("another"))) is wanted


@pytest.mark.parametrize("job_id", [JOB_ID, CHILD, NODE])
def test_both_rules_must_hold(job_id: str) -> None:
    for queue, tags in itertools.product((QUEUE, QUEUE.replace("team-a", "team-b")), (MINE, {"team": "b"})):
        result = view(
            a_scope(jobs=BOTH), attributes(job_id, queue, tags if job_id == JOB_ID else {}), attributes(tags=tags)
        )
        assert isinstance(result, Allow) is (queue == QUEUE and tags == MINE)


def test_a_tag_may_contain_the_namespace_among_other_words() -> None:
    scope = a_scope("train", jobs={"tags": {"owner": "ns/${namespace}@prod/${namespace}", "note": "*", "price": "$5"}})
    right = {"owner": "ns/train@prod/train", "note": "*", "price": "$5"}
    assert isinstance(view(scope, attributes(tags=right)), Allow)
    assert isinstance(view(scope, attributes(tags={**right, "note": "anything"})), Deny)
    assert isinstance(
        view(a_scope("serve", jobs={"tags": {"o": "${namespace}"}}), attributes(tags={"o": "train"})), Deny
    )


# -- children and nodes -----------------------------------------------------------------------------------------------

PARENTS: list[tuple[JobAttributes | NotFound | None, Mapping[str, str] | None, type]] = [
    (None, {}, NeedsDescribe),
    (None, MINE, NeedsDescribe),
    (None, None, Deny),
    (NOT_FOUND, {}, Deny),
    (NOT_FOUND, MINE, Deny),
    (attributes(), {}, Allow),
    (attributes(), MINE, Allow),
    (attributes(), {"run": "18"}, Allow),
    (attributes(), {"team": "b"}, Deny),
    (attributes(), {"team": "a", "k8s-namespace": "serve"}, Deny),
    (attributes(), None, Deny),
    (attributes(tags={}), {}, Deny),
    (attributes(tags={}), MINE, Deny),
    (attributes(tags=None), MINE, Deny),
    (attributes(tags={"team": "b"}), MINE, Deny),
    # The tags of a job that is not the parent.
    (attributes("another"), {}, Deny),
    (attributes("another"), MINE, Deny),
    (attributes(CHILD), {}, Deny),
]


@pytest.mark.parametrize("job_id", [CHILD, NODE])
@pytest.mark.parametrize(("parent", "own", "wanted"), PARENTS)
def test_a_child_is_judged_by_the_tags_of_its_parent(
    job_id: str, parent: JobAttributes | NotFound | None, own: Mapping[str, str] | None, wanted: type
) -> None:
    result = view(a_scope(jobs=BOTH), attributes(job_id, tags=own), parent)
    assert type(result) is wanted
    if isinstance(result, NeedsDescribe):
        assert result == NeedsDescribe((JOB_ID,))


def test_the_parent_of_a_job_in_a_denied_queue_is_not_described() -> None:
    assert isinstance(view(a_scope(jobs=BOTH), attributes(CHILD, queue=None, tags={})), Deny)


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
def test_the_id_of_a_child_contains_that_of_its_parent(job_id: str, parent: str | None) -> None:
    assert parent_of(job_id) == parent
    assert deciding_parent(a_scope(jobs=TAGS), job_id) == parent
    assert deciding_parent(a_scope(), job_id) is None
    assert deciding_parent(unrestricted(), job_id) is None


# -- without a policy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job_id", [JOB_ID, CHILD, NODE])
def test_an_unrestricted_scope_admits_every_job_without_a_time_limit(job_id: str) -> None:
    job = attributes(job_id, None, None)
    assert isinstance(view(unrestricted(), job), Allow)
    allow = terminate(unrestricted(), job, now=NOW + 10 * MAX_TAG_AGE)
    assert isinstance(allow, Allow)
    assert allow.valid_until is None


# -- terminating -------------------------------------------------------------------------------------------------

FOREIGN = {"team": "b"}
LATE = NOW + MAX_TAG_AGE
TERMINATIONS: list[tuple[dict[str, Any], JobAttributes, JobAttributes | None, int, type | str]] = [
    ({"jobs": BOTH}, attributes(), None, NOW, Allow),
    ({"jobs": BOTH}, attributes(), None, LATE, Allow),
    ({"jobs": BOTH}, attributes(), None, LATE + 1, NeedsDescribe),
    ({"jobs": BOTH}, attributes(), None, NOW - 1, NeedsDescribe),
    ({"jobs": BOTH}, attributes(tags=FOREIGN), None, NOW, "JobNotAllowed"),
    ({"jobs": BOTH}, attributes(tags=FOREIGN), None, LATE + 1, "JobNotAllowed"),
    ({"jobs": BOTH}, attributes(queue=None), None, NOW, "JobNotAllowed"),
    # A job stays in its queue.
    ({}, attributes(), None, LATE + 1, Allow),
    ({}, attributes(), None, NOW - 1, Allow),
    ({"jobs": BOTH, "allow": ["Observe"]}, attributes(), None, NOW, "TerminationNotAllowed"),
    ({"jobs": BOTH, "allow": ["Observe"]}, attributes(), None, LATE + 1, "TerminationNotAllowed"),
    ({"jobs": BOTH, "allow": ["Observe"]}, attributes(tags=FOREIGN), None, NOW, "JobNotAllowed"),
    ({"allow": ["Observe"]}, attributes(), None, NOW, "TerminationNotAllowed"),
    # The older of the two observations counts for a child.
    ({"jobs": BOTH}, attributes(CHILD, tags={}), None, NOW, NeedsDescribe),
    ({"jobs": BOTH}, attributes(CHILD, tags={}), attributes(), LATE, Allow),
    ({"jobs": BOTH}, attributes(CHILD, tags={}, at=LATE), attributes(), LATE + 1, NeedsDescribe),
    ({"jobs": BOTH}, attributes(CHILD, tags={}), attributes(at=LATE), LATE + 1, NeedsDescribe),
    ({"jobs": BOTH}, attributes(CHILD, tags={}), attributes(tags=FOREIGN), NOW, "JobNotAllowed"),
]


@pytest.mark.parametrize(("spec", "job", "parent", "now", "outcome"), TERMINATIONS)
def test_whether_a_job_may_be_terminated(
    spec: dict[str, Any], job: JobAttributes, parent: JobAttributes | None, now: int, outcome: type | str
) -> None:
    result = terminate(a_scope(**spec), job, parent, now=now)
    if isinstance(outcome, str):
        assert isinstance(result, Deny)
        assert result.reason == outcome
        assert result.hidden == (outcome == "JobNotAllowed"), "a job that may be observed is not hidden"
    else:
        assert type(result) is outcome


def test_all_jobs_that_the_answer_depends_on_are_described_again() -> None:
    plain = terminate(a_scope(jobs=BOTH), attributes(), now=LATE + 1)
    child = terminate(a_scope(jobs=BOTH), attributes(CHILD, tags={}), attributes(), now=LATE + 1)
    unknown = terminate(a_scope(jobs=BOTH), attributes(CHILD, tags={}))
    assert plain == NeedsDescribe((JOB_ID,))
    assert child == NeedsDescribe((CHILD, JOB_ID))
    assert unknown == NeedsDescribe((JOB_ID,))


def test_an_allow_by_tags_expires_with_time_and_with_the_scope() -> None:
    scope = a_scope(jobs=BOTH)
    allow = terminate(scope, attributes(), now=NOW + 5)
    assert isinstance(allow, Allow)
    valid = [allow_is_valid(allow, scope, at) for at in (NOW - 1, NOW, LATE, LATE + 1)]
    assert valid == [False, True, True, False]
    assert allow_is_valid(allow, a_scope(jobs=BOTH), NOW), "the policy was written again and says the same"
    narrower = a_scope(jobs={**BOTH, "queues": ["team-a-gpu"]})
    denied = job_not_allowed("team-a")
    for other in (narrower, a_scope("serve", jobs=BOTH), a_scope(jobs=BOTH, allow=["Observe"]), denied, None):
        assert not allow_is_valid(allow, other, NOW)


def test_an_allow_by_queue_expires_with_the_scope_only() -> None:
    allow = terminate(a_scope(), attributes())
    assert isinstance(allow, Allow)
    assert allow_is_valid(allow, a_scope(), NOW - 1)
    assert allow_is_valid(allow, a_scope(), NOW + 100 * MAX_TAG_AGE)
    assert not allow_is_valid(allow, a_scope(jobs={"queues": ["*"]}), NOW)


def test_an_allow_to_view_a_job_terminates_nothing() -> None:
    allow = view(a_scope(), attributes())
    assert isinstance(allow, Allow)
    assert not allow_is_valid(allow, a_scope(), NOW)


def test_a_scope_says_beforehand_that_it_lacks_the_verb() -> None:
    observe = a_scope(allow=["Observe"])
    assert terminate_denied(observe) == terminate(observe, attributes())
    assert terminate_denied(a_scope()) is None


# -- what a result is -------------------------------------------------------------------------------------------------


def test_only_the_authorizer_makes_an_allow() -> None:
    allow = terminate(a_scope(), attributes())
    assert isinstance(allow, Allow)
    with pytest.raises(TypeError, match="only authorize_view"):
        Allow(a_scope(), JOB_ID, Verb.TERMINATE, None, None)
    with pytest.raises(TypeError):
        Allow(a_scope(), JOB_ID, Verb.TERMINATE, None)  # type: ignore[call-arg]
    with pytest.raises((TypeError, ValueError), match="seal"):  # a TypeError since Python 3.13
        replace(allow, job_id="another")  # type: ignore[call-arg]
    assert copy.copy(allow) == allow


@pytest.mark.parametrize(
    "result",
    [
        terminate(a_scope(), attributes()),
        view(a_scope(), attributes(queue=None)),
        view(a_scope(jobs=TAGS), attributes(CHILD)),
    ],
    ids=lambda result: type(result).__name__,
)
def test_a_result_has_no_truth_value(result: Any) -> None:
    with pytest.raises(TypeError, match="match its type"):
        assert result


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
ATTRIBUTES = st.builds(
    JobAttributes,
    job_id=st.sampled_from([JOB_ID, CHILD, NODE, "another"]),
    queue=st.none() | st.sampled_from([f"arn:aws:batch:eu-west-1:111122223333:job-queue/{name}" for name in NAMED]),
    tags=st.none() | st.dictionaries(KEYS, VALUES, max_size=3),
    observed_at=st.integers(NOW - 2 * MAX_TAG_AGE, NOW),
)
PARENT = st.none() | st.just(NOT_FOUND) | ATTRIBUTES


def by_hand(spec: Mapping[str, Any], job: JobAttributes, parent: JobAttributes | NotFound | None) -> bool:
    """The issue's words: every stated rule must hold, and of a part the tags are those of the whole."""
    name = (job.queue or "").rpartition("/")[2]
    subjects = {pattern: job.queue or "" if ":" in pattern else name for pattern in spec.get("queues", ())}
    held = ["queues" not in spec or any(subject and fnmatchcase(subject, one) for one, subject in subjects.items())]
    whole = parent if isinstance(parent, JobAttributes) and parent.job_id == JOB_ID else None
    deciding = whole if job.job_id in (CHILD, NODE) else job
    above = None if deciding is None else deciding.tags
    for key, value in spec.get("tags", {}).items():
        wanted = "train" if value == "${namespace}" else value
        known = job.tags is not None and above is not None
        held.append(known and (above or {}).get(key) == wanted == (job.tags or {}).get(key, wanted))
    return all(held)


@given(spec=RULES, job=ATTRIBUTES, parent=PARENT)
def test_a_job_is_admitted_exactly_when_every_stated_rule_holds(
    spec: Mapping[str, Any], job: JobAttributes, parent: JobAttributes | NotFound | None
) -> None:
    result = view(a_scope(jobs=dict(spec)), job, parent)
    assert isinstance(result, Allow) is by_hand(spec, job, parent)


@given(spec=RULES, job=ATTRIBUTES, parent=PARENT, data=st.data())
def test_no_form_of_a_policy_changes_what_it_admits(
    spec: Mapping[str, Any], job: JobAttributes, parent: JobAttributes | NotFound | None, data: st.DataObject
) -> None:
    """Fields, tags and patterns in another order, a pattern beside one that holds it: the same result."""
    queues = data.draw(st.permutations(spec.get("queues", [])))
    tags = dict(data.draw(st.permutations(list(spec.get("tags", {}).items()))))
    other = {field: value for field, value in (("tags", tags), ("queues", queues)) if value}
    one, another = (terminate(a_scope(jobs=form), job, parent) for form in (dict(spec), other))
    assert type(one) is type(another)
    assert essence(one) == essence(another)


def essence(result: Allow | Deny | NeedsDescribe) -> object:
    """All of it but the scope: that is equal only if the policy states its patterns in one order."""
    return (result.job_id, result.verb, result.valid_until) if isinstance(result, Allow) else result


@given(spec=RULES, more=RULES, job=ATTRIBUTES, parent=PARENT)
def test_a_further_rule_admits_no_more(
    spec: dict[str, Any], more: dict[str, Any], job: JobAttributes, parent: Any
) -> None:
    narrower = {**more, **spec, "tags": {**more.get("tags", {}), **spec.get("tags", {})}}
    if not narrower["tags"]:
        del narrower["tags"]
    if isinstance(view(a_scope(jobs=narrower), job, parent), Allow):
        assert isinstance(view(a_scope(jobs=spec), job, parent), Allow)


@given(spec=RULES, job=ATTRIBUTES, parent=PARENT, less=st.sampled_from(["queue", "tags", "parent"]))
def test_knowing_less_admits_no_more(spec: dict[str, Any], job: JobAttributes, parent: Any, less: str) -> None:
    scope = a_scope(jobs=spec)
    fewer = replace(job, queue=None if less == "queue" else job.queue, tags=None if less == "tags" else job.tags)
    if isinstance(view(scope, fewer, None if less == "parent" else parent), Allow):
        assert isinstance(view(scope, job, parent), Allow)


@given(spec=RULES, one=ATTRIBUTES, other=ATTRIBUTES, parent=PARENT)
def test_a_denial_is_the_same_for_every_job(
    spec: dict[str, Any], one: JobAttributes, other: JobAttributes, parent: Any
) -> None:
    scope = a_scope(jobs=spec)
    denials = [result for job in (one, other) if isinstance(result := view(scope, job, parent), Deny)]
    for deny in denials:
        assert deny == job_not_allowed("team-a")
        assert not any(secret in f"{deny}" for secret in (JOB_ID, *NAMED, "gpu", "train", "111122223333"))
    for job in (one, other):
        if isinstance(view(scope, job, parent), Deny):
            assert terminate(scope, job, parent) == job_not_allowed("team-a")


@given(
    spec=RULES,
    job=ATTRIBUTES,
    parent=PARENT,
    allow=st.sampled_from([["Observe"], ["Observe", "Terminate"]]),
    now=st.integers(NOW - 3 * MAX_TAG_AGE, NOW + 3 * MAX_TAG_AGE),
)
def test_a_termination_is_allowed_only_for_what_is_admitted_allowed_and_fresh(
    spec: dict[str, Any], job: JobAttributes, parent: Any, allow: list[str], now: int
) -> None:
    scope = a_scope(jobs=spec, allow=allow)
    result = terminate(scope, job, parent, now)
    if isinstance(result, Allow):
        assert isinstance(view(scope, job, parent), Allow)
        assert "Terminate" in allow
        assert (result.scope, result.job_id, result.verb) == (scope, job.job_id, Verb.TERMINATE)
        assert allow_is_valid(result, scope, now)
        assert by_hand(spec, job, parent)
        if "tags" in spec:
            assert 0 <= now - job.observed_at <= MAX_TAG_AGE
