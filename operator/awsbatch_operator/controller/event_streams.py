"""Which accounts and regions are known to send events, because one of their events has arrived lately."""

from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

from awsbatch_operator.api.events_queue import EventsQueue
from awsbatch_operator.api.interfaces import Location
from awsbatch_operator.api.timestamps import Millis

PROOF_COUNTS: Final = 150.0
"""Seconds for which an event proves that its account and region sends events."""


@dataclass(slots=True)
class _Alive:
    """`since`: epoch milliseconds; `until`: clock time; `queue`: in which the latest event arrived."""

    since: Millis
    until: float
    queue: EventsQueue


class EventStreams:
    """A stream is what one account and region sends. `clock` gives seconds, `now` epoch milliseconds."""

    def __init__(self, clock: Callable[[], float], now: Callable[[], Millis]) -> None:
        self._clock, self._now = clock, now
        self._alive: dict[Location, _Alive] = {}
        self._canaries: dict[str, tuple[Location, float]] = {}

    def since(self, location: Location) -> Millis | None:
        """Return since when events have arrived without a gap; None: they do not arrive."""
        alive = self._alive.get(location)
        return alive.since if alive is not None and self._clock() < alive.until else None

    def prove(self, location: Location, queue: EventsQueue) -> bool:
        """Note that an event of the account and region has arrived in the queue. Return whether its stream begins."""
        since, until = self.since(location), self._clock() + PROOF_COUNTS
        self._alive[location] = _Alive(self._now() if since is None else since, until, queue)
        return since is None

    def new_canary(self, location: Location) -> str:
        """Return the job id of a canary event for the account and region. Nobody can guess it."""
        job_id = f"canary-{token_hex(16)}"
        self._canaries[job_id] = location, self._clock() + PROOF_COUNTS
        return job_id

    def take_canary(self, job_id: str) -> Location | None:
        """Return the account and region of the canary that has this id and arrives in time for the first time."""
        location, until = self._canaries.pop(job_id, (None, 0.0))
        return location if self._clock() < until else None

    def lost_canaries(self) -> set[Location]:
        """Forget the canaries that have not arrived in time. Return their accounts and regions."""
        lost = {job_id: where for job_id, (where, until) in self._canaries.items() if self._clock() >= until}
        for job_id in lost:
            del self._canaries[job_id]
        return set(lost.values())

    def end(self, queue: EventsQueue | None = None) -> set[Location]:
        """End the streams of which no event has arrived lately, and those that arrive in the queue. Return them."""
        now = self._clock()
        ended = {where for where, alive in self._alive.items() if now >= alive.until or alive.queue == queue}
        for location in ended:
            del self._alive[location]
        return ended

    def clear(self) -> None:
        self._alive.clear()
        self._canaries.clear()
