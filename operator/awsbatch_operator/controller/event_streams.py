"""Tracks which accounts and regions send events to which queues: an event has arrived recently."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Final

from awsbatch_operator.api.interfaces import Location
from awsbatch_operator.api.timestamps import Millis

PROOF_COUNTS: Final = 150.0
"""Seconds for which an event proves that its account and region sends events."""


@dataclass(slots=True)
class _Alive:
    """`since`: epoch milliseconds; `until`: clock time."""

    since: Millis
    until: float


@dataclass(slots=True)
class _Canary:
    """`until`: clock time; `arrived`: URLs of the queues in which it has arrived."""

    location: Location
    until: float
    arrived: set[str] = field(default_factory=set)


class EventStreams:
    """A stream is what one account and region sends to one queue: another queue may be dead at the same time.

    `clock` gives seconds, `now` epoch milliseconds.
    """

    def __init__(self, clock: Callable[[], float], now: Callable[[], Millis]) -> None:
        self._clock, self._now = clock, now
        self._alive: dict[tuple[Location, str], _Alive] = {}
        self._canaries: dict[str, _Canary] = {}

    def since(self, location: Location, urls: Iterable[str]) -> Millis | None:
        """Return since when events have arrived in one of the queues without a gap; None: they do not arrive."""
        now, streams = self._clock(), (self._alive.get((location, url)) for url in urls)
        return min((one.since for one in streams if one is not None and now < one.until), default=None)

    def prove(self, location: Location, url: str) -> bool:
        """Note that an event of the account and region has arrived in the queue. Return whether its stream begins."""
        now, alive = self._clock(), self._alive.get((location, url))
        begins = alive is None or now >= alive.until
        since = self._now() if alive is None or begins else alive.since
        self._alive[location, url] = _Alive(since, now + PROOF_COUNTS)
        return begins

    def new_canary(self, location: Location) -> str:
        """Return the job id of a canary event for the account and region. Nobody can guess it."""
        job_id = f"canary-{token_hex(16)}"
        self._canaries[job_id] = _Canary(location, self._clock() + PROOF_COUNTS)
        return job_id

    def forget_canary(self, job_id: str) -> None:
        self._canaries.pop(job_id, None)

    def take_canary(self, job_id: str, url: str) -> Location | None:
        """Return the account and region of the canary that has this id and arrives there in time, for the first time.

        Each queue gets one, if several rules of an account match it.
        """
        canary = self._canaries.get(job_id)
        if canary is None or url in canary.arrived or self._clock() >= canary.until:
            return None
        canary.arrived.add(url)
        return canary.location

    def lost_canaries(self) -> set[Location]:
        """Forget the canaries whose time is over. Return the accounts and regions of those that have not arrived."""
        over = {job_id: one for job_id, one in self._canaries.items() if self._clock() >= one.until}
        for job_id in over:
            del self._canaries[job_id]
        return {one.location for one in over.values() if not one.arrived}

    def end(self, url: str | None = None) -> set[Location]:
        """End the streams of which no event has arrived lately, and those to the queue. Return what sent them."""
        now = self._clock()
        over = [key for key, alive in self._alive.items() if now >= alive.until or key[1] == url]
        for key in over:
            del self._alive[key]
        return {location for location, _ in over}

    def clear(self) -> None:
        self._alive.clear()
        self._canaries.clear()
