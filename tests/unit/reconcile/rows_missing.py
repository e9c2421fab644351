"""Rows of the decision table for a job that Batch does not know, or that was never observed."""

from typing import Final

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.timestamps import MINUTE, SECOND
from awsbatch_operator.reconcile.job_state import JobState
from builders import DENIED, NOW, REJECTED, TERMINATE, THROTTLED, UNAVAILABLE, WHY, a_job, absent, an_object, seen
from unit.reconcile.rows import ACTIVE, AWAITING, FOLLOWING, NOT_FOUND, NOT_OBSERVED, OBSERVED, SENDING, VANISHED, Row

RUNNING_JOB = a_job().running()
PLAIN = an_object()
ASKED = an_object().terminating()
AGO = NOW - 2 * MINUTE
WAS_ALIVE = seen(RUNNING_JOB, AGO - SECOND)
WAS_FLAGGED = seen(RUNNING_JOB.flagged(), AGO - SECOND)
"""Terminated by somebody else."""
KNOWN = PLAIN.settled(WAS_ALIVE)
UNDONE = "Terminated=False/JobNotFound"
REQUESTED = "Terminated=Unknown/TerminationPending"

GONE = absent(AGO, NOW - MINUTE, NOW)
"""Three polls over two minutes without the job."""

MISSING = ASKED.settled(GONE)
LOST = PLAIN.settled(absent(AGO, NOW - MINUTE, NOW, last=WAS_ALIVE))


def failing(times: int, fault: CallError) -> JobState:
    known = seen()
    for _ in range(times):
        known = known.with_error(fault, NOW)
    return known


NEVER_OBSERVED: Final = {
    "never observed: polled now": Row(PLAIN, seen(), None, "", 0),
    "never observed and asked for: polled, never terminated blindly": Row(ASKED, seen(), None, "", 0),
    "a restart forgets what was seen: polled before anything is sent": Row(
        ASKED.settled(seen(RUNNING_JOB)), seen(), Phase.RUNNING, SENDING, 0
    ),
    "a restart on a missing job is polled at once": Row(MISSING, seen(), Phase.MISSING, f"{NOT_FOUND} {UNDONE}", 0),
}

NEVER_SEEN: Final = {
    "absent once: it may be too new": Row(PLAIN, absent(NOW), Phase.UNKNOWN, AWAITING, 40 * SECOND),
    "absent once and asked for": Row(ASKED, absent(NOW), Phase.UNKNOWN, f"{AWAITING} {REQUESTED}", 40 * SECOND),
    "absent for two minutes but in two polls only: one more": Row(
        PLAIN, absent(AGO, NOW), Phase.UNKNOWN, AWAITING, SECOND
    ),
    "absent in three polls but for less than two minutes: a last poll when they are over": Row(
        PLAIN, absent(NOW - 100 * SECOND, NOW - 60 * SECOND, NOW), Phase.UNKNOWN, AWAITING, 20 * SECOND
    ),
    "absent in three polls over two minutes: missing": Row(PLAIN, GONE, Phase.MISSING, NOT_FOUND, 5 * MINUTE),
    "missing and asked for: nothing to terminate": Row(ASKED, GONE, Phase.MISSING, f"{NOT_FOUND} {UNDONE}", 5 * MINUTE),
    "missing by an earlier process: stays so by one poll": Row(
        MISSING, absent(NOW), Phase.MISSING, f"{NOT_FOUND} {UNDONE}", 5 * MINUTE
    ),
    "missing, then stated: a poll at once": Row(
        PLAIN.settled(GONE).generation(2, NOW + SECOND).terminating(),
        GONE,
        Phase.MISSING,
        f"{NOT_FOUND} {UNDONE}",
        0,
        at=NOW + SECOND,
    ),
    "missing, then found after all": Row(
        MISSING, GONE.with_job(RUNNING_JOB.job, NOW), Phase.RUNNING, SENDING, 30 * SECOND, call=WHY
    ),
    "absent, then throttled": Row(
        PLAIN.settled(absent(NOW)),
        absent(NOW).with_error(THROTTLED, NOW),
        Phase.UNKNOWN,
        f"{NOT_OBSERVED} Reconciling=True/Throttled",
        SECOND,
    ),
    "missing and throttled: still missing": Row(
        MISSING, GONE.with_error(THROTTLED, NOW), Phase.MISSING, f"{NOT_FOUND} {UNDONE}", SECOND
    ),
    "missing by an earlier process, the first poll throttled": Row(
        MISSING, seen().with_error(THROTTLED, NOW), Phase.MISSING, f"{NOT_FOUND} {UNDONE}", SECOND
    ),
    "missing by an earlier process, the first poll denied": Row(
        MISSING,
        seen().with_error(DENIED, NOW),
        Phase.MISSING,
        f"Ready=False/AccessDenied Stalled=True/AccessDenied {UNDONE}",
        5 * MINUTE,
    ),
}

