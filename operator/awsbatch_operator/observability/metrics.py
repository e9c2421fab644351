"""The operator's metrics on a registry of their own. Their names and labels are a contract."""

import asyncio
import platform
import re
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from awsbatch_operator import __version__
from awsbatch_operator.api.batchjob import LIVE_PHASES, HoldCause, ObjectMetricKey, Phase
from awsbatch_operator.api.batchtermination import BulkMetricKey
from awsbatch_operator.api.conditions import Reason
from awsbatch_operator.api.interfaces import CallLabels, EventResult, Location
from awsbatch_operator.api.job import account_of

CountByKey = Callable[[], Mapping[ObjectMetricKey, int]]
"""Returns the number of objects by their labels; called once at each scrape."""

QUEUES: Final = ("reconcile", "describe", "terminate", "status")
"""The values of the label `queue`."""

_PREFIX: Final = "awsbatch_operator"
_CALL_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ACCEPTANCE_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COMPLETION_SECONDS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_DELAY_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LAG_SAMPLE_SECONDS: Final = 1.0
_WRITE_RESULTS: Final = ("written", "conflict", "gone", "failed")
_CODE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_MOST_CODES: Final = 100
_OTHER_CODE: Final = "Other"


class _Targets:
    """Values of the labels of a family's series, one series a target; without the label `role` targets share series."""

    def __init__(self, *, role: bool) -> None:
        self.names = CallLabels._fields if role else CallLabels._fields[:-1]
        self._users: dict[tuple[str, ...], set[CallLabels]] = {}

    def use(self, labels: CallLabels) -> tuple[str, ...]:
        values = labels[: len(self.names)]
        self._users.setdefault(values, set()).add(labels)
        return values

    def release(self, labels: CallLabels) -> dict[str, str] | None:
        """Return the labels of the series that no target uses any more; None if there is none, or another uses it."""
        values = labels[: len(self.names)]
        users = self._users.get(values, set())
        users.discard(labels)
        if users:
            return None
        self._users.pop(values, None)
        return dict(zip(self.names, values, strict=True))


