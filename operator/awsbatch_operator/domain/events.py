"""What is told to people as Kubernetes Events: one per transition of a status, never per look."""

from collections.abc import Iterator
from dataclasses import dataclass

from awsbatch_operator.domain import conditions as say
from awsbatch_operator.domain.errors import Fate
from awsbatch_operator.domain.record import Phase, Status


@dataclass(frozen=True, slots=True)
class Event:
    """`reason` is CamelCase; `note` at most 1024 bytes once posted; `warning` when a person should look."""

    reason: str
    note: str
    warning: bool = False


def between(before: Status, after: Status) -> tuple[Event, ...]:
    """The Events that the step from one written status to the next is worth."""
    return (*_of_request(before, after), *_of_job(before, after), *_of_trouble(before, after))


def _of_request(before: Status, after: Status) -> Iterator[Event]:
    sent, sent_before = after.termination, before.termination
    if sent and sent.accepted_at and not (sent_before and sent_before.accepted_at):
        yield Event("TerminationRequested", f"Batch accepted TerminateJob with the reason: {sent.reason}")
    fate = None if _told_before(before, after) else _entered(say.TERMINATED, before, after)
    if fate is not None and fate.reason == say.BY_REQUEST.reason:
        yield Event("Terminated", fate.message)
    if fate is not None and fate.reason == say.ALREADY_FINISHED.reason:
        yield Event("TerminationSkipped", fate.message)


def _told_before(before: Status, after: Status) -> bool:
    """Whether the end of the job was shown already, before its details had to go for a while."""
    hidden, job = before.condition(say.READY), after.job
    if before.account_id is None or before.job is not None or hidden is None or job is None:
        return False
    return job.stopped_at is not None and job.stopped_at < hidden.since


def _of_job(before: Status, after: Status) -> Iterator[Event]:
    if after.phase is before.phase or _told_before(before, after):
        return
    succeeded, fate = after.condition(say.SUCCEEDED), after.condition(say.TERMINATED)
    note = succeeded.message if succeeded else ""
    if after.phase is Phase.SUCCEEDED:
        yield Event("JobSucceeded", note)
    elif after.phase is Phase.FAILED:
        yield Event("JobFailed", note, warning=True)
    elif after.phase is Phase.TERMINATED and (fate is None or fate.reason != say.BY_REQUEST.reason):
        yield Event("Terminated", note)


_OF_STALLED = {
    "JobNotFound": "JobNotFound",
    "JobVanished": "JobNotFound",
    Fate.DENIED.value: "AccessDenied",
    Fate.CREDENTIALS.value: "AccessDenied",
    Fate.REJECTED.value: "TerminationDelayed",
    say.STUCK.reason: "TerminationDelayed",
    **{
        reason: reason
        for reason in (
            *("NoAccessPolicy", "AmbiguousPolicy", "PolicyUnreadable"),
            *("JobNotAllowed", "TerminationNotAllowed", "AccountChanged"),
        )
    },
}


def _of_trouble(before: Status, after: Status) -> Iterator[Event]:
    stalled = _entered(say.STALLED, before, after)
    if stalled is not None and stalled.reason in _OF_STALLED:
        yield Event(_OF_STALLED[stalled.reason], stalled.message, warning=True)
    reconciling = _entered(say.RECONCILING, before, after)
    if reconciling is not None and reconciling.reason == Fate.THROTTLED.value:
        yield Event("Throttled", reconciling.message, warning=True)
    now, then = after.condition(say.RECONCILING), before.condition(say.RECONCILING)
    if now and now.message == say.DELAYED.message and not (then and then.message == now.message):
        yield Event("TerminationDelayed", now.message, warning=True)


def _entered(type_: str, before: Status, after: Status) -> say.Claim | None:
    """The condition, when its reason is another than before."""
    now, then = after.condition(type_), before.condition(type_)
    if now is None or (then is not None and then.reason == now.reason):
        return None
    return say.Claim(now.status, now.reason, now.message)
