"""Events among the actors: how they reach the queue, what else is in it, and how SQS and EventBridge answer.

The queue gets the events of all jobs of the account: of those that objects name, and of those of BatchTerminations.
"""

import json
import random
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from awsbatch_sandbox.world import World

USUAL: Final = {"duplicates": 0.1, "disorder": 0.2, "losses": 0.1}
"""The default delivery of events, also in calm periods."""
LOST_ENDS: Final = 12
"""Jobs that end at the end of a storm without an event."""
_FLOOD: Final = 400
_LATEST_POISON: Final = 0.6
"""Part of a storm. SQS moves a message to the dead-letter queue a minute after its first receive."""
_BROKEN: Final = ("server_500", "html_502", "empty_503", "throttle_429", "throttle_400", "reset", "cut_200")
_REFUSED: Final = ("denied_403", "expired_403", "unrecognized_403", "signature_403")
_FORMS: Final = ("ended", "whole", "nobody", "unknown", "child", "node", "canary", "words", "long")

Trouble = tuple[float, str, float, Mapping[str, Any]]
"""Seconds from the begin of the storm, kind of step, for how many seconds, details."""
_TROUBLES: Final[tuple[tuple[str, tuple[float, float], Mapping[str, Any]], ...]] = (
    # A tuple among the details is a choice.
    ("events_delivery", (2, 10), {"losses": (0.5, 1.0)}),
    ("events_delivery", (2, 10), {"duplicates": 1.0, "disorder": 1.0, "late": (1.0, 5.0)}),
    ("events_delivery", (2, 10), {"delay": (1.0, 8.0), "disorder": 0.5}),
    ("events_rule", (2, 12), {}),
    ("events_deny", (2, 8), {"operation": ("ReceiveMessage", "DeleteMessage", "PutEvents")}),
    ("fault", (0, 0), {"operation": "ReceiveMessage", "kind": _BROKEN, "times": (1, 3, 6)}),
    ("fault", (0, 0), {"operation": "ReceiveMessage", "kind": _REFUSED, "times": (1, 3, 6)}),
    ("fault", (0, 0), {"operation": "ReceiveMessage", "kind": "reset", "times": (1, 3), "act_then": True}),
    ("fault", (0, 0), {"operation": "ReceiveMessage", "kind": "slow", "times": 1, "seconds": (1.0, 5.0, 25.0)}),
    ("fault", (0, 0), {"operation": "DeleteMessageBatch", "kind": (*_BROKEN, *_REFUSED), "times": (1, 3, 6)}),
    ("fault", (0, 0), {"operation": "DeleteMessageBatch", "kind": "slow", "times": 2, "seconds": (1.0, 4.0)}),
    ("fault", (0, 0), {"operation": "PutEvents", "kind": (*_BROKEN, *_REFUSED, "empty_200"), "times": (1, 3)}),
    *(("events_forge", (0.0, 0.0), {"form": form}) for form in _FORMS),
    ("events_poison", (0, 0), {}),
    ("events_flood", (0, 0), {}),
    ("events_purge", (0, 0), {}),
)
_POISON: Final = ("not JSON", "", "{}", "[]", '"jobId"', '{"jobId": 7}', '{"jobId": ""}', '{"detail": []}', "[" * 9000)


@dataclass(slots=True)
class Messages:
    """What the actors put into the queue. `poison`: ids of messages that name no job; `nobodys`: of an active job that
    no object names."""

    poison: set[str] = field(default_factory=set)
    nobodys: str = ""


def plan(dice: random.Random, storm: float) -> Iterator[Trouble]:
    """Each kind of trouble once, and more of them in a long storm; at its end, ends whose events get lost."""
    chosen = [*_TROUBLES, *dice.choices(_TROUBLES, k=max(int(storm / 4) - len(_TROUBLES), 0))]
    for kind, (least, most), details in chosen:
        detail = {key: dice.choice(value) if isinstance(value, tuple) else value for key, value in details.items()}
        latest = _LATEST_POISON if kind in ("events_poison", "events_purge") else 0.95
        yield dice.uniform(0.02, latest) * storm, kind, dice.uniform(least, most), detail | {"draw": dice.random()}
    yield storm, "events_lost_ends", 0.0, {"draw": dice.random()}


