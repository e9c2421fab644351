"""The command `wait`: until each job has ended or needs a person."""

from __future__ import annotations

import time

from kubectl_awsbatch import output
from kubectl_awsbatch.errors import OK, STALLED, TIMED_OUT, CommandError, UsageError
from kubectl_awsbatch.following import ObjectFollower, Timer
from kubectl_awsbatch.kubectl import CHECK_OPERATOR, JOBS, UNANSWERED_AFTER
from kubectl_awsbatch.states import Outcome, attention, condition, key, observed, outcome, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from kubectl_awsbatch.kubectl import Kubectl

    Object = dict[str, Any]
    Key = tuple[str, str]

_WORST = (STALLED, TIMED_OUT, 1, 2, OK)
"""Exit codes of `wait`, the worst first."""


def wait_for_jobs(
    follower: ObjectFollower, keys: Sequence[Key], on_outcome: Callable[[Key, Outcome, Object], None]
) -> dict[Key, tuple[Outcome, Object]]:
    """Wait until each job has ended, or needs a person; `on_outcome` is called for each at once.

    The result has all keys. An object that is deleted, or replaced by another one of its name, is missing.
    """
    decided: dict[Key, tuple[Outcome, Object]] = {}
    objects: dict[Key, Object] = {}
    uids: dict[Key, str] = {}
    unanswered = _UnansweredNotice()
    for objects in follower:
        for one in keys:
            if one in decided:
                continue
            found = _outcome_of(objects.get(one), uids.setdefault(one, ""))
            if one in objects:
                uids[one] = objects[one]["metadata"]["uid"]
            if found:
                decided[one] = found, objects.get(one, {})
                on_outcome(one, *decided[one])
        waiting = [objects[one] for one in keys if one not in decided and one in objects]
        if len(decided) == len(keys):
            break
        unanswered.check(waiting)
        output.progress(_waiting_line(waiting, len(decided), len(keys)))
    output.progress("")
    for one in keys:
        if one not in decided:
            decided[one] = Outcome(TIMED_OUT, "timed out"), objects.get(one, {})
            on_outcome(one, *decided[one])
    return decided


def _outcome_of(body: Object | None, uid: str) -> Outcome | None:
    if body is None:
        return Outcome(
            STALLED, "missing", "NotFound", "the BatchJob was deleted" if uid else "there is no such BatchJob"
        )
    if uid and body["metadata"]["uid"] != uid:
        return Outcome(STALLED, "missing", "Replaced", "the BatchJob was deleted and created again")
    return outcome(body)


def _waiting_line(waiting: Sequence[Object], done: int, total: int) -> str:
    if total == 1 and waiting:
        body = waiting[0]
        held = attention(body)
        phase = status(body).get("phase") or "not observed yet"
        return f"waiting for {key(body)[1]}: {output.clean(phase)}{f', {output.clean(held)}' if held else ''}"
    return f"waiting: {done} of {total} have finished"


class _UnansweredNotice:
    """Tells once when the operator does not answer."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._shown = False

    def check(self, waiting: Sequence[Object]) -> None:
        if all(observed(body) for body in waiting):
            self._since = None
            return
        self._since = self._since or time.monotonic()
        if not self._shown and time.monotonic() - self._since > UNANSWERED_AFTER:
            self._shown = True
            output.note(NO_ANSWER)


NO_ANSWER = f"The operator has not processed the last change for a minute: {CHECK_OPERATOR}."


def worst(codes: Sequence[int]) -> int:
    """The exit code for several objects: 3 before 124 before 1 before 2 before 0."""
    return min(codes, key=_WORST.index, default=STALLED)


def seconds_of(text: str) -> float:
    """The seconds of 90, 90s, 5m or 1h30m. Raises UsageError."""
    import re

    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text)
    if not text or not found:
        raise UsageError(f"--timeout {output.quoted(text)} is not a duration", "Write it as 90s, 5m or 1h30m.")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def wait(kubectl: Kubectl, names: Sequence[str], selector: str, timeout: float | None, *, as_json: bool) -> int:
    """The command `wait`."""
    kubectl.cluster_context()
    timer = Timer(timeout)
    if selector:
        keys = [key(body) for body in kubectl.get(JOBS, selector=selector)]
        if not keys:
            raise CommandError(f"no BatchJob matches the selector {output.quoted(selector)}", exit_code=STALLED)
    else:
        keys = [(kubectl.cluster_context().namespace, name) for name in dict.fromkeys(names)]
    tell = show_nothing if as_json else show(everywhere=kubectl.everywhere)
    follower = ObjectFollower(kubectl, JOBS, keys, timer, known=bool(selector))
    decided = wait_for_jobs(follower, keys, tell)
    if as_json:
        output.write_json([summary(one, *decided[one]) for one in keys])
    elif not selector and any(found.reason == "NotFound" for found, _ in decided.values()):
        from kubectl_awsbatch.jobs import where_else

        for (_, name), (found, _body) in decided.items():
            if found.reason == "NotFound" and (hint := where_else(kubectl, name)):
                output.note(hint)
    return worst([found.code for found, _ in decided.values()])


def show(*, everywhere: bool) -> Callable[[Key, Outcome, Object], None]:
    def show(one: Key, found: Outcome, body: Object) -> None:
        output.progress("")
        output.write(f"{name_of(one, everywhere=everywhere)}: {outcome_line(found, body)}\n")

    return show


def show_nothing(_key: Key, _found: Outcome, _body: Object) -> None:
    pass


def name_of(one: Key, *, everywhere: bool) -> str:
    return f"{one[0]}/batchjob/{one[1]}" if everywhere else f"batchjob/{one[1]}"


def outcome_line(found: Outcome, body: Object) -> str:
    """One line on how the job ended."""
    reason = f" ({output.clean(found.reason)})" if found.reason else ""
    code = status(body).get("exitCode")
    container = f", exit code {code}" if code is not None and found.word in ("failed", "terminated") else ""
    message = f": {output.clean(found.message)}" if found.message and found.code else ""
    return f"{found.word}{reason}{container}{message}"


def summary(one: Key, found: Outcome, body: Object) -> Object:
    """Return the output of `-o json` for one object."""
    shown = status(body)
    return {
        "namespace": one[0],
        "name": one[1],
        "jobId": body.get("spec", {}).get("jobId"),
        "phase": shown.get("phase"),
        "outcome": found.word,
        "exitCode": found.code,
        "reason": found.reason,
        "message": found.message,
        "containerExitCode": shown.get("exitCode"),
        "termination": condition(body, "Terminated").get("reason"),
    }
