"""A whole run: the objects come, storms and calms take turns, and after each calm everything is judged."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from awsbatch_sandbox.processes import ProcessError, wait_for
from awsbatch_sandbox.world import World
from chaos.event_invariants import judge_events, shown_late, unsettled_events
from chaos.invariants import Violation, judge
from chaos.ledger import Evidence, Ledger
from chaos.plan import Plan, Shape
from chaos.player import Player
from chaos.record import jobs_from_json
from chaos.replicas import DESCRIBE_RATE, Replica
from chaos.settled import CLEAN, ENDED, unsettled
from proxy import Network

_START: Final = 60.0
_RESYNC: Final = 90.0
"""Seconds in which a deletion that no watch showed is found: the operator lists every 60 s."""
_PROMPT: Final = 45.0
"""Seconds within which a termination that was refused is sent again when nothing is broken any more: 15 s between two
tries, 17 to the next leader. Well below the minute after which one that was accepted is."""
_CHECK_EVERY: Final = 1.0


@dataclass(slots=True)
class Outcome:
    ledger: Ledger
    evidence: Evidence
    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    races: Counter[str] = field(default_factory=Counter)
    logs: dict[str, str] = field(default_factory=dict)
    calms: list[float] = field(default_factory=list)
    """Seconds until each storm had settled."""


def run(plan: Plan, control_plane: str) -> Outcome:
    ledger = Ledger()
    with _stage(control_plane, ledger, plan.shape.with_events) as (world, player):
        player.play(plan.opening, until=0.0)
        _await_ready(player)
        outcome = Outcome(ledger, Evidence(ledger, [], {}))
        over_at = time.time() + plan.shape.lasts
        for number, storm in enumerate(plan.storms, start=1):
            player.play(storm, until=plan.shape.storm)
            last = number == len(plan.storms) or time.time() >= over_at
            outcome.calms.append(_calm(world, player, outcome, plan.shape, strict=last and plan.shape.ignoring))
            _judge(outcome, player)
            print(f"storm {number}: settled after {outcome.calms[-1]:.1f} s, {len(outcome.violations)} violations")
            if outcome.violations or last:
                break
        outcome.counts = player.counts
        outcome.logs = {replica.name: replica.output() for replica in player.replicas}
    return outcome


@contextmanager
def _stage(control_plane: str, ledger: Ledger, with_events: int) -> Iterator[tuple[World, Player]]:
    """Objects are spread over several namespaces, so that turns between namespaces are part of what is played."""
    with ExitStack() as ends:
        world = ends.enter_context(World(control_plane, grace=0.5, events=True))
        clusters = [world.cluster.within(f"team-{letter}") for letter in "abc"]
        for cluster in clusters:
            ends.callback(cluster.close)
            cluster.create_namespace()
        network = ends.enter_context(Network())
        flags = (f"--events-queue={world.events_queue}", f"--poll-with-events={with_events}s")
        replicas = []
        for name in ("first", "second"):
            replica = Replica(name, world, network, ledger, flags)
            ends.callback(replica.end)
            replicas.append(replica)
        player = Player(world, clusters, network, replicas, ledger)
        ends.callback(player.close)
        yield world, player


def _await_ready(player: Player) -> None:
    def all_ready() -> bool:
        player.rest(0.0)
        return all(replica.ready() for replica in player.replicas)

    try:
        wait_for(all_ready, timeout=_START, what="both replicas are ready", every=0.1)
    except TimeoutError as late:
        words = "\n".join(replica.life.process.last_words() for replica in player.replicas)
        raise ProcessError(f"{late}:\n{words}") from late


def _calm(world: World, player: Player, outcome: Outcome, shape: Shape, *, strict: bool) -> float:
    """Wait until everything agrees; what does not in time is a violation. `strict`: every orphan must be gone."""
    began = time.time()
    while True:
        player.rest(time.time() + _CHECK_EVERY)
        player.read()
        objects = {body["metadata"]["name"]: body for one in player.clusters for body in one.objects()}
        at = time.time()
        jobs = jobs_from_json(world.batch.jobs())
        outcome.evidence = Evidence(outcome.ledger, player.calls, jobs, at)
        missing = [
            *unsettled(outcome.evidence, objects),
            *unsettled_events(outcome.evidence, *player.events.left(), strict=strict),
            *_left_over(player, outcome.ledger, len(objects), strict=strict),
        ]
        waited = time.time() - began
        if not missing:
            return waited
        if late := [*shown_late(outcome.evidence, objects, began, shape.with_events)]:
            outcome.violations += late
            return waited
        if late := [one for one in missing if waited > _PROMPT and _never_granted(outcome.evidence, one)]:
            outcome.violations += late
            return waited
        orphans = strict and all(one.invariant == CLEAN for one in missing)
        if waited > (_RESYNC if orphans else shape.patience):
            outcome.violations += missing
            return waited


def _never_granted(evidence: Evidence, violation: Violation) -> bool:
    """Whether no replica has received yet that the missing termination was accepted."""
    calls = evidence.terminations.get(violation.job_id, ())
    return violation.invariant == ENDED and not any(call.granted(violation.job_id) for call in calls)


def _left_over(player: Player, ledger: Ledger, objects: int, *, strict: bool) -> Iterator[Violation]:
    """Yield violations in the metrics of the replicas about their caches and queues."""
    leaders = 0
    for replica in player.replicas:
        if not replica.ready():
            yield Violation(CLEAN, f"{replica.life.key} is not ready")
            continue
        shown = Shown(replica.life.process.metrics())
        leaders += int(shown.total("leader"))
        known = int(shown.total("jobs"))
        missed = 0 if strict else len(list(_missed_deletions(replica, ledger)))
        if not objects <= known <= objects + missed:
            yield Violation(CLEAN, f"{replica.life.key} knows {known} objects, there are {objects}")
        if waiting := {queue: depth for queue, depth in shown.by_label("queue_depth", "queue").items() if depth}:
            yield Violation(CLEAN, f"{replica.life.key} still has queues: {waiting}")
    if leaders != 1:
        yield Violation(CLEAN, f"{leaders} replicas are leader")


def _missed_deletions(replica: Replica, ledger: Ledger) -> Iterator[str]:
    """Objects whose deletion this process may learn from its next resync only: its watch was broken then."""
    watch_faults = ("freeze", "hang", "refuse", "cut", "restart")
    for history in ledger.objects.values():
        gone = history.gone
        if gone is not None and ledger.struck(watch_faults, replica.life.key, gone.began - 10, gone.certain + 10):
            yield history.name


def _judge(outcome: Outcome, player: Player) -> None:
    judgement = judge(outcome.evidence)
    judgement.violations += judge_events(outcome.evidence, DESCRIBE_RATE)
    if dead := len([one for one in player.events.left()[1] if one["message_id"] not in outcome.ledger.messages.poison]):
        judgement.races["events in the dead-letter queue"] = dead
    outcome.races = judgement.races
    outcome.violations += judgement.violations
    for replica in player.replicas:
        outcome.violations += [*replica.faults, *replica.unhandled()]


class Shown:
    """Samples of /metrics."""

    def __init__(self, samples: Mapping[str, Sequence[tuple[Mapping[str, str], float]]]) -> None:
        self._samples = samples

    def total(self, name: str) -> float:
        return sum(value for _, value in self._of(name))

    def by_label(self, name: str, label: str) -> dict[str, float]:
        return {labels[label]: value for labels, value in self._of(name)}

    def _of(self, name: str) -> Sequence[tuple[Mapping[str, Any], float]]:
        return self._samples.get(f"awsbatch_operator_{name}", [])