class EventsScript:
    """Plays the steps, by their kind. `later` runs something after so many seconds, at the end of the storm at last."""

    def __init__(
        self,
        world: World,
        messages: Messages,
        jobs: Callable[[], list[str]],
        later: Callable[[float, Callable[[], object]], None],
    ) -> None:
        """`jobs`: ids of the jobs that objects name."""
        self._batch, self._url, self._messages = world.batch, world.events_queue, messages
        self._jobs, self._later = jobs, later
        self._denials = 0
        self.steps: dict[str, Callable[[float, Mapping[str, Any]], bool]] = {
            "events_delivery": self._deliver,
            "events_rule": self._disable,
            "events_deny": self._deny,
            "events_forge": self._forge,
            "events_poison": self._poison,
            "events_flood": self._flood,
            "events_purge": self._purge,
            "events_lost_ends": self._lose_ends,
        }
        messages.nobodys = self._batch.seed(name="of-nobody")
        self.calm()

    def calm(self) -> None:
        """Let events arrive again, as well as they ever do."""
        self._batch.delivery(self._url, **USUAL)
        self._batch.enable_rule(self._url)
        self._batch.clear_denials()

    def left(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The messages that are not deleted, and those of the dead-letter queue."""
        return self._batch.messages(self._url), self._batch.dead_letters(self._url)

    def _deliver(self, seconds: float, detail: Mapping[str, Any]) -> bool:
        how = {key: value for key, value in detail.items() if key != "draw"}
        self._batch.delivery(self._url, **how, seed=int(1000 * detail["draw"]))
        self._later(seconds, lambda: self._batch.delivery(self._url, **USUAL))
        return True

    def _disable(self, seconds: float, _detail: Mapping[str, Any]) -> bool:
        self._batch.disable_rule(self._url)
        self._later(seconds, lambda: self._batch.enable_rule(self._url))
        return True

    def _deny(self, seconds: float, detail: Mapping[str, Any]) -> bool:
        self._batch.deny(detail["operation"])
        self._denials += 1
        self._later(seconds, self._allow)
        return True

    def _allow(self) -> None:
        self._denials -= 1
        if not self._denials:
            self._batch.clear_denials()

    def _forge(self, _seconds: float, detail: Mapping[str, Any]) -> bool:
        self._send(_forged(detail["form"], self._chosen(detail["draw"]), self._messages.nobodys))
        return True

    def _poison(self, _seconds: float, detail: Mapping[str, Any]) -> bool:
        first = int(detail["draw"] * len(_POISON))
        self._messages.poison |= {self._send(body) for body in (*_POISON, *_POISON)[first : first + 3]}
        return True

    def _flood(self, _seconds: float, detail: Mapping[str, Any]) -> bool:
        body = json.dumps({"jobId": self._chosen(detail["draw"]), "status": "RUNNING"})
        for _ in range(_FLOOD):
            self._send(body)
        return True

    def _purge(self, _seconds: float, _detail: Mapping[str, Any]) -> bool:
        self._batch.purge_queue(self._url)
        self._messages.poison.clear()
        return True

    def _lose_ends(self, _seconds: float, detail: Mapping[str, Any]) -> bool:
        self._batch.delivery(self._url, losses=1.0)
        jobs = self._jobs()
        random.Random(detail["draw"]).shuffle(jobs)
        ended = 0
        for job_id in jobs:
            try:
                job = self._batch.job(job_id)
            except LookupError:
                continue
            if ended < LOST_ENDS and job["status"] == "RUNNING" and not job["is_terminated"]:
                self._batch.move(job_id, ("SUCCEEDED", "FAILED")[ended % 2])
                ended += 1
        return bool(ended)

    def _chosen(self, draw: float) -> str:
        jobs = self._jobs()
        return jobs[int(draw * len(jobs))]

    def _send(self, body: str) -> str:
        return self._batch.send_message(self._url, body)


def _forged(form: str, job_id: str, nobodys: str) -> str:
    """A message that nobody but its sender vouches for."""
    lies = {"status": "SUCCEEDED", "jobQueue": "forged", "time": "2020-01-01T00:00:00Z", "region": "us-east-1"}
    match form:
        case "whole":
            detail = {"jobId": job_id, "status": "FAILED", "statusReason": "forged", "isTerminated": True}
            detail |= {"startedAt": 1, "stoppedAt": int(1000 * time.time()), "container": {"exitCode": 0}}
            return json.dumps({"source": "aws.batch", "detail-type": "Batch Job State Change", "detail": detail})
        case "nobody":
            named = nobodys
        case "unknown":
            named = str(uuid.uuid4())
        case "child" | "node":
            named = f"{job_id}{':' if form == 'child' else '#'}0"
        case "canary":
            named = f"canary-{secrets.token_hex(16)}"
        case "words":
            named = "'; drop table jobs; --"
        case "long":
            named = "x" * 200_000
        case _:
            named = job_id
    return json.dumps({"jobId": named} | lies)
