"""EventBridge and SQS with the verbs by which tests control them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from awsbatch_sandbox.events.bus import Delivery, EventBus, Rule
from awsbatch_sandbox.events.errors import ServiceError
from awsbatch_sandbox.events.queue import MAX_RECEIVE_COUNT, Message, Queue, QueueId, queue_id_of

JSON = dict[str, Any]
NAME: Final = "awsbatch-events"
"""Name of a queue that is given none."""
DEAD_LETTERS: Final = "-dlq"
"""Suffix of the name of a dead-letter queue."""


class EventsSimulator:
    """Queues of any account and region, each with a rule that fills it.

    `clock`: epoch seconds, by which messages are dated. `home`: account and region of a queue that is given none. The
    verbs raise ValueError for a wrong argument and LookupError for a queue that does not exist.
    """

    def __init__(self, clock: Callable[[], float], home: Callable[[], tuple[str, str]]) -> None:
        self._clock, self._home = clock, home
        self._queues: dict[QueueId, Queue] = {}
        self._readers: dict[QueueId, frozenset[str]] = {}
        self._rules: dict[QueueId, Rule] = {}
        self.bus = EventBus()
        self.wanted = asyncio.Event()
        """Set once there is a rule: until then nobody needs events."""

    def create_queue(
        self,
        name: str = NAME,
        *,
        account: str | None = None,
        region: str | None = None,
        sources: Sequence[Mapping[str, str]] = (),
        readers: Sequence[str] = (),
        pattern: Mapping[str, Any] | None = None,
        transformed: bool = True,
        max_receive_count: int = MAX_RECEIVE_COUNT,
    ) -> str:
        """Create a queue, its dead-letter queue and a rule of its account and region; return the queue's URL.

        `sources`: other places (`account`, `region`, or both; {} for all) whose events are forwarded here. `readers`:
        other accounts that the queue's policy lets receive. `pattern`: event pattern of the rule, exact matching only.
        `transformed`: bodies have ids only, as by the input transformer; else they are whole events.
        """
        home_account, home_region = self._home()
        identity = QueueId(account or home_account, region or home_region, name)
        if identity in self._queues:
            raise ValueError(f"name {name} exists already in account {identity.account}, {identity.region}")
        dead = Queue(identity._replace(name=name + DEAD_LETTERS), self._now)
        queue = Queue(identity, self._now, dead_letters=dead, max_receive_count=max_receive_count)
        others = [(source.get("account"), source.get("region")) for source in sources]
        rule = Rule(queue, [(identity.account, identity.region), *others], transformed=transformed)
        if pattern is not None:
            rule.pattern = pattern
        self._queues |= {identity: queue, dead.identity: dead}
        self._readers[identity] = frozenset(readers)
        self._rules[identity] = rule
        self.bus.rules.append(rule)
        self.wanted.set()
        return identity.url

    def delete_queue(self, url: str) -> None:
        """Delete the queue, its dead-letter queue and its rule."""
        queue = self._queue(url)
        self.bus.rules.remove(self._rule(url))
        del self._rules[queue.identity]
        for one in (queue, queue.dead_letters):
            if one is not None:
                del self._queues[one.identity]
        if not self.bus.rules:
            self.wanted.clear()

    def purge_queue(self, url: str) -> None:
        """Delete the messages of the queue and of its dead-letter queue."""
        queue = self._queue(url)
        for one in (queue, queue.dead_letters):
            if one is not None:
                one.purge()

    def queues(self) -> list[str]:
        """URLs of the queues that rules fill."""
        return [identity.url for identity in self._rules]

    def delivery(self, url: str | None = None, **how: Any) -> None:
        """Set how events reach that queue, or every one: the fields of Delivery; those not given are 0."""
        for rule in self._rules.values() if url is None else [self._rule(url)]:
            rule.deliver_by(Delivery(**how))

    def disable_rule(self, url: str) -> None:
        """Let the rule of that queue deliver nothing, without an error anywhere."""
        self._rule(url).enabled = False

    def enable_rule(self, url: str) -> None:
        self._rule(url).enabled = True

    def send_message(self, url: str, body: str) -> str:
        """Put a message of any text into the queue; return its id."""
        return self._queue(url).send(body)

    def messages(self, url: str) -> list[JSON]:
        """Return the messages in the queue, received or not, oldest first. Times are epoch milliseconds."""
        return [_shown(one) for one in self._queue(url).messages()]

    def dead_letters(self, url: str) -> list[JSON]:
        """Return the messages in the dead-letter queue of that queue."""
        dead = self._queue(url).dead_letters
        self._queue(url).visible()  # redrives what is due
        return [] if dead is None else [_shown(one) for one in dead.messages()]

    def find(self, account: str, region: str, url: Any) -> Queue:
        """The queue that a caller of that account and region means and may use; ServiceError otherwise."""
        try:
            identity = queue_id_of(url)
        except (TypeError, ValueError):
            raise ServiceError("InvalidAddress", f"The address {url} is not valid for this endpoint.", 404) from None
        if identity.region != region:
            raise ServiceError("InvalidAddress", f"The address {url} is not valid for this endpoint.", 404)
        queue = self._queues.get(identity)
        if queue is None:
            raise ServiceError("QueueDoesNotExist", "The specified queue does not exist.")
        if account != identity.account and account not in self._readers.get(identity, ()):
            raise ServiceError("AccessDeniedException", f"Access to the resource {url} is denied.", 403)
        return queue

    def _queue(self, url: str) -> Queue:
        queue = self._queues.get(queue_id_of(url))
        if queue is None:
            raise LookupError(f"there is no queue {url}; the queues are {', '.join(self.queues()) or 'none'}")
        return queue

    def _rule(self, url: str) -> Rule:
        rule = self._rules.get(self._queue(url).identity)
        if rule is None:
            raise LookupError(f"there is no rule for {url}: it is a dead-letter queue")
        return rule

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _shown(message: Message) -> JSON:
    return {
        "message_id": message.message_id,
        "body": message.body,
        "sent_at": message.sent_at,
        "visible_at": message.visible_at,
        "receive_count": message.receive_count,
    }
