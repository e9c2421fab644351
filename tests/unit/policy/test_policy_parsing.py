"""Policies are parsed as strictly as by the API server, and each fault is named."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from awsbatch_operator.api.access_policy import DEFAULT_VERBS, InvalidPolicy, Policy, Rules, Verb, parse_policy
from awsbatch_operator.api.label_selector import Operator, Requirement, Selector

EXAMPLES = Path(__file__).parents[3] / "crds" / "examples"
# Without the examples of a status, which the operator writes and does not read.
VALID = [
    path for path in sorted((EXAMPLES / "valid").glob("policy-*.yaml")) if not path.stem.startswith("policy-status")
]
INVALID: dict[str, Any] = {
    entry["name"]: entry["object"].get("spec")
    for entry in yaml.load((EXAMPLES / "invalid.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    if entry["name"].startswith("policy-") and not entry["name"].startswith("policy-status")
}
ROLE = "arn:aws:iam::111122223333:role/batch-team-a"
TEAM_A: dict[str, Any] = {"namespaceSelector": {"matchLabels": {"team": "a"}}, "jobs": {"queues": ["team-a-*"]}}


def spec_of(example: Path) -> Any:
    *_, last = yaml.load_all(example.read_text(encoding="utf-8"), yaml.CSafeLoader)
    return last.get("spec")


def faults_of(spec: object) -> tuple[str, ...]:
    unreadable = parse_policy("team-a", spec)
    assert isinstance(unreadable, InvalidPolicy)
    return unreadable.faults


def test_there_are_examples() -> None:
    assert len(VALID) >= 10
    assert len(INVALID) >= 50


@pytest.mark.parametrize("example", VALID, ids=lambda path: path.stem)
def test_examples_that_the_api_server_accepts_are_parsed(example: Path) -> None:
    assert isinstance(parse_policy("any", spec_of(example)), Policy)


@pytest.mark.parametrize("name", INVALID)
def test_examples_that_the_api_server_rejects_are_invalid(name: str) -> None:
    assert isinstance(parse_policy("any", INVALID[name]), InvalidPolicy)


def test_a_policy_in_full() -> None:
    spec = {
        "namespaceSelector": {
            "matchLabels": {"team": "a"},
            "matchExpressions": [
                {"key": "stage", "operator": "NotIn", "values": ["prod", "test"]},
                {"key": "owner", "operator": "Exists"},
            ],
        },
        "role": {"arn": ROLE},
        "regions": ["eu-west-1", "us-east-1"],
        "jobs": {"queues": ["b-*", "a"], "tags": {"team": "a", "k8s-namespace": "${namespace}"}},
        "allow": ["Observe"],
    }
    assert parse_policy("team-a", spec) == Policy(
        name="team-a",
        selector=Selector(
            {"team": "a"},
            (
                Requirement("stage", Operator.NOT_IN, frozenset({"prod", "test"})),
                Requirement("owner", Operator.EXISTS),
            ),
        ),
        rules=Rules(("b-*", "a"), (("k8s-namespace", "${namespace}"), ("team", "a"))),
        role=ROLE,
        regions=("eu-west-1", "us-east-1"),
        allow=frozenset({Verb.OBSERVE}),
    )


def test_omitted_fields_have_no_value() -> None:
    short = parse_policy("team-a", TEAM_A)
    assert isinstance(short, Policy)
    assert (short.role, short.regions, short.allow, short.rules.tags) == (None, (), frozenset(DEFAULT_VERBS), ())


def test_all_broken_rules_are_reported_at_once() -> None:
    spec = {
        "namespaceSelector": {
            "matchLabels": {"team": "-"},
            "matchExpressions": [
                {"key": "!", "operator": "In"},
                {"key": "team", "operator": "Exists", "values": ["a", "a b"]},
            ],
        },
        "role": {"arn": "batch-team-a"},
        "regions": ["eu-west-1a", "eu-west-1a", "cn-north-1"],
        "jobs": {"queues": ["team-?"], "tags": {"aws:a": "${team}", "b": "v" * 257}},
        "allow": ["Terminate", "Terminate"],
    }
    assert faults_of(spec) == (
        "spec.namespaceSelector.matchLabels has a value that no label can have",
        "spec.namespaceSelector.matchExpressions[0] has a key that no label can have",
        "spec.namespaceSelector.matchExpressions[0].values must be set for In",
        "spec.namespaceSelector.matchExpressions[1] has a value that no label can have",
        "spec.namespaceSelector.matchExpressions[1].values must be omitted for Exists",
        "spec.regions has a duplicate entry",
        "spec.allow has a duplicate entry",
        "spec.regions contains an entry that is not the name of a region",
        "spec.role.arn is not the ARN of an IAM role",
        "spec.regions contains a region outside the role's partition",
        "spec.jobs.queues contains an entry that is neither the name nor the ARN of a queue",
        "spec.jobs.tags contains a key that no job can have",
        "spec.jobs.tags contains a variable other than ${namespace}",
        "spec.jobs.tags contains a value that is too long for a tag",
        "spec.allow must contain Observe",
    )


def test_each_field_that_does_not_decode_is_reported_with_the_rules_that_the_others_break() -> None:
    spec = {
        "namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Like"}, "team"]},
        "role": {"arn": ROLE, "externalId": "mine"},
        "regions": ["eu-west-1a"],
        "jobs": {"queues": []},
        "allow": ["D" * 1000],
        "until": "friday",
        "later\ud800": 1,
    }
    enum, *others = faults_of(spec)
    assert enum.startswith("spec.allow[0]: Invalid enum value 'DDD")
    assert len(enum) <= 300
    assert others == [
        "spec.jobs.queues: Expected `array` of length >= 1",
        "spec.later\ud800: 'utf-8' codec can't encode character '\\ud800' in position 5: surrogates not allowed",
        "spec.namespaceSelector.matchExpressions[0].operator: Invalid enum value 'Like'",
        "spec.role: Object contains unknown field `externalId`",
        "spec.until: Object contains unknown field `until`",
        "spec.regions contains an entry that is not the name of a region",
    ]
    assert faults_of(None) == ("spec is missing or not an object",)
    assert faults_of({}) == ("spec.namespaceSelector is missing", "spec.jobs is missing")
    assert faults_of({**TEAM_A, "jobs": {}}) == ("spec.jobs states no rule",)


@pytest.mark.parametrize("field", ["regions", "allow"])
def test_null_is_not_a_list(field: str) -> None:
    # The API server removes nulls: one that is shown was written by another version, and could mean "none".
    assert faults_of({**TEAM_A, field: None}) == (f"spec.{field}: Expected `array`, got `null`",)


@pytest.mark.parametrize(
    "change",
    [
        {"until": "friday"},
        {"jobs": {**TEAM_A["jobs"], "names": ["x"]}},
        {"role": {"arn": ROLE, "sessionPolicy": {}}},
    ],
    ids=["spec", "jobs", "role"],
)
def test_a_field_of_a_later_version_makes_a_policy_unreadable_for_the_namespaces_that_it_selects(change: Any) -> None:
    unreadable = parse_policy("team-a", {**TEAM_A, **change})
    assert isinstance(unreadable, InvalidPolicy)
    assert unreadable.selector == Selector({"team": "a"})


@pytest.mark.parametrize(
    "selector",
    [None, "team=a", {"matchLabels": {"team": 1}}, {"matchNames": ["a"]}, {"matchExpressions": [{"key": "team"}]}],
)
def test_an_unknown_part_makes_the_whole_selector_invalid(selector: Any) -> None:
    unreadable = parse_policy("team-a", {**TEAM_A, "namespaceSelector": selector})
    assert isinstance(unreadable, InvalidPolicy)
    assert unreadable.selector is None


def test_rules_without_any_rule_can_not_be_made() -> None:
    with pytest.raises(ValueError, match="would admit every job"):
        Rules()


def test_the_bounds_of_a_tag() -> None:
    def tags(**kinds: str) -> Policy | InvalidPolicy:
        return parse_policy("team-a", {**TEAM_A, "jobs": {"tags": kinds}})

    assert isinstance(tags(**{"k" * 128: "v" * 256}), Policy)
    assert isinstance(tags(**{"k" * 129: "v"}), InvalidPolicy)
    assert isinstance(tags(k="v" * 257), InvalidPolicy)
    assert isinstance(tags(k="v" * 255 + "${namespace}"), Policy), "a namespace may be one letter long"
    assert isinstance(tags(**{f"k{number}": "v" for number in range(51)}), InvalidPolicy)


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
NAMES = ["namespaceSelector", "matchLabels", "matchExpressions", "key", "operator", "values", "role", "arn", "regions"]
WORDS = [
    *NAMES,
    "jobs",
    "queues",
    "tags",
    "allow",
    "In",
    "Exists",
    "Observe",
    "Terminate",
    "eu-west-1",
    ROLE,
    "team-*",
    "\ud800",
]
JSON = st.recursive(
    SCALARS | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner),
    max_leaves=12,
)


@given(spec=JSON)
def test_no_spec_raises(spec: object) -> None:
    read = parse_policy("team-a", spec)
    assert isinstance(read, Policy) or read.faults


@given(
    selector=JSON | st.just({}),
    jobs=JSON | st.just({"queues": ["*"]}),
    allow=JSON | st.just(["Observe"]),
    role=JSON | st.none(),
)
def test_a_parsed_policy_allows_observe_and_has_a_rule(selector: Any, jobs: Any, allow: Any, role: Any) -> None:
    spec = {"namespaceSelector": selector, "jobs": jobs, "allow": allow, "role": role}
    read = parse_policy("team-a", spec)
    if isinstance(read, Policy):
        assert Verb.OBSERVE in read.allow
        assert read.rules.queues or read.rules.tags
        assert selector is not None