VANISHES: Final = {
    "seen alive, absent once: nothing changes": Row(
        KNOWN, absent(NOW, last=WAS_ALIVE), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 40 * SECOND
    ),
    "seen alive, absent once, asked for: said, but not sent to a job that may be gone": Row(
        KNOWN.generation(2, AGO).terminating(),
        absent(NOW, last=WAS_ALIVE),
        Phase.RUNNING,
        SENDING,
        40 * SECOND,
    ),
    "seen alive, absent once, then stated: a poll at once": Row(
        KNOWN.generation(2, NOW + SECOND).terminating(),
        absent(NOW, last=WAS_ALIVE),
        Phase.RUNNING,
        SENDING,
        0,
        at=NOW + SECOND,
    ),
    "seen alive, absent once, withdrawn: as if never stated": Row(
        ASKED.settled(WAS_ALIVE).generation(2, AGO).terminating(None),
        absent(NOW, last=WAS_ALIVE),
        Phase.RUNNING,
        f"{OBSERVED} {ACTIVE}",
        40 * SECOND,
    ),
    "accepted, then absent once: followed": Row(
        ASKED.settled(WAS_ALIVE.accepted(TERMINATE, WHY, AGO, AGO)),
        absent(NOW, last=WAS_ALIVE.accepted(TERMINATE, WHY, AGO, AGO)),
        Phase.TERMINATING,
        FOLLOWING,
        40 * SECOND,
    ),
    "absent once while the call is under way, then accepted: known as accepted": Row(
        ASKED.settled(WAS_ALIVE),
        absent(NOW, last=WAS_ALIVE.in_flight()).accepted(TERMINATE, WHY, NOW, NOW),
        Phase.RUNNING,
        FOLLOWING,
        40 * SECOND,
    ),
    "asked for and flagged for another, absent once: followed": Row(
        ASKED.settled(WAS_FLAGGED), absent(NOW, last=WAS_FLAGGED), Phase.TERMINATING, FOLLOWING, 40 * SECOND
    ),
    "flagged for another, then asked for, absent once: followed": Row(
        PLAIN.settled(WAS_FLAGGED).generation(2, AGO).terminating(),
        absent(NOW, last=WAS_FLAGGED),
        Phase.TERMINATING,
        FOLLOWING,
        40 * SECOND,
    ),
    "known to an earlier process, absent once": Row(
        KNOWN, absent(NOW), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 40 * SECOND
    ),
    "seen alive, absent in three polls over two minutes: vanished": Row(
        KNOWN, absent(AGO, NOW - MINUTE, NOW, last=WAS_ALIVE), Phase.MISSING, VANISHED, 5 * MINUTE
    ),
    "known to an earlier process, absent in three polls over two minutes: vanished": Row(
        KNOWN, GONE, Phase.MISSING, VANISHED, 5 * MINUTE
    ),
    "accepted, then absent in three polls over two minutes: the result is unknown": Row(
        ASKED.sent(at=AGO),
        absent(AGO, NOW - MINUTE, NOW, last=WAS_ALIVE),
        Phase.MISSING,
        f"{VANISHED} {UNDONE}",
        5 * MINUTE,
    ),
    "vanished, then seen again": Row(
        LOST, GONE.with_job(RUNNING_JOB.job, NOW), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 30 * SECOND
    ),
    "denied by an earlier process, absent once: Ready no longer shows it": Row(
        KNOWN.settled(WAS_ALIVE.with_error(DENIED, AGO), AGO),
        absent(NOW, last=WAS_ALIVE),
        Phase.RUNNING,
        f"{OBSERVED} {ACTIVE}",
        40 * SECOND,
    ),
    "a phase of the end that somebody else wrote for an active job is not kept": Row(
        KNOWN.with_status(phase=Phase.TERMINATED), absent(NOW), Phase.UNKNOWN, f"{OBSERVED} {ACTIVE}", 40 * SECOND
    ),
}

