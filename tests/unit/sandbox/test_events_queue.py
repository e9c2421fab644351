"""The semantics of the sandbox's SQS queues, on a clock that only the test moves; long polls in virtual time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from awsbatch_sandbox.events.errors import ServiceError
from awsbatch_sandbox.events.queue import Queue, QueueId, queue_id_of
from awsbatch_sandbox.events.sqs import OPERATIONS, receive_message

START = 1_700_000_000_000
QUEUE = QueueId("123456789012", "eu-west-1", "events")


@dataclass
class Sqs:
    """A queue and its dead-letter queue, with their clock."""

    now: int = START
    dead: Queue = field(init=False)
    queue: Queue = field(init=False)

    def __post_init__(self) -> None:
        self.dead = Queue(QUEUE._replace(name="dead"), lambda: self.now)
        self.queue = Queue(QUEUE, lambda: self.now, dead_letters=self.dead)

    def bodies(self, most: int = 10, seconds: float = 20) -> list[str]:
        return [one.body for one in self.queue.receive(most, seconds)]

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * 1000)


@pytest.fixture
def sqs() -> Sqs:
    return Sqs()


def test_messages_come_in_the_order_in_which_they_were_sent(sqs: Sqs) -> None:
    for number in range(25):
        sqs.queue.send(str(number))
    assert [sqs.bodies() for _ in range(4)] == [
        [str(number) for number in range(10)],
        [str(number) for number in range(10, 20)],
        [str(number) for number in range(20, 25)],
        [],
    ]


def test_a_received_message_is_hidden_until_its_visibility_timeout_has_passed(sqs: Sqs) -> None:
    sqs.queue.send("a")
    assert sqs.bodies(seconds=20) == ["a"]
    assert (sqs.queue.visible(), len(sqs.queue.messages())) == (0, 1)
    sqs.wait(19.999)
    assert sqs.bodies() == []
    sqs.wait(0.001)
    (again,) = sqs.queue.receive(1, 20)
    assert (again.body, again.receive_count, again.sent_at, again.first_received_at) == ("a", 2, START, START)


def test_a_deleted_message_never_comes_back(sqs: Sqs) -> None:
    for body in ("a", "b"):
        sqs.queue.send(body)
    (first,) = sqs.queue.receive(1, 20)
    assert sqs.queue.delete(first.receipt)
    sqs.wait(60)
    assert (sqs.bodies(), sqs.dead.messages()) == (["b"], [])


def test_a_handle_deletes_after_the_timeout_too_unless_the_message_was_received_again(sqs: Sqs) -> None:
    for body in ("a", "b"):
        sqs.queue.send(body)
    handles = [one.receipt for one in sqs.queue.receive(2, 20)]
    sqs.wait(20)
    assert sqs.queue.delete(handles[0])
    (again,) = sqs.queue.receive(10, 20)
    assert not sqs.queue.delete(handles[1])
    assert [one.body for one in sqs.queue.messages()] == ["b"]
    assert sqs.queue.delete(again.receipt)
    assert sqs.queue.messages() == []


def test_a_message_that_nobody_deletes_is_received_three_times_and_then_a_dead_letter(sqs: Sqs) -> None:
    sent = sqs.queue.send("poison")
    for _ in range(3):
        assert sqs.bodies(seconds=20) == ["poison"]
        assert sqs.dead.messages() == []
        sqs.wait(20)
    assert sqs.bodies() == []
    (dead,) = sqs.dead.messages()
    assert (dead.message_id, dead.body, dead.sent_at, dead.receive_count) == (sent, "poison", START, 3)
    assert sqs.queue.messages() == []
    assert sqs.dead.receive(1) == [dead]


def test_a_delayed_message_is_dated_by_its_arrival_and_overtaken_until_then(sqs: Sqs) -> None:
    sqs.queue.send("late", delay=2)
    sqs.queue.send("early")
    assert sqs.bodies() == ["early"]
    sqs.wait(2)
    (late,) = sqs.queue.receive(1, 20)
    assert (late.body, late.sent_at) == ("late", START + 2000)


def test_purge_deletes_everything(sqs: Sqs) -> None:
    for body in ("received", "hidden"):
        sqs.queue.send(body, delay=body == "hidden")
    (received,) = sqs.queue.receive(10, 1)
    sqs.queue.purge()
    sqs.wait(60)
    assert (sqs.bodies(), sqs.queue.messages(), sqs.queue.delete(received.receipt)) == ([], [], False)


@pytest.mark.parametrize(
    "host",
    [
        "sqs.eu-west-1.amazonaws.com",
        "sqs-fips.eu-west-1.amazonaws.com",
        "sqs.eu-west-1.api.aws",
        "vpce-0a1b.sqs.eu-west-1.vpce.amazonaws.com",
    ],
)
def test_every_endpoint_of_a_region_names_the_same_queue(host: str) -> None:
    assert queue_id_of(f"https://{host}/123456789012/events") == QUEUE


@pytest.mark.parametrize("region", ["eu-west-1", "cn-north-1"])
def test_a_url_names_its_own_queue(region: str) -> None:
    queue = QUEUE._replace(region=region)
    assert queue.url.endswith(f"{'.cn' if region[:2] == 'cn' else '.com'}/123456789012/events")
    assert queue_id_of(queue.url) == queue


@pytest.mark.parametrize("url", ["", "events", "https://sqs.eu-west-1.amazonaws.com/events", "http://127.0.0.1/1/2"])
def test_another_form_of_a_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"https://sqs.<region>.amazonaws.com/<account>/<name>"):
        queue_id_of(url)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "eleven messages": ("ReceiveMessage", {"MaxNumberOfMessages": 11}, "InvalidParameterValueException"),
    "no message": ("ReceiveMessage", {"MaxNumberOfMessages": 0}, "InvalidParameterValueException"),
    "21 seconds": ("ReceiveMessage", {"WaitTimeSeconds": 21}, "InvalidParameterValueException"),
    "13 hours": ("ReceiveMessage", {"VisibilityTimeout": 46_800}, "InvalidParameterValueException"),
    "no handle": ("DeleteMessage", {}, "MissingRequiredParameterException"),
    "another handle": ("DeleteMessage", {"ReceiptHandle": "x"}, "ReceiptHandleIsInvalid"),
    "no entry": ("DeleteMessageBatch", {"Entries": []}, "EmptyBatchRequest"),
    "eleven entries": ("DeleteMessageBatch", {"Entries": [{"Id": "x"}] * 11}, "TooManyEntriesInBatchRequest"),
    "an id twice": ("DeleteMessageBatch", {"Entries": [{"Id": "x"}] * 2}, "BatchEntryIdsNotDistinct"),
    "a wrong id": ("DeleteMessageBatch", {"Entries": [{"Id": "a b"}]}, "InvalidBatchEntryId"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_the_limits_of_sqs_hold(sqs: Sqs, what: str) -> None:
    operation, body, code = REFUSED[what]
    with pytest.raises(ServiceError) as refused:
        await OPERATIONS[operation](sqs.queue, body, lambda: True)
    assert refused.value.code == code


@pytest.mark.looptime(start=0)
class TestLongPoll:
    """`queue` goes by the loop's clock here."""

    @pytest.fixture
    def queue(self) -> Queue:
        return Queue(QUEUE, lambda: int(asyncio.get_running_loop().time() * 1000))

    @staticmethod
    async def poll(queue: Queue, connected: Callable[[], bool] = lambda: True, **body: Any) -> tuple[float, list[str]]:
        answer = await receive_message(queue, {"WaitTimeSeconds": 20, "VisibilityTimeout": 5, **body}, connected)
        return asyncio.get_running_loop().time(), [one["Body"] for one in answer.get("Messages", ())]

    async def test_it_ends_with_the_first_message(self, queue: Queue) -> None:
        asyncio.get_running_loop().call_later(7, queue.send, "a")
        assert await self.poll(queue) == (7, ["a"])

    async def test_it_ends_empty_after_its_time(self, queue: Queue) -> None:
        assert await self.poll(queue) == (20, [])
        assert await receive_message(queue, {"WaitTimeSeconds": 1}, lambda: True) == {}

    async def test_without_a_wait_it_answers_at_once(self, queue: Queue) -> None:
        assert await self.poll(queue, WaitTimeSeconds=0) == (0, [])

    async def test_it_gets_a_message_that_becomes_visible_again_or_was_delayed(self, queue: Queue) -> None:
        queue.send("a")
        assert await self.poll(queue) == (0, ["a"])
        asyncio.get_running_loop().call_later(1, lambda: queue.send("b", delay=6))
        assert await self.poll(queue) == (5, ["a"])
        assert await self.poll(queue, VisibilityTimeout=60) == (7, ["b"])

    async def test_a_message_goes_to_one_of_two(self, queue: Queue) -> None:
        asyncio.get_running_loop().call_later(3, queue.send, "a")
        found = await asyncio.gather(*(self.poll(queue, VisibilityTimeout=60) for _ in range(2)))
        assert sorted(found) == [(3, ["a"]), (20, [])]

    async def test_a_caller_that_is_gone_gets_nothing(self, queue: Queue) -> None:
        asyncio.get_running_loop().call_later(3, queue.send, "a")
        assert await self.poll(queue, lambda: asyncio.get_running_loop().time() < 1) == (3, [])
        assert queue.visible() == 1