class Metrics:
    """Implements the interface `Telemetry`. /metrics shows `registry`.

    Args:
        role_label: Whether series have the label `role`: with hundreds of roles, most of all series are theirs.
    """

    def __init__(self, *, role_label: bool = True) -> None:
        # The creation time of each series would double the page without use.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = Info("build", "Versions of the operator and of Python.", namespace=_PREFIX, registry=self.registry)
        build.info({"version": __version__, "python": platform.python_version()})
        self._codes: set[str] = set()
        self._role_label = role_label
        self._called, self._polled_targets = _Targets(role=role_label), _Targets(role=role_label)
        names = self._called.names
        self._requests = self._counter("aws_requests", "Requests to AWS.", "operation", "code", *names)
        self._request_duration = self._histogram(
            "aws_request_duration_seconds", "Duration of a request to AWS.", _CALL_SECONDS, "operation", *names
        )  # fmt: skip
        self._describe_batch = self._histogram("describe_batch_size", "Jobs in a DescribeJobs request.", _sizes(100))
        self._terminate_batch = self._histogram("terminate_batch_size", "Jobs in a TerminateJobs request.", _sizes(50))
        self._acceptance_duration = self._histogram(
            "termination_acceptance_duration_seconds",
            "Time from the request of a termination in the spec until AWS Batch accepted it.",
            _ACCEPTANCE_SECONDS,
        )
        self._completion_duration = self._histogram(
            "termination_completion_duration_seconds",
            "Time from the acceptance of a termination until the job finished.",
            _COMPLETION_SECONDS,
        )
        self._writes = self._counter("status_writes", "Status updates of objects.", "result")
        for result in _WRITE_RESULTS:
            # Start at 0: for Prometheus, a series that starts at 1 has not increased.
            self._writes.labels(result)
        self._orphaned = self._counter(
            "orphaned",
            "Deleted objects that the operator released without the termination that spec.onDelete requests.",
        )
        self._events = self._counter("events_received", "Messages in events queues, by what they name.", "result")
        for event in EventResult:
            self._events.labels(event)
        self._event_delay = self._histogram(
            "event_delay_seconds", "Time from the arrival of an event in its queue until its receipt.", _DELAY_SECONDS
        )  # fmt: skip
        self._polled = self._gauge(
            "last_successful_poll_timestamp_seconds",
            "Unix time of the last complete DescribeJobs response.",
            *names,
        )
        self._leader = self._gauge("leader", "1 while this replica is the leader, else 0.")
        self._queue_depth = self._gauge("queue_depth", "Items that wait in a queue.", "queue")
        for queue in QUEUES:
            self._queue_depth.labels(queue)
        self._lag = self._histogram("event_loop_lag_seconds", "Delay of timers of the event loop.", _LAG_SECONDS)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace=_PREFIX, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace=_PREFIX, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, namespace=_PREFIX, registry=self.registry, buckets=buckets)

    def observe(self, count_by_key: CountByKey, depths: Mapping[str, Callable[[], int]]) -> None:
        """Call these functions at each scrape. `depths`: number of waiting entries, by a name of QUEUES."""
        self.registry.register(_ObjectCollector(count_by_key, role_label=self._role_label))
        for queue, depth in depths.items():
            self._queue_depth.labels(_known_queue(queue)).set_function(depth)

    def observe_holds(
        self, count_by_cause: Callable[[], Mapping[HoldCause, int]], suspended_by: Callable[[], frozenset[str]]
    ) -> None:
        """Call these functions at each scrape. `suspended_by`: the policies that suspend, and "" for the Lease."""
        self.registry.register(_HoldCollector(count_by_cause, suspended_by))

    def observe_terminations(self, count: Callable[[], Mapping[BulkMetricKey, int]]) -> None:
        """Call this function at each scrape: BatchTerminations by their labels."""
        self.registry.register(_BulkCollector(count))

    def observe_polls(
        self, events_alive: Callable[[], Mapping[Location, bool]], listed: Callable[[], Mapping[Location, int]]
    ) -> None:
        """Call these functions at each scrape: whether events arrive, and how many jobs lists showed last."""
        self.registry.register(_PollCollector(events_alive, listed))

    def aws_request(self, operation: str, code: str, seconds: float, labels: CallLabels) -> None:
        values = self._called.use(labels)
        self._requests.labels(operation, self._bounded(code), *values).inc()
        self._request_duration.labels(operation, *values).observe(seconds)

    def _bounded(self, code: str) -> str:
        # AWS names its errors, but a proxy in between can answer anything: the number of codes must be bounded.
        if code not in self._codes and (len(self._codes) >= _MOST_CODES or not _CODE.fullmatch(code)):
            return _OTHER_CODE
        self._codes.add(code)
        return code

    def describe_batch(self, size: int) -> None:
        self._describe_batch.observe(size)

    def terminate_batch(self, size: int) -> None:
        self._terminate_batch.observe(size)

    def polled(self, at: float, labels: CallLabels) -> None:
        """Record a complete answer to DescribeJobs at this Unix time."""
        self._polled.labels(*self._polled_targets.use(labels)).set(at)

    def forget(self, labels: CallLabels) -> None:
        """Drop all series of a target that no object names any more."""
        self.forget_polls(labels)
        # Users can write any region into a spec: the number of series would be unbounded.
        unused = self._called.release(labels)
        if unused is not None:
            for family in (self._requests, self._request_duration):
                family.remove_by_labels(unused)

    def forget_polls(self, labels: CallLabels) -> None:
        """Drop the time of the last poll of a target that is not polled any more; its counters stay."""
        unused = self._polled_targets.release(labels)
        if unused is not None:
            with suppress(KeyError):
                self._polled.remove(*unused.values())

    def termination_accepted(self, seconds: float) -> None:
        self._acceptance_duration.observe(seconds)

    def termination_completed(self, seconds: float) -> None:
        self._completion_duration.observe(seconds)

    def status_write(self, result: str) -> None:
        self._writes.labels(result).inc()

    def orphaned(self) -> None:
        self._orphaned.inc()

    def event_received(self, result: EventResult) -> None:
        self._events.labels(result).inc()

    def event_delay(self, seconds: float) -> None:
        self._event_delay.observe(seconds)

    def leading(self, *, yes: bool) -> None:
        self._leader.set(yes)

    def queue_depth(self, queue: str, depth: int) -> None:
        """Set the number of waiting entries of a queue of QUEUES."""
        self._queue_depth.labels(_known_queue(queue)).set(depth)

    async def sample_loop_lag(self) -> None:
        """Measure once a second, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_SAMPLE_SECONDS
            await asyncio.sleep(_LAG_SAMPLE_SECONDS)
            self._lag.observe(max(loop.time() - due, 0))


def _known_queue(queue: str) -> str:
    if queue not in QUEUES:
        raise ValueError(f"unknown queue: {queue}")
    return queue


def _sizes(most: int) -> tuple[float, ...]:
    return tuple(size for size in (1, 2, 5, 10, 20, 50, 100) if size <= most)


class _ObjectCollector(Collector):
    """Computes four metrics in one pass over all objects."""

    def __init__(self, count_by_key: CountByKey, *, role_label: bool) -> None:
        self._count_by_key = count_by_key
        self._role = ("role",) if role_label else ()

    def collect(self) -> Iterable[Metric]:
        tallies = jobs, live, stalled, terminating = tuple(Tally[tuple[str, ...]]() for _ in self.describe())
        terminating[()] = 0
        for key, count in self._count_by_key().items():
            account, role = account_of(key.role) or "", self._role_of(key)
            jobs[key.namespace, key.phase] += count
            # A region in which all jobs have ended shows 0: it is known, and needs no poll.
            # An unknown region is never polled, so it has no series: it would mean that it does not answer.
            if key.stalled != Reason.INVALID_REGION:
                live[account, key.region, *role] += count if key.phase in LIVE_PHASES else 0
            if key.stalled:
                stalled[key.namespace, key.stalled, account, *role] += count
            if key.phase is Phase.TERMINATING:
                terminating[()] += count
        families = self.describe()
        for family, counts in zip(families, tallies, strict=True):
            for labels, count in counts.items():
                family.add_metric(labels, count)
        return families

    def describe(self) -> tuple[GaugeMetricFamily, ...]:
        # Prometheus calls it at the registration, before there are objects to count.
        return (
            _family("jobs", "BatchJob objects.", "namespace", "phase"),
            _family("live_jobs", "BatchJob objects whose job has not finished.", "account", "region", *self._role),
            _family(
                "stalled",
                "BatchJob objects that are Stalled, by reason.",
                "namespace",
                "reason",
                "account",
                *self._role,
            ),
            _family("terminations_in_progress", "Accepted terminations of jobs that are still active."),
        )

    def _role_of(self, key: ObjectMetricKey) -> tuple[str, ...]:
        """Return the value of the label `role`, the name in the ARN; empty for the operator's own credentials."""
        return ((key.role or "").rpartition("/")[2],) if self._role else ()


