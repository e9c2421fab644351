"""Rows of the decision table for a job that Batch does not know, or that was never heard of."""

from typing import Final

from awsbatch_operator.domain.cadence import MINUTE, SECOND
from awsbatch_operator.domain.errors import Fault
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.record import Phase
from builders import DENIED, NOW, REJECTED, THROTTLED, UNAVAILABLE, WHY, a_job, absent, an_object, seen
from unit.domain.rows import ACTIVE, AWAITING, FOLLOWING, NOT_FOUND, NOT_OBSERVED, OBSERVED, SENDING, VANISHED, Row

LIVING = a_job().running()
PLAIN = an_object()
ASKED = an_object().terminating()
AGO = NOW - 2 * MINUTE
WAS_ALIVE = seen(LIVING, AGO - SECOND)
KNOWN = PLAIN.settled(WAS_ALIVE)
UNDONE = "Terminated=False/JobNotFound"
REQUESTED = "Terminated=Unknown/TerminationRequested"

GONE = absent(AGO, NOW - MINUTE, NOW)
"""Three looks over two minutes without the job."""

MISSING = ASKED.settled(GONE)
LOST = PLAIN.settled(absent(AGO, NOW - MINUTE, NOW, last=WAS_ALIVE))


def failing(times: int, fault: Fault) -> Observation:
    known = seen()
    for _ in range(times):
        known = known.failed(fault, NOW)
    return known


NEVER_OBSERVED: Final = {
    "never observed: looked at now": Row(PLAIN, seen(), None, "", 0),
    "never observed and asked for: looked at, never terminated blindly": Row(ASKED, seen(), None, "", 0),
    "a restart forgets what was seen: looked at before anything is sent": Row(
        ASKED.settled(seen(LIVING)), seen(), Phase.RUNNING, SENDING, 0
    ),
    "a restart on a missing job looks at once": Row(MISSING, seen(), Phase.MISSING, f"{NOT_FOUND} {UNDONE}", 0),
}

NEVER_SEEN: Final = {
    "absent once: it may be too new": Row(PLAIN, absent(NOW), Phase.UNKNOWN, AWAITING, 40 * SECOND),
    "absent once and asked for": Row(ASKED, absent(NOW), Phase.UNKNOWN, f"{AWAITING} {REQUESTED}", 40 * SECOND),
    "absent for two minutes but in two looks only: one more": Row(
        PLAIN, absent(AGO, NOW), Phase.UNKNOWN, AWAITING, SECOND
    ),
    "absent in three looks but for less than two minutes: a last look when they are over": Row(
        PLAIN, absent(NOW - 100 * SECOND, NOW - 60 * SECOND, NOW), Phase.UNKNOWN, AWAITING, 20 * SECOND
    ),
    "absent in three looks over two minutes: missing": Row(PLAIN, GONE, Phase.MISSING, NOT_FOUND, 5 * MINUTE),
    "missing and asked for: nothing to terminate": Row(
        ASKED, GONE, Phase.MISSING, f"{NOT_FOUND} {UNDONE}", 5 * MINUTE
    ),
    "missing by an earlier process: stays so by one look": Row(
        MISSING, absent(NOW), Phase.MISSING, f"{NOT_FOUND} {UNDONE}", 5 * MINUTE
    ),
    "missing, then stated: a look at once": Row(
        PLAIN.settled(GONE).generation(2, NOW + SECOND).terminating(),
        GONE,
        Phase.MISSING,
        f"{NOT_FOUND} {UNDONE}",
        0,
        at=NOW + SECOND,
    ),
    "missing, then found after all": Row(
        MISSING, GONE.saw(LIVING.job, NOW), Phase.RUNNING, SENDING, 30 * SECOND, call=WHY
    ),
    "absent, then throttled": Row(
        PLAIN.settled(absent(NOW)), absent(NOW).failed(THROTTLED, NOW), Phase.UNKNOWN,
        f"{NOT_OBSERVED} Reconciling=True/Throttled", SECOND,
    ),
    "missing and throttled: still missing": Row(
        MISSING, GONE.failed(THROTTLED, NOW), Phase.MISSING, f"{NOT_FOUND} {UNDONE}", SECOND
    ),
    "missing by an earlier process, the first look throttled": Row(
        MISSING, seen().failed(THROTTLED, NOW), Phase.MISSING, f"{NOT_FOUND} {UNDONE}", SECOND
    ),
    "missing by an earlier process, the first look denied": Row(
        MISSING,
        seen().failed(DENIED, NOW),
        Phase.MISSING,
        f"Ready=False/AccessDenied Stalled=True/AccessDenied {UNDONE}",
        5 * MINUTE,
    ),
}  # fmt: skip

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
    "seen alive, absent once, then stated: a look at once": Row(
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
        ASKED.settled(WAS_ALIVE.accepted(WHY, AGO, AGO)),
        absent(NOW, last=WAS_ALIVE.accepted(WHY, AGO, AGO)),
        Phase.TERMINATING,
        FOLLOWING,
        40 * SECOND,
    ),
    "absent once while the call is under way, then accepted: known as accepted": Row(
        ASKED.settled(WAS_ALIVE),
        absent(NOW, last=WAS_ALIVE.called()).accepted(WHY, NOW, NOW),
        Phase.RUNNING,
        FOLLOWING,
        40 * SECOND,
    ),
    "known to an earlier process, absent once": Row(
        KNOWN, absent(NOW), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 40 * SECOND
    ),
    "seen alive, absent in three looks over two minutes: vanished": Row(
        KNOWN, absent(AGO, NOW - MINUTE, NOW, last=WAS_ALIVE), Phase.MISSING, VANISHED, 5 * MINUTE
    ),
    "known to an earlier process, absent in three looks over two minutes: vanished": Row(
        KNOWN, GONE, Phase.MISSING, VANISHED, 5 * MINUTE
    ),
    "accepted, then absent in three looks over two minutes: nobody can tell": Row(
        ASKED.sent(at=AGO), absent(AGO, NOW - MINUTE, NOW, last=WAS_ALIVE), Phase.MISSING, f"{VANISHED} {UNDONE}",
        5 * MINUTE,
    ),
    "vanished, then seen again": Row(
        LOST, GONE.saw(LIVING.job, NOW), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 30 * SECOND
    ),
    "denied by an earlier process, absent once: Ready tells of it no more": Row(
        KNOWN.settled(WAS_ALIVE.failed(DENIED, AGO), AGO),
        absent(NOW, last=WAS_ALIVE),
        Phase.RUNNING,
        f"{OBSERVED} {ACTIVE}",
        40 * SECOND,
    ),
    "a phase of the end that something scribbled on a living job is not kept": Row(
        KNOWN.scribbled(phase=Phase.TERMINATED), absent(NOW), Phase.UNKNOWN, f"{OBSERVED} {ACTIVE}", 40 * SECOND
    ),
}  # fmt: skip

