"""Strategies: every Status that can occur, and rubbish that may stand in its place."""

from string import ascii_letters
from typing import Any

from hypothesis import strategies as st

from awsbatch_operator.api.batchjob import Condition, Phase, Status, Termination
from awsbatch_operator.api.job import Array, Job, Node

TEXTS = st.text(max_size=20)
WORDS = st.text(ascii_letters, min_size=1, max_size=10)
TIMES = st.integers(min_value=-62_135_596_800_000, max_value=253_402_300_799_999)
INTS = st.integers(min_value=-(2**63), max_value=2**63 - 1)
COUNTS = st.integers(min_value=0, max_value=2**63 - 1)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


ARRAYS = st.builds(
    Array,
    maybe(INTS),
    maybe(INTS),
    st.dictionaries(TEXTS, INTS, max_size=4),
).filter(lambda array: array != Array())
NODES = st.builds(Node, maybe(INTS), maybe(INTS), maybe(st.booleans())).filter(lambda node: node != Node())
JOBS = st.builds(
    Job,
    status=TEXTS,
    status_reason=maybe(TEXTS),
    is_terminated=st.booleans(),
    is_cancelled=st.booleans(),
    name=maybe(TEXTS),
    arn=maybe(TEXTS),
    queue=maybe(TEXTS),
    definition=maybe(TEXTS),
    created_at=maybe(TIMES),
    started_at=maybe(TIMES),
    stopped_at=maybe(TIMES),
    exit_code=maybe(INTS),
    container_reason=maybe(TEXTS),
    log_stream_name=maybe(TEXTS),
    attempts=maybe(COUNTS),
    array=maybe(ARRAYS),
    node=maybe(NODES),
)
CONDITIONS = st.builds(
    Condition,
    type=WORDS,
    status=st.sampled_from(["True", "False", "Unknown"]),
    reason=WORDS,
    message=TEXTS,
    # lastTransitionTime has whole seconds.
    since=TIMES.map(lambda at: at // 1000 * 1000),
    generation=COUNTS,
)
STATUSES = st.builds(
    Status,
    observed_generation=maybe(COUNTS),
    phase=maybe(st.sampled_from(Phase)),
    region=maybe(TEXTS),
    job=maybe(JOBS),
    termination=maybe(st.builds(Termination, TEXTS, maybe(TIMES), maybe(TIMES), maybe(TIMES), COUNTS)),
    conditions=st.lists(CONDITIONS, max_size=4, unique_by=lambda condition: condition.type).map(tuple),
)

RUBBISH = st.recursive(
    st.none() | st.booleans() | INTS | st.floats() | TEXTS | st.just("2026-11-23T10:00:00Z") | st.sampled_from(Phase),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
