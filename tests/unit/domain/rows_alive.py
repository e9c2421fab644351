"""Rows of the decision table for a job that Batch shows alive."""

from typing import Final

from awsbatch_operator.domain.cadence import MINUTE, SECOND
from awsbatch_operator.domain.observation import Request
from awsbatch_operator.domain.record import Phase, Termination
from builders import NOW, WHY, a_job, an_object, seen
from unit.domain.rows import ACTIVE, FOLLOWING, OBSERVED, SENDING, STUCK, WAITING, Row

LIVING = a_job().running()
FLAGGED = LIVING.flagged()
PLAIN = an_object()
ASKED = an_object().terminating()
OTHER_WORDS = "another object asked for it"

ACCEPTED = seen(LIVING, NOW - SECOND).called().accepted(WHY, NOW - 10, NOW)
"""Sent and accepted this very moment; the last look is a second old."""

REWORDED = ASKED.settled(ACCEPTED).generation(2).terminating("a better reason")
REMOVED = ASKED.settled(ACCEPTED).generation(2).terminating(None)


def sent_before(age: int, requests: int = 1) -> Request:
    return Request(WHY, NOW - age, NOW - age, requests)


OBSERVED_ALIVE: Final = {
    "a submitted job is pending and looked at every minute": Row(
        PLAIN, seen(a_job()), Phase.PENDING, f"{OBSERVED} {ACTIVE}", MINUTE
    ),
    "a starting job is pending": Row(
        PLAIN, seen(a_job().in_status("STARTING")), Phase.PENDING, f"{OBSERVED} {ACTIVE}", MINUTE
    ),
    "a running job is looked at every half minute": Row(
        PLAIN, seen(LIVING), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 30 * SECOND
    ),
    "the next look counts from the last one, not from now": Row(
        PLAIN, seen(LIVING, NOW - 20 * SECOND), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 10 * SECOND
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
    "someone else's termination shows, and is looked at often": Row(
        PLAIN, seen(FLAGGED), Phase.TERMINATING, f"{OBSERVED} {ACTIVE}", 15 * SECOND
    ),
    "a phase that something scribbled is not trusted": Row(
        PLAIN.scribbled(phase=Phase.TERMINATED), seen(LIVING), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 30 * SECOND
    ),
    "a termination without acceptance that something scribbled sends nothing": Row(
        PLAIN.scribbled(termination=Termination(WHY, completed_at=NOW)),
        seen(LIVING),
        Phase.RUNNING,
        f"{OBSERVED} {ACTIVE}",
        30 * SECOND,
    ),
}

ASKED_ALIVE: Final = {
    "nothing sent: TerminateJob now": Row(ASKED, seen(LIVING), Phase.RUNNING, SENDING, 30 * SECOND, call=WHY),
    "nothing sent, job not started yet: TerminateJob now": Row(
        ASKED, seen(a_job().in_status("RUNNABLE")), Phase.PENDING, SENDING, MINUTE, call=WHY
    ),
    "a job last seen long ago is asked without another look": Row(
        ASKED, seen(LIVING, NOW - 29 * SECOND), Phase.RUNNING, SENDING, SECOND, call=WHY
    ),
    "a call under way is not doubled": Row(ASKED, seen(LIVING).called(), Phase.RUNNING, SENDING, 30 * SECOND),
    "just accepted: no call, a look a second later": Row(ASKED, ACCEPTED, Phase.TERMINATING, FOLLOWING, SECOND),
    "looks follow at 1, 3, 7 and 15 seconds: after the first": Row(
        ASKED, ACCEPTED.saw(LIVING.job, NOW + SECOND), Phase.TERMINATING, FOLLOWING, 2 * SECOND, at=NOW + SECOND
    ),
    "looks follow at 1, 3, 7 and 15 seconds: after the third": Row(
        ASKED, ACCEPTED.saw(LIVING.job, NOW + 7 * SECOND), Phase.TERMINATING, FOLLOWING, 8 * SECOND, at=NOW + 7 * SECOND
    ),
    "looks follow every 15 seconds later on": Row(
        ASKED, seen(FLAGGED).recalled(sent_before(40 * SECOND)), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
    "a look that set out before the acceptance and lacks the flag resends nothing": Row(
        ASKED, ACCEPTED.saw(LIVING.job, NOW + 5), Phase.TERMINATING, FOLLOWING, SECOND + 5, at=NOW + 5
    ),
    "59.999 s without a sign: no second call, a look when the minute is full": Row(
        ASKED, seen(LIVING).recalled(sent_before(MINUTE - 1)), Phase.TERMINATING, FOLLOWING, 1
    ),
    "a minute without a sign: again": Row(
        ASKED, seen(LIVING).recalled(sent_before(MINUTE)), Phase.TERMINATING, FOLLOWING, 15 * SECOND, call=WHY
    ),
    "a minute is full but the last look is older: look before calling again": Row(
        ASKED, seen(LIVING, NOW - 2 * SECOND).recalled(sent_before(MINUTE)), Phase.TERMINATING, FOLLOWING, 0
    ),
    "the second silence may last two minutes": Row(
        ASKED, seen(LIVING).recalled(sent_before(2 * MINUTE - 1, 2)), Phase.TERMINATING, FOLLOWING, 1
    ),
    "two minutes of silence after the second call: a third": Row(
        ASKED, seen(LIVING).recalled(sent_before(2 * MINUTE, 2)), Phase.TERMINATING, FOLLOWING, 15 * SECOND, call=WHY
    ),
    "the wait doubles up to 15 minutes: not before": Row(
        ASKED, seen(LIVING).recalled(sent_before(15 * MINUTE - 1, 9)), Phase.TERMINATING, FOLLOWING, 1
    ),
    "the wait doubles up to 15 minutes: and not beyond": Row(
        ASKED,
        seen(LIVING).recalled(sent_before(15 * MINUTE, 99)),
        Phase.TERMINATING,
        FOLLOWING,
        15 * SECOND,
        call=WHY,
    ),
    "a resend under way is not doubled": Row(
        ASKED, seen(LIVING).recalled(sent_before(MINUTE)).called(), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
    "flagged by our request: never again, however long it takes": Row(
        ASKED, seen(FLAGGED).recalled(sent_before(29 * MINUTE)), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
    "flagged by someone else: nothing to send": Row(ASKED, seen(FLAGGED), Phase.TERMINATING, FOLLOWING, SECOND),
    "cancelled by someone else: nothing to send": Row(
        ASKED, seen(a_job().cancelled()), Phase.TERMINATING, FOLLOWING, SECOND
    ),
    "flagged by someone else before this process came: looks thin out": Row(
        ASKED.generation(1, NOW - MINUTE), seen(FLAGGED), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
    "pending on dependencies and flagged: waits for them": Row(
        ASKED,
        seen(a_job().pending().flagged()).recalled(sent_before(40 * SECOND)),
        Phase.TERMINATING,
        WAITING,
        15 * SECOND,
    ),
    "pending on dependencies for an hour is not stuck": Row(
        ASKED,
        seen(a_job().pending().flagged()).recalled(sent_before(60 * MINUTE)),
        Phase.TERMINATING,
        WAITING,
        15 * SECOND,
    ),
    "a flagged array parent whose children work does not wait on dependencies": Row(
        ASKED,
        seen(a_job().pending().flagged().array(RUNNING=2)).recalled(sent_before(40 * SECOND)),
        Phase.TERMINATING,
        FOLLOWING,
        15 * SECOND,
    ),
    "half an hour and still alive: a person must look": Row(
        ASKED, seen(FLAGGED).recalled(sent_before(30 * MINUTE)), Phase.TERMINATING, STUCK, 15 * SECOND
    ),
    "an array parent may be stuck, too": Row(
        ASKED,
        seen(a_job().pending().flagged().array(RUNNING=2)).recalled(sent_before(30 * MINUTE)),
        Phase.TERMINATING,
        STUCK,
        15 * SECOND,
    ),
    "just short of half an hour is not stuck": Row(
        ASKED, seen(FLAGGED).recalled(sent_before(30 * MINUTE - 1)), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
}

LATCHED: Final = {
    "removed after acceptance: followed to its end all the same": Row(
        REMOVED, ACCEPTED, Phase.TERMINATING, FOLLOWING, SECOND
    ),
    "reworded after acceptance: nothing new is sent": Row(REWORDED, ACCEPTED, Phase.TERMINATING, FOLLOWING, SECOND),
    "reworded after acceptance and no sign: the words that were sent first are sent again": Row(
        REWORDED, ACCEPTED.saw(LIVING.job, NOW + MINUTE), Phase.TERMINATING, FOLLOWING, 15 * SECOND, WHY, NOW + MINUTE
    ),
    "removed after acceptance and no sign: it was asked for, so it is sent again": Row(
        REMOVED, ACCEPTED.saw(LIVING.job, NOW + MINUTE), Phase.TERMINATING, FOLLOWING, 15 * SECOND, WHY, NOW + MINUTE
    ),
    "removed before anything was sent: as if never stated": Row(
        ASKED.settled(seen(LIVING).called()).generation(2).terminating(None),
        seen(LIVING),
        Phase.RUNNING,
        f"{OBSERVED} {ACTIVE}",
        30 * SECOND,
    ),
    "an earlier process sent it and wrote it down: not again": Row(
        ASKED.sent(at=NOW - 40 * SECOND), seen(LIVING), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
    "an earlier process sent it and Batch lost it: again": Row(
        ASKED.sent(at=NOW - MINUTE), seen(LIVING), Phase.TERMINATING, FOLLOWING, 15 * SECOND, call=WHY
    ),
    "a status without a count of requests does no harm": Row(
        ASKED.sent(at=NOW - MINUTE, requests=0), seen(LIVING), Phase.TERMINATING, FOLLOWING, 15 * SECOND, call=WHY
    ),
    "a request in a status that lacks the reason was none": Row(
        PLAIN.sent("", at=NOW - MINUTE), seen(LIVING), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 30 * SECOND
    ),
    "another object's request is shared: nothing more is sent": Row(
        an_object().terminating(OTHER_WORDS), ACCEPTED, Phase.TERMINATING, FOLLOWING, SECOND
    ),
    "another object's request without a sign is sent again in its words": Row(
        an_object().terminating(OTHER_WORDS),
        ACCEPTED.saw(LIVING.job, NOW + MINUTE),
        Phase.TERMINATING,
        FOLLOWING,
        15 * SECOND,
        WHY,
        NOW + MINUTE,
    ),
    "another object's request is none of an object's that states nothing": Row(
        PLAIN, ACCEPTED.saw(FLAGGED.job, NOW + SECOND), Phase.TERMINATING, f"{OBSERVED} {ACTIVE}", 15 * SECOND, None,
        NOW + SECOND,
    ),
    "an acceptance in the future, by a clock that was set back, blinds nobody": Row(
        ASKED.sent(at=NOW + 60 * MINUTE), seen(LIVING), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
    "accepted after a sight that lies in the future, by a clock that was set back: no call at once": Row(
        ASKED.sent(at=NOW), seen(LIVING, NOW + 2 * MINUTE), Phase.TERMINATING, FOLLOWING, SECOND
    ),
    "a look in the future, by a clock that was set back, blinds nobody": Row(
        PLAIN, seen(LIVING, NOW + 60 * MINUTE), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 5 * MINUTE
    ),
}  # fmt: skip

ALIVE: Final = OBSERVED_ALIVE | ASKED_ALIVE | LATCHED
