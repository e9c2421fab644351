"""An SQS standard queue: visibility timeouts, receive counts, and redrive to a dead-letter queue."""

import heapq
import itertools
import re
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

MAX_RECEIVE_COUNT: Final = 3
VISIBILITY_TIMEOUT: Final = 30.0
"""Seconds for which a received message is hidden, unless the request states another time."""
_URL: Final = re.compile(
    r"https://([a-z0-9-]+\.)?sqs(-fips)?\.(?P<region>[a-z0-9-]+)\.[a-z.]+/(?P<account>\d{12})/(?P<name>[\w-]{1,80})",
    re.ASCII,
)


class QueueId(NamedTuple):
    """Identity of a queue."""

    account: str
    region: str
    name: str

    @property
    def arn(self) -> str:
        return f"arn:aws:sqs:{self.region}:{self.account}:{self.name}"

    @property
    def url(self) -> str:
        """The URL as AWS returns it, for any endpoint."""
        domain = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return f"https://sqs.{self.region}.{domain}/{self.account}/{self.name}"


def queue_id_of(url: str) -> QueueId:
    """Parse a URL with any host of the region (FIPS, dual-stack, VPC endpoint); ValueError for another form."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(f"url must have the form https://sqs.<region>.amazonaws.com/<account>/<name>, got {url!r}")
    return QueueId(found["account"], found["region"], found["name"])


@dataclass(slots=True, eq=False)
class Message:
    """Times are epoch milliseconds. `receipt`: the handle of the last receive, empty before the first."""

    body: str
    sent_at: int
    message_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    visible_at: int = 0
    receive_count: int = 0
    first_received_at: int = 0
    receipt: str = ""


class Queue:
    """`clock`: epoch milliseconds. Messages received `max_receive_count` times go to the queue `dead_letters`.

    They go once their last visibility timeout has passed; without `dead_letters` they stay.
    """

    def __init__(
        self,
        identity: QueueId,
        clock: Callable[[], int],
        *,
        dead_letters: "Queue | None" = None,
        max_receive_count: int = MAX_RECEIVE_COUNT,
    ) -> None:
        self.identity, self.dead_letters, self.max_receive_count = identity, dead_letters, max_receive_count
        self._clock = clock
        self._visible: deque[Message] = deque()
        self._hidden: list[tuple[int, int, Message]] = []
        """Due at; a number that keeps the order of those due together. May name messages that were deleted."""
        self._order = itertools.count()
        self._messages: dict[str, Message] = {}
        self._receipts: dict[str, Message] = {}
        self._listeners: list[Callable[[], None]] = []

    def send(self, body: str, *, delay: float = 0.0) -> str:
        """Put a message into the queue, `delay` seconds from now; return its id."""
        at = self._clock() + int(delay * 1000)
        message = Message(body, at)
        self._messages[message.message_id] = message
        self._hide_until(message, at)
        for listener in self._listeners:
            listener()
        return message.message_id

    def receive(self, most: int, visibility_timeout: float = VISIBILITY_TIMEOUT) -> list[Message]:
        """At most `most` visible messages, which become invisible for `visibility_timeout` seconds."""
        now = self._settle()
        received = [self._visible.popleft() for _ in range(min(most, len(self._visible)))]
        for message in received:
            message.receive_count += 1
            message.first_received_at = message.first_received_at or now
            self._receipts.pop(message.receipt, None)
            message.receipt = str(uuid.uuid4())
            self._receipts[message.receipt] = message
            self._hide_until(message, now + int(visibility_timeout * 1000))
        return received

    def delete(self, receipt: str) -> bool:
        """Delete the message; False for a handle that is not that of its last receive: then nothing is deleted."""
        self._settle()
        message = self._receipts.pop(receipt, None)
        if message is None:
            return False
        del self._messages[message.message_id]
        if message.visible_at <= self._clock():
            self._visible.remove(message)
        return True

    def purge(self) -> None:
        """Delete every message."""
        for pile in (self._visible, self._hidden, self._messages, self._receipts):
            pile.clear()

    def messages(self) -> list[Message]:
        """All that are not deleted, in the order in which they were sent."""
        self._settle()
        return list(self._messages.values())

    def visible(self) -> int:
        """Number of messages that a receive could return now."""
        self._settle()
        return len(self._visible)

    def next_visible_in(self) -> float | None:
        """Seconds until a hidden message becomes visible, at least 0; None if there is none."""
        return max(0.0, (self._hidden[0][0] - self._clock()) / 1000) if self._hidden else None

    def on_send(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call it at each send; the returned function ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _hide_until(self, message: Message, at: int) -> None:
        message.visible_at = at
        heapq.heappush(self._hidden, (at, next(self._order), message))

    def _settle(self) -> int:
        """Let the messages become visible that are due, or redrive them; return the time."""
        now = self._clock()
        while self._hidden and self._hidden[0][0] <= now:
            _, _, message = heapq.heappop(self._hidden)
            if self._messages.get(message.message_id) is message:
                self._show(message)
        return now

    def _show(self, message: Message) -> None:
        if self.dead_letters is None or message.receive_count < self.max_receive_count:
            self._visible.append(message)
            return
        del self._messages[message.message_id]
        self._receipts.pop(message.receipt, None)
        self.dead_letters.take(message)

    def take(self, message: Message) -> None:
        """Accept a message of another queue, as it is: a redrive keeps its id and the time at which it was sent."""
        self._messages[message.message_id] = message
        self._hide_until(message, self._clock())