class _HoldCollector(Collector):
    def __init__(
        self, count_by_cause: Callable[[], Mapping[HoldCause, int]], suspended_by: Callable[[], frozenset[str]]
    ) -> None:
        self._count_by_cause, self._suspended_by = count_by_cause, suspended_by

    def collect(self) -> Iterable[Metric]:
        held, suspended = self.describe()
        for cause, count in self._count_by_cause().items():
            held.add_metric((cause,), count)
        suspended_by = self._suspended_by()
        for policy in {"", *suspended_by}:
            suspended.add_metric((policy,), policy in suspended_by)
        return held, suspended

    def describe(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            _family(
                "terminations_held", "Requested terminations that the operator does not send yet, by cause.", "cause"
            ),
            _family(
                "terminations_suspended",
                "1 while this policy suspends terminations; the series without a policy is that of the Lease.",
                "policy",
            ),
        )


class _BulkCollector(Collector):
    def __init__(self, count: Callable[[], Mapping[BulkMetricKey, int]]) -> None:
        self._count = count

    def collect(self) -> Iterable[Metric]:
        objects, stalled = self.describe()
        by_phase, by_reason = Tally[tuple[str, str]](), Tally[tuple[str, str]]()
        for key, count in self._count().items():
            by_phase[key.namespace, key.phase] += count
            if key.stalled:
                by_reason[key.namespace, key.stalled] += count
        for family, counts in ((objects, by_phase), (stalled, by_reason)):
            for labels, count in counts.items():
                family.add_metric(labels, count)
        return objects, stalled

    def describe(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            _family("batchterminations", "BatchTermination objects.", "namespace", "phase"),
            _family(
                "batchterminations_stalled",
                "BatchTermination objects that are Stalled, by reason.",
                "namespace",
                "reason",
            ),
        )


class _PollCollector(Collector):
    def __init__(
        self, events_alive: Callable[[], Mapping[Location, bool]], listed: Callable[[], Mapping[Location, int]]
    ) -> None:
        self._events_alive, self._listed = events_alive, listed

    def collect(self) -> Iterable[Metric]:
        events, lists = self.describe()
        for location, alive in self._events_alive().items():
            events.add_metric(location, alive)
        for location, count in self._listed().items():
            lists.add_metric(location, count)
        return events, lists

    def describe(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            _family(
                "events_queue_alive",
                "1 while AWS Batch events arrive for the account and region, 0 while expected events do not arrive.",
                "account",
                "region",
            ),
            _family("listed_jobs", "BatchJobs that ListJobs polled last.", "account", "region"),
        )


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
