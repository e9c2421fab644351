"""Two replicas under observation: the Lease by the API server's word, the calls by that of Batch.

What a replica says of itself counts for nothing here. Each calls AWS with an access key of its own, its name.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from awsbatch_operator.api import timestamps as times
from awsbatch_operator.kube.lease import Timing
from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.operator_process import OperatorProcess, operator_environment
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.scenario import SOON, phase

Call = Mapping[str, Any]
NAMES: Final = ("first", "second")
CRASH_TAKEOVER = 20.0
"""Seconds: 15 of the Lease, 2 of a retry, and those of a busy machine. The command line sets none of them."""
GRACEFUL_TAKEOVER = 3.0
FENCED_AFTER = Timing().renew_deadline
"""Seconds after its last renewal from which on a replica must not call."""
ON_ITS_WAY = 1.0
"""Seconds that a call which was sent in time may take to be recorded on a busy machine."""
_RETRY: Final = 0.2


class Replica(OperatorProcess):
    def __init__(self, name: str, world: World, kubeconfig: Path, directory: Path, flags: Sequence[str]) -> None:
        environment = operator_environment(kubeconfig, world.cache, world.batch.url)
        directory.mkdir()
        super().__init__(environment | {"AWS_ACCESS_KEY_ID": name}, directory, flags)
        self.name = name

    def is_leader(self) -> bool:
        return self.total("leader") == 1

    def total(self, metric: str) -> float:
        return sum(value for _, value in self.metrics().get(f"awsbatch_operator_{metric}", []))

    def end(self) -> None:
        if self.running:
            self.kill9()


# -- the record of AWS ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stint:
    """Calls of one replica between which no other called; times in epoch seconds."""

    caller: str
    began: float
    ended: float


def stints(calls: Sequence[Call]) -> list[Stint]:
    """Calls come in the order of their arrival. Who appears twice acted before and after another."""
    grouped = ((caller, list(those)) for caller, those in groupby(calls, key=lambda call: str(call["access_key"])))
    return [Stint(caller, those[0]["at"], those[-1]["at"]) for caller, those in grouped]


def first_call(world: World, caller: str) -> float | None:
    """When it came, in epoch seconds; None when it did not come yet."""
    return next((call["at"] for call in world.batch.calls() if call["access_key"] == caller), None)


def calls_between(world: World, began: float, ended: float) -> list[Call]:
    return [call for call in world.batch.calls() if began < call["at"] < ended]


# -- the record of the Lease ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConditionValue:
    """One version of the Lease. Times in epoch seconds by the holder's clock, which all here share."""

    holder: str
    acquired: float
    renewed: float

    @property
    def over(self) -> float:
        """From when on the holder may not act, unless it claims again."""
        return self.renewed + FENCED_AFTER if self.holder else self.renewed


class LeaseWatcher:
    """Keeps every version of the Lease from its beginning on. Use it by `with`."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster.within(cluster.namespace)
        self._watch = self._cluster.watch_lease(name)
        self._claims: list[ConditionValue] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease watcher")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._watch.stop()
        self._thread.join()
        self._cluster.close()

    @property
    def claims(self) -> list[ConditionValue]:
        """Oldest first; holders by the names of their replicas, of which the first one held it first."""
        known = list(self._claims)
        names = dict(zip(dict.fromkeys(one.holder for one in known if one.holder), NAMES, strict=False))
        return [ConditionValue(names.get(one.holder, ""), one.acquired, one.renewed) for one in known]

    def held(self) -> bool:
        return bool(self._claims)

    def overlaps(self) -> list[tuple[ConditionValue, ConditionValue]]:
        """Claims that began before the claim of another was over."""
        return [
            (before, after)
            for before, after in pairwise(self.claims)
            if before.holder and after.holder not in ("", before.holder) and after.acquired < before.over
        ]

    def strays(self, calls: Sequence[Call]) -> list[Call]:
        """Calls of a replica that did not hold the Lease by then, or had not renewed it for too long."""
        claims = self.claims

        def covered(call: Call) -> bool:
            claim = next((one for one in reversed(claims) if one.renewed <= call["at"]), None)
            return claim is not None and claim.holder == call["access_key"] and call["at"] < claim.over + ON_ITS_WAY

        return [call for call in calls if not covered(call)]

    def _run(self) -> None:
        seen: set[str] = set()
        while not self._ended.wait(_RETRY):
            try:
                for lease in self._watch:
                    if lease["metadata"]["resourceVersion"] not in seen:
                        seen.add(lease["metadata"]["resourceVersion"])
                        self._claims.append(_claim(lease["spec"]))
            except (ApiException, HTTPError) as away:
                print(f"the Lease can't be watched: {away}")


def _claim(spec: Mapping[str, Any]) -> ConditionValue:
    acquired, renewed = times.parse(spec["acquireTime"]), times.parse(spec["renewTime"])
    assert acquired is not None
    assert renewed is not None
    return ConditionValue(spec.get("holderIdentity") or "", acquired / 1000, renewed / 1000)


# -- both together ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """The first replica leads, the second follows; both are ready."""

    leader: Replica
    follower: Replica
    lease: LeaseWatcher
    world: World

    def assert_one_acted_at_a_time(self, *callers: str) -> list[Stint]:
        """These acted, in this order, each only while it held the Lease; when."""
        calls = self.world.batch.calls()
        acted = stints(calls)
        assert [stint.caller for stint in acted] == list(callers)
        assert self.lease.overlaps() == []
        assert self.lease.strays(calls) == []
        return acted


@contextmanager
def two_replicas(
    world: World, cluster: Cluster, directory: Path, *flags: str, leaders_kubeconfig: Path | None = None
) -> Iterator[Pair]:
    """For the test's own namespace. `leaders_kubeconfig` is for the first one alone. Others' operator rests."""
    if world.operator.running:
        world.operator.stop()
    world.batch.clear_calls()
    own = (
        *(f"--namespace={cluster.namespace}", "--leader-elect", f"--lease-namespace={cluster.namespace}"),
        *("--poll-running=500ms", "--poll-pending=500ms"),
    )
    kubeconfigs = (leaders_kubeconfig or world.control_plane.kubeconfig, world.control_plane.kubeconfig)
    with ExitStack() as ends:
        lease = ends.enter_context(LeaseWatcher(cluster, "awsbatch-operator"))
        leader, follower = (
            Replica(name, world, kubeconfig, directory / name, (*own, *flags))
            for name, kubeconfig in zip(NAMES, kubeconfigs, strict=True)
        )
        for replica in (leader, follower):
            ends.callback(replica.end)
            replica.start()
            wait_for(leader.is_leader, timeout=SOON, what="the first replica leads")
        wait_for(lease.held, timeout=SOON, what="the watcher sees the Lease")
        assert not follower.is_leader()
        yield Pair(leader, follower, lease, world)


def running_jobs(world: World, cluster: Cluster, count: int, *, prefix: str = "job") -> dict[str, str]:
    """Their ids by the names of their objects, which show them running."""
    jobs = {f"{prefix}-{n}": world.batch.seed() for n in range(count)}
    for name, job_id in jobs.items():
        cluster.create(name, job_id)
    for name in jobs:
        cluster.wait_for(name, phase("Running"), timeout=SOON)
    return jobs