UNHEARD: Final = {
    "the first look throttled: again in a second": Row(
        PLAIN,
        seen().failed(THROTTLED, NOW),
        Phase.UNKNOWN,
        f"{NOT_OBSERVED} Reconciling=True/Throttled",
        SECOND,
    ),
    "the seventh look throttled: a minute apart at the most": Row(
        PLAIN,
        failing(7, THROTTLED),
        Phase.UNKNOWN,
        f"{NOT_OBSERVED} Reconciling=True/Throttled",
        MINUTE,
    ),
    "the first look unavailable, asked for": Row(
        ASKED,
        seen().failed(UNAVAILABLE, NOW),
        Phase.UNKNOWN,
        f"{NOT_OBSERVED} Reconciling=True/AWSUnavailable {REQUESTED}",
        SECOND,
    ),
    "the first look denied: a person must act": Row(
        PLAIN,
        seen().failed(DENIED, NOW),
        Phase.UNKNOWN,
        "Ready=False/AccessDenied Stalled=True/AccessDenied",
        5 * MINUTE,
    ),
    "an id that Batch refuses: no such job": Row(
        PLAIN, seen().failed(REJECTED, NOW), Phase.MISSING, NOT_FOUND, 5 * MINUTE
    ),
    "an id that Batch refuses, asked for: nothing to terminate": Row(
        ASKED, seen().failed(REJECTED, NOW), Phase.MISSING, f"{NOT_FOUND} {UNDONE}", 5 * MINUTE
    ),
    "an id that Batch refused, stated later: nothing to terminate": Row(
        PLAIN.settled(seen().failed(REJECTED, NOW)).generation(2).terminating(),
        seen().failed(REJECTED, NOW),
        Phase.MISSING,
        f"{NOT_FOUND} {UNDONE}",
        5 * MINUTE,
    ),
    "a restart on a running job, the first look throttled: all is kept": Row(
        KNOWN, seen().failed(THROTTLED, NOW), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", SECOND
    ),
    "a restart on a running job, two looks throttled: all else is kept": Row(
        KNOWN,
        failing(2, THROTTLED),
        Phase.RUNNING,
        f"{OBSERVED} Reconciling=True/Throttled {ACTIVE}",
        2 * SECOND,
    ),
    "a restart while a job is being ended, the first look throttled: all is kept": Row(
        ASKED.settled(seen(LIVING).accepted(WHY, NOW, NOW)),
        seen().failed(THROTTLED, NOW),
        Phase.TERMINATING,
        FOLLOWING,
        SECOND,
    ),
}  # fmt: skip

ABSENT: Final = NEVER_OBSERVED | NEVER_SEEN | VANISHES | UNHEARD
