"""The operator accepts the BatchTerminations that the API server accepts, and ignores those that it rejects.

The rules are the CRD's, evaluated as the embedded API server does it. The examples are judged by real ones too
(test_crd_examples.py).
"""

from functools import cache
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from awsbatch_operator.api import names
from awsbatch_operator.api.batchtermination import parse_termination
from awsbatch_sandbox.apiserver.cel import Rules
from awsbatch_sandbox.apiserver.schema import prune, with_defaults
from awsbatch_sandbox.apiserver.validation import Validator
from contract.schema import crd, schema_of
from contract.test_policy_schema_matches_parser import ODD, REGIONS, mostly

SCHEMA = schema_of(crd(names.crd_file(names.TERMINATION_PLURAL)))
VALIDATOR, rules = Validator(SCHEMA), cache(lambda: Rules(SCHEMA))
GOOD = {
    "region": "eu-west-1",
    "select": {"queues": ["gpu"], "jobNames": ["train-*"]},
    "createdBefore": "2026-11-30T10:00:00Z",
    "reason": "INC-4711",
    "maxJobs": 10,
}

QUEUES = mostly(
    st.sampled_from(["gpu", "a_B-1", "0", "q" * 128]),
    ["", "*", "gpu*", "-a", "_a", "a b", "q" * 129, "gpu\n", "ä", "arn:aws:batch:eu-west-1:111122223333:job-queue/gpu"],
)
NAMES = mostly(
    st.sampled_from(["train-1", "train-*", "*", "n" * 128, "n" * 128 + "*"]),
    ["", "**", "*a", "t*n", "t?", "[t]*", "-a", "_*", "n" * 129, "n" * 129 + "*", "a\n", "a*\n", "a b", 7, None],
)
KEYS = mostly(st.sampled_from(["run", "cost center", "k" * 128, "aws:batch", "ä"]), ["", "k" * 129])
VALUES = mostly(st.sampled_from(["", "42", "*", "v" * 1024]), ["v" * 1025, 42, None])
SELECTS = mostly(
    st.fixed_dictionaries(
        {"queues": mostly(st.lists(QUEUES, min_size=1, max_size=2), [None, [], "gpu", [1], ["q"] * 20, ["q"] * 21])},
        optional={
            "jobNames": mostly(st.lists(NAMES, min_size=1, max_size=2), [None, [], "*", ["n"] * 50, ["n"] * 51]),
            "tags": mostly(
                st.dictionaries(KEYS, VALUES, min_size=1, max_size=2),
                [None, {}, "a", {f"k{n}": "" for n in range(50)}, {f"k{n}": "" for n in range(51)}],
            ),
        },
    ),
    [*ODD, {"queues": ["gpu"]}, {"queues": ["gpu"], "jobNames": ["*"], "jobIds": ["a"]}],
)
MOMENTS = mostly(
    st.sampled_from(
        [
            *("2026-11-30T10:00:00Z", "2026-11-30T10:00:00.123456789+01:00", "2026-11-30T10:00:00-14:00"),
            *("1000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-11-30T10:00:00+23:59"),
        ]
    ),
    [
        *("", "now", "2026-11-30", "2026-11-30T10:00:00", "2026-11-30T10:00Z", "2026-02-30T10:00:00Z"),
        *("2026-11-30T25:00:00Z", "2026-11-30T10:00:00Z\n", "20261130T100000Z", 1_795_428_000, "x" * 41),
        # The API server's date-time takes these, and its rules can't read them.
        *("2026-11-30t10:00:00z", "2026-11-30T10:00:00,5Z", "2026-11-30T10:00:00+24:00", "0000-01-01T00:00:00Z"),
    ],
)
REASONS = mostly(
    st.sampled_from(["INC-4711: runaway cost", "💸" * 1024, " x ", "\u200bx", "x" * 1024]),
    ["", " ", "\n\t", "\u200b", "\u2028\u00a0", "\0", "x" * 1025, "x" * 4097, 7, None],
)
SPECS = st.fixed_dictionaries(
    {
        "region": REGIONS,
        "select": SELECTS,
        "createdBefore": MOMENTS,
        "maxJobs": mostly(st.sampled_from([1, 10, 100_000]), [0, -1, 100_001, 2**31, 1.5, "10", True, None]),
        "reason": REASONS,
    },
    optional={
        "approved": mostly(st.booleans(), [None, "true", 1, {}]),
        "stragglers": st.just("10m"),
    },
)


def stored(spec: Any) -> Any:
    """The spec as it would be stored: without nulls and unknown fields, with the defaults."""
    return with_defaults(prune({"spec": spec}, SCHEMA, (), []), SCHEMA).get("spec")


def taken(spec: Any) -> bool:
    body = {"spec": spec}
    return not VALIDATOR.faults(body, None) and not rules().faults(body, None)


@settings(max_examples=6 * settings().max_examples)
@example(spec={**GOOD, "reason": "\u200b"})
@example(spec={**GOOD, "createdBefore": "2026-11-30T10:00Z"})
@given(spec=SPECS)
def test_the_operator_reads_exactly_what_the_api_server_accepts(spec: Any) -> None:
    shown = stored(spec)
    assert (parse_termination({"spec": shown}).spec is not None) is taken(shown)


def test_both_outcomes_occur() -> None:
    assert taken(stored(GOOD))
    assert not taken(stored({**GOOD, "maxJobs": 0}))
    # The default of the reason is refused with words that name the remedy.
    assert not taken(stored({name: value for name, value in GOOD.items() if name != "reason"}))