NO_ANSWER: Final = {
    "the first poll throttled: again in a second": Row(
        PLAIN,
        seen().with_error(THROTTLED, NOW),
        Phase.UNKNOWN,
        f"{NOT_OBSERVED} Reconciling=True/Throttled",
        SECOND,
    ),
    "the seventh poll throttled: a minute apart at the most": Row(
        PLAIN,
        failing(7, THROTTLED),
        Phase.UNKNOWN,
        f"{NOT_OBSERVED} Reconciling=True/Throttled",
        MINUTE,
    ),
    "the first poll unavailable, asked for": Row(
        ASKED,
        seen().with_error(UNAVAILABLE, NOW),
        Phase.UNKNOWN,
        f"{NOT_OBSERVED} Reconciling=True/AWSUnavailable {REQUESTED}",
        SECOND,
    ),
    "the first poll denied: a person must act": Row(
        PLAIN,
        seen().with_error(DENIED, NOW),
        Phase.UNKNOWN,
        "Ready=False/AccessDenied Stalled=True/AccessDenied",
        5 * MINUTE,
    ),
    "an id that Batch refuses: no such job": Row(
        PLAIN, seen().with_error(REJECTED, NOW), Phase.MISSING, NOT_FOUND, 5 * MINUTE
    ),
    "an id that Batch refuses, asked for: nothing to terminate": Row(
        ASKED, seen().with_error(REJECTED, NOW), Phase.MISSING, f"{NOT_FOUND} {UNDONE}", 5 * MINUTE
    ),
    "an id that Batch refused, stated later: nothing to terminate": Row(
        PLAIN.settled(seen().with_error(REJECTED, NOW)).generation(2).terminating(),
        seen().with_error(REJECTED, NOW),
        Phase.MISSING,
        f"{NOT_FOUND} {UNDONE}",
        5 * MINUTE,
    ),
    "a restart on a running job, the first poll throttled: all is kept": Row(
        KNOWN, seen().with_error(THROTTLED, NOW), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", SECOND
    ),
    "a restart on a running job, two polls throttled: all else is kept": Row(
        KNOWN,
        failing(2, THROTTLED),
        Phase.RUNNING,
        f"{OBSERVED} Reconciling=True/Throttled {ACTIVE}",
        2 * SECOND,
    ),
    "a restart while a job is being terminated, the first poll throttled: all is kept": Row(
        ASKED.settled(seen(RUNNING_JOB).accepted(TERMINATE, WHY, NOW, NOW)),
        seen().with_error(THROTTLED, NOW),
        Phase.TERMINATING,
        FOLLOWING,
        SECOND,
    ),
    "a restart on a job that is asked for and flagged for another, two polls throttled": Row(
        ASKED.settled(WAS_FLAGGED),
        failing(2, THROTTLED),
        Phase.TERMINATING,
        FOLLOWING.replace("Reconciling=True/TerminationInProgress", "Reconciling=True/Throttled"),
        2 * SECOND,
    ),
}

MISSING_ROWS: Final = NEVER_OBSERVED | NEVER_SEEN | VANISHES | NO_ANSWER
