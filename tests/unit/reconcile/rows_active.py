"""Rows of the decision table for a job that Batch shows alive."""

from typing import Final

from awsbatch_operator.api.batchjob import Phase, Termination
from awsbatch_operator.api.timestamps import MINUTE, SECOND
from awsbatch_operator.reconcile.job_state import JobState, Request
from builders import NOW, TERMINATE, WHY, a_job, an_object, seen
from unit.reconcile.rows import ACTIVE, FOLLOWING, OBSERVED, SENDING, STUCK, WAITING, Row

RUNNING_JOB = a_job().running()
FLAGGED = RUNNING_JOB.flagged()
PLAIN = an_object()
ASKED = an_object().terminating()

ACCEPTED = seen(RUNNING_JOB, NOW - SECOND).in_flight().accepted(TERMINATE, WHY, NOW - 10, NOW)
"""Sent and accepted this very moment; the last poll is a second old."""


def requested(known: JobState, age: int, requests: int = 1) -> JobState:
    """A job state after so many accepted TerminateJob calls, the last `age` ago."""
    return known.replace(request=Request(TERMINATE, WHY, NOW - age, NOW - age, requests))


OBSERVED_ALIVE: Final = {
    "a submitted job is pending and polled every minute": Row(
        PLAIN, seen(a_job()), Phase.PENDING, f"{OBSERVED} {ACTIVE}", MINUTE
    ),
    "a starting job is pending": Row(
        PLAIN, seen(a_job().in_status("STARTING")), Phase.PENDING, f"{OBSERVED} {ACTIVE}", MINUTE
    ),
    "a running job is polled every half minute": Row(
        PLAIN, seen(RUNNING_JOB), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 30 * SECOND
    ),
    "the next poll counts from the last one, not from now": Row(
        PLAIN, seen(RUNNING_JOB, NOW - 20 * SECOND), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 10 * SECOND
    ),
    "an array parent with a running child is running though Batch says pending": Row(
        PLAIN, seen(a_job().pending().array(RUNNING=1, RUNNABLE=4)), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 30 * SECOND
    ),
    "an array parent whose children all wait is pending": Row(
        PLAIN, seen(a_job().pending().array(RUNNABLE=5)), Phase.PENDING, f"{OBSERVED} {ACTIVE}", MINUTE
    ),
    "a status that Batch may invent later counts as alive": Row(
        PLAIN, seen(a_job().in_status("HIBERNATING")), Phase.UNKNOWN, f"{OBSERVED} {ACTIVE}", MINUTE
    ),
    "someone else's termination shows, and is polled often": Row(
        PLAIN, seen(FLAGGED), Phase.TERMINATING, f"{OBSERVED} {ACTIVE}", 15 * SECOND
    ),
    "a phase that somebody else wrote is not trusted": Row(
        PLAIN.with_status(phase=Phase.TERMINATED), seen(RUNNING_JOB), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 30 * SECOND
    ),
    "a termination without acceptance that somebody else wrote sends nothing": Row(
        PLAIN.with_status(termination=Termination(WHY, completed_at=NOW)),
        seen(RUNNING_JOB),
        Phase.RUNNING,
        f"{OBSERVED} {ACTIVE}",
        30 * SECOND,
    ),
}

