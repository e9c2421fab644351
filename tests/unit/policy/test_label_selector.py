"""LabelSelectors against Kubernetes' own words for them, said anew and naively."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from awsbatch_operator.api.label_selector import Selector, faults

TEAM_A = {"team": "a", "stage": "prod", "owner": ""}
SELECTED: list[tuple[Any, bool]] = [
    ({}, True),
    ({"matchLabels": {}, "matchExpressions": []}, True),
    ({"matchLabels": {"team": "a"}}, True),
    ({"matchLabels": {"team": "A"}}, False),
    ({"matchLabels": {"team": "b"}}, False),
    ({"matchLabels": {"teams": "a"}}, False),
    ({"matchLabels": {"owner": ""}}, True),
    ({"matchLabels": {"frozen": ""}}, False),
    ({"matchLabels": {"team": "a", "stage": "prod"}}, True),
    ({"matchLabels": {"team": "a", "stage": "test"}}, False),
    ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["b", "a"]}]}, True),
    ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["b"]}]}, False),
    ({"matchExpressions": [{"key": "frozen", "operator": "In", "values": ["", "a"]}]}, False),
    ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["b"]}]}, True),
    ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["b", "a"]}]}, False),
    ({"matchExpressions": [{"key": "frozen", "operator": "NotIn", "values": ["", "a"]}]}, True),
    ({"matchExpressions": [{"key": "owner", "operator": "Exists"}]}, True),
    ({"matchExpressions": [{"key": "frozen", "operator": "Exists"}]}, False),
    ({"matchExpressions": [{"key": "owner", "operator": "DoesNotExist"}]}, False),
    ({"matchExpressions": [{"key": "frozen", "operator": "DoesNotExist", "values": []}]}, True),
    ({"matchLabels": {"team": "a"}, "matchExpressions": [{"key": "stage", "operator": "DoesNotExist"}]}, False),
    ({"matchLabels": {"team": "b"}, "matchExpressions": [{"key": "stage", "operator": "Exists"}]}, False),
]


def parsed(raw: object) -> Selector:
    selector = msgspec.convert(raw, Selector)
    assert [*faults(selector, "selector")] == []
    return selector


@pytest.mark.parametrize(("raw", "selected"), SELECTED)
def test_a_selector_selects(raw: Any, selected: bool) -> None:
    assert parsed(raw).selects(TEAM_A) is selected


def test_a_namespace_without_labels_is_selected_by_what_asks_for_none() -> None:
    assert parsed({}).selects({})
    assert parsed({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}).selects({})
    assert not parsed({"matchLabels": {"team": ""}}).selects({})


KEYS, VALUES = st.sampled_from(["team", "stage", "example.com/owner"]), st.sampled_from(["", "a", "b", "c"])
EXPRESSIONS = st.one_of(
    st.fixed_dictionaries(
        {"key": KEYS, "operator": st.sampled_from(["In", "NotIn"]), "values": st.lists(VALUES, min_size=1, max_size=3)}
    ),
    st.fixed_dictionaries({"key": KEYS, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)
SELECTORS = st.fixed_dictionaries(
    {}, optional={"matchLabels": st.dictionaries(KEYS, VALUES), "matchExpressions": st.lists(EXPRESSIONS, max_size=3)}
)


def naively(raw: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """By the words of the API: matchLabels are In with one value, and all requirements are ANDed."""
    pairs = set(labels.items())
    held = [(key, value) in pairs for key, value in raw.get("matchLabels", {}).items()]
    for one in raw.get("matchExpressions", []):
        any_of = any((one["key"], value) in pairs for value in one.get("values", []))
        there = any(key == one["key"] for key, _ in pairs)
        held.append({"In": any_of, "NotIn": not any_of, "Exists": there, "DoesNotExist": not there}[one["operator"]])
    return False not in held


@given(raw=SELECTORS, labels=st.dictionaries(KEYS, VALUES))
def test_selecting_is_what_the_api_says_it_is(raw: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    assert parsed(raw).selects(labels) is naively(raw, labels)


@given(raw=SELECTORS, more=EXPRESSIONS, labels=st.dictionaries(KEYS, VALUES))
def test_one_requirement_more_selects_no_more(raw: Any, more: Any, labels: Mapping[str, str]) -> None:
    narrower = {**raw, "matchExpressions": [more, *raw.get("matchExpressions", [])]}
    assert parsed(raw).selects(labels) or not parsed(narrower).selects(labels)
