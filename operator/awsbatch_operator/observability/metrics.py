"""The figures of the operator, by their contractual names, on a registry of its own."""

import asyncio
import platform
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
from awsbatch_operator.domain.job import account_of
from awsbatch_operator.domain.ports import Whose
from awsbatch_operator.domain.record import LIVE_PHASES, Phase, Standing

Census = Callable[[], Mapping[Standing, int]]
"""How many objects there are of each standing, asked once at each scrape."""

_PREFIX: Final = "awsbatch_operator"
_CALL_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COMPLETION_SECONDS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LAG_SAMPLE_SECONDS: Final = 1.0
_WRITE_RESULTS: Final = ("written", "conflict", "gone", "failed")


class Metrics:
    """The engine's port `Telemetry`. `registry` is what /metrics shows."""

    def __init__(self) -> None:
        # The moment at which each series began is of no use to anybody here, and doubles the page.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = Info("build", "Versions of the operator and of Python.", namespace=_PREFIX, registry=self.registry)
        build.info({"version": __version__, "python": platform.python_version()})
        self._requests = self._counter("aws_requests", "Calls to AWS.", "operation", "code", *Whose._fields)
        self._seconds = self._histogram(
            "aws_request_seconds", "Length of a call to AWS.", _CALL_SECONDS, "operation", *Whose._fields
        )
        self._describe_batch = self._histogram("describe_batch_size", "Jobs in a DescribeJobs call.", _sizes(100))
        self._terminate_batch = self._histogram("terminate_batch_size", "Jobs in a TerminateJobs call.", _sizes(50))
        self._request_seconds = self._histogram(
            "termination_request_seconds", "From spec.terminate seen to accepted by AWS.", _REQUEST_SECONDS
        )
        self._completion_seconds = self._histogram(
            "termination_completion_seconds", "From accepted by AWS to the end of the job.", _COMPLETION_SECONDS
        )
        self._writes = self._counter("status_writes", "Writes of an object's status.", "result")
        for result in _WRITE_RESULTS:
            # From 0 on: a failure that is the first of its kind would be no increase to Prometheus.
            self._writes.labels(result)
        self._looked = self._gauge(
            "last_successful_look_timestamp_seconds",
            "When AWS Batch last answered in full, Unix time.",
            *Whose._fields,
        )
        self._leader = self._gauge("leader", "1 while this replica acts, else 0.")
        self._queue = self._gauge("queue_depth", "What waits in a lane: look, terminate or status.", "lane")
        self._lag = self._histogram("event_loop_lag_seconds", "By how much a timer fires late.", _LAG_SECONDS)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace=_PREFIX, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace=_PREFIX, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, namespace=_PREFIX, registry=self.registry, buckets=buckets)

    def ask(self, census: Census, depths: Mapping[str, Callable[[], int]]) -> None:
        """Where to ask at each scrape, once there is somebody to ask. `depths` by lane."""
        self.registry.register(_Objects(census))
        for lane, depth in depths.items():
            self._queue.labels(lane).set_function(depth)

    def aws_request(self, operation: str, code: str, seconds: float, whose: Whose) -> None:
        self._requests.labels(operation, code, *whose).inc()
        self._seconds.labels(operation, *whose).observe(seconds)

    def describe_batch(self, size: int) -> None:
        self._describe_batch.observe(size)

    def terminate_batch(self, size: int) -> None:
        self._terminate_batch.observe(size)

    def looked(self, at: float, whose: Whose) -> None:
        self._looked.labels(*whose).set(at)

    def forgotten(self, whose: Whose) -> None:
        self.unused(whose)
        # A region is what anybody writes into a spec: series of each that ever was would have no end.
        for family in (self._requests, self._seconds):
            family.remove_by_labels(whose._asdict())

    def unused(self, whose: Whose) -> None:
        # It would tell of silence for ever. Counters stay: they count nothing more.
        with suppress(KeyError):
            self._looked.remove(*whose)

    def termination_accepted(self, seconds: float) -> None:
        self._request_seconds.observe(seconds)

    def termination_completed(self, seconds: float) -> None:
        self._completion_seconds.observe(seconds)

    def status_write(self, result: str) -> None:
        self._writes.labels(result).inc()

    def leading(self, *, yes: bool) -> None:
        self._leader.set(yes)

    def queue_depth(self, lane: str, depth: int) -> None:
        self._queue.labels(lane).set(depth)

    async def sample_loop_lag(self) -> None:
        """Once a second, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_SAMPLE_SECONDS
            await asyncio.sleep(_LAG_SAMPLE_SECONDS)
            self._lag.observe(max(loop.time() - due, 0))


def _sizes(most: int) -> tuple[float, ...]:
    return tuple(size for size in (1, 2, 5, 10, 20, 50, 100) if size <= most)


class _Objects(Collector):
    """The four figures that one walk over all objects gives."""

    def __init__(self, census: Census) -> None:
        self._census = census

    def collect(self) -> Iterable[Metric]:
        tallies = jobs, live, stalled, terminating = tuple(Tally[tuple[str, ...]]() for _ in self.describe())
        terminating[()] = 0
        for standing, count in self._census().items():
            account, role = _named(standing.role)
            jobs[standing.namespace, standing.phase] += count
            # A region in which all have ended shows a 0: it is there, and need not be looked at.
            live[account, standing.region, role] += count if standing.phase in LIVE_PHASES else 0
            if standing.stalled:
                stalled[standing.namespace, standing.stalled, account, role] += count
            if standing.phase is Phase.TERMINATING:
                terminating[()] += count
        families = self.describe()
        for family, counts in zip(families, tallies, strict=True):
            for labels, count in counts.items():
                family.add_metric(labels, count)
        return families

    def describe(self) -> tuple[GaugeMetricFamily, ...]:
        # Asked for when registering: a census would come before there is anything to count.
        return (
            _family("jobs", "BatchJob objects.", "namespace", "phase"),
            _family("live_jobs", "BatchJob objects whose job has not ended.", "account", "region", "role"),
            _family(
                "stalled", "BatchJob objects that need a person, by reason.", "namespace", "reason", "account", "role"
            ),
            _family("terminations_in_progress", "Accepted by AWS, job still alive."),
        )


def _named(role: str | None) -> tuple[str, str]:
    """Account and name of the role; both empty for the operator's own credentials."""
    return account_of(role) or "", (role or "").rpartition("/")[2]


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