ASKED_ALIVE: Final = {
    "nothing sent: TerminateJob now": Row(ASKED, seen(RUNNING_JOB), Phase.RUNNING, SENDING, 30 * SECOND, call=WHY),
    "nothing sent, job not started yet: TerminateJob now": Row(
        ASKED, seen(a_job().in_status("RUNNABLE")), Phase.PENDING, SENDING, MINUTE, call=WHY
    ),
    "a job last seen long ago is asked without another poll": Row(
        ASKED, seen(RUNNING_JOB, NOW - 29 * SECOND), Phase.RUNNING, SENDING, SECOND, call=WHY
    ),
    "a call under way is not doubled": Row(ASKED, seen(RUNNING_JOB).in_flight(), Phase.RUNNING, SENDING, 30 * SECOND),
    "just accepted: no call, a poll a second later": Row(ASKED, ACCEPTED, Phase.TERMINATING, FOLLOWING, SECOND),
    "polls follow at 1, 3, 7 and 15 seconds: after the first": Row(
        ASKED,
        ACCEPTED.with_job(RUNNING_JOB.job, NOW + SECOND),
        Phase.TERMINATING,
        FOLLOWING,
        2 * SECOND,
        at=NOW + SECOND,
    ),
    "polls follow at 1, 3, 7 and 15 seconds: after the third": Row(
        ASKED,
        ACCEPTED.with_job(RUNNING_JOB.job, NOW + 7 * SECOND),
        Phase.TERMINATING,
        FOLLOWING,
        8 * SECOND,
        at=NOW + 7 * SECOND,
    ),
    "polls follow every 15 seconds later on": Row(
        ASKED, requested(seen(FLAGGED), 40 * SECOND), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
    "a poll that was sent before the acceptance and lacks the flag resends nothing": Row(
        ASKED, ACCEPTED.with_job(RUNNING_JOB.job, NOW + 5), Phase.TERMINATING, FOLLOWING, SECOND + 5, at=NOW + 5
    ),
    "59.999 s without a flag: no second call, a poll when the minute is full": Row(
        ASKED, requested(seen(RUNNING_JOB), MINUTE - 1), Phase.TERMINATING, FOLLOWING, 1
    ),
    "a minute without a flag: again": Row(
        ASKED, requested(seen(RUNNING_JOB), MINUTE), Phase.TERMINATING, FOLLOWING, 15 * SECOND, call=WHY
    ),
    "a minute is full but the last poll is older: poll before calling again": Row(
        ASKED, requested(seen(RUNNING_JOB, NOW - 2 * SECOND), MINUTE), Phase.TERMINATING, FOLLOWING, 0
    ),
    "the second silence may last two minutes": Row(
        ASKED, requested(seen(RUNNING_JOB), 2 * MINUTE - 1, 2), Phase.TERMINATING, FOLLOWING, 1
    ),
    "two minutes of silence after the second call: a third": Row(
        ASKED, requested(seen(RUNNING_JOB), 2 * MINUTE, 2), Phase.TERMINATING, FOLLOWING, 15 * SECOND, call=WHY
    ),
    "the wait doubles up to 15 minutes: not before": Row(
        ASKED, requested(seen(RUNNING_JOB), 15 * MINUTE - 1, 9), Phase.TERMINATING, FOLLOWING, 1
    ),
    "the wait doubles up to 15 minutes: and not beyond": Row(
        ASKED,
        requested(seen(RUNNING_JOB), 15 * MINUTE, 99),
        Phase.TERMINATING,
        FOLLOWING,
        15 * SECOND,
        call=WHY,
    ),
    "a resend under way is not doubled": Row(
        ASKED, requested(seen(RUNNING_JOB), MINUTE).in_flight(), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
    "flagged by our request: never again, however long it takes": Row(
        ASKED, requested(seen(FLAGGED), 29 * MINUTE), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
    "flagged by someone else: nothing to send": Row(ASKED, seen(FLAGGED), Phase.TERMINATING, FOLLOWING, SECOND),
    "cancelled by someone else: nothing to send": Row(
        ASKED, seen(a_job().cancelled()), Phase.TERMINATING, FOLLOWING, SECOND
    ),
    "flagged by someone else before this process came: polls become rarer": Row(
        ASKED.generation(1, NOW - MINUTE), seen(FLAGGED), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
    "pending on dependencies and flagged: waits for them": Row(
        ASKED,
        requested(seen(a_job().pending().flagged()), 40 * SECOND),
        Phase.TERMINATING,
        WAITING,
        15 * SECOND,
    ),
    "pending on dependencies for an hour is not stuck": Row(
        ASKED,
        requested(seen(a_job().pending().flagged()), 60 * MINUTE),
        Phase.TERMINATING,
        WAITING,
        15 * SECOND,
    ),
    "a flagged array parent whose children work does not wait on dependencies": Row(
        ASKED,
        requested(seen(a_job().pending().flagged().array(RUNNING=2)), 40 * SECOND),
        Phase.TERMINATING,
        FOLLOWING,
        15 * SECOND,
    ),
    "half an hour and still alive: a person must act": Row(
        ASKED, requested(seen(FLAGGED), 30 * MINUTE), Phase.TERMINATING, STUCK, 15 * SECOND
    ),
    "an array parent may be stuck, too": Row(
        ASKED,
        requested(seen(a_job().pending().flagged().array(RUNNING=2)), 30 * MINUTE),
        Phase.TERMINATING,
        STUCK,
        15 * SECOND,
    ),
    "just short of half an hour is not stuck": Row(
        ASKED, requested(seen(FLAGGED), 30 * MINUTE - 1), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
}

ACTIVE_ROWS: Final = OBSERVED_ALIVE | ASKED_ALIVE
