"""Rows of the decision table for calls that AWS does not grant, on either lane."""

from typing import Final

from awsbatch_operator.domain.cadence import MINUTE, SECOND
from awsbatch_operator.domain.record import Phase
from builders import CREDENTIALS, DENIED, NOW, REJECTED, THROTTLED, UNAVAILABLE, WHY, a_job, an_object, seen
from unit.domain.rows import ACTIVE, FOLLOWING, OBSERVED, STUCK, Row

LIVING = a_job().running()
PLAIN = an_object()
ASKED = an_object().terminating()
SEEN = seen(LIVING, NOW - 29 * SECOND)
REQUESTED = "Terminated=Unknown/TerminationRequested"
SENT = SEEN.accepted(WHY, NOW - MINUTE, NOW - MINUTE)
OLD = NOW - 30 * MINUTE
OLDER = seen(LIVING.flagged()).accepted(WHY, OLD, OLD)
REFUSED = seen(LIVING).refused(DENIED, NOW)


def stalled(reason: str) -> str:
    return f"Ready=False/{reason} Stalled=True/{reason}"


def waits(reason: str, ready: str = OBSERVED) -> str:
    return f"{ready} Reconciling=True/{reason}"


LOOKS: Final = {
    "a look throttled: again in a second, and nothing is told of it": Row(
        PLAIN, SEEN.failed(THROTTLED, NOW), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", SECOND
    ),
    "a second look throttled: told": Row(
        PLAIN,
        SEEN.failed(THROTTLED, NOW - SECOND).failed(THROTTLED, NOW),
        Phase.RUNNING,
        f"{waits('Throttled')} {ACTIVE}",
        2 * SECOND,
    ),
    "a look throttled of which the status tells already, of another process: it stays": Row(
        PLAIN.settled(SEEN.failed(THROTTLED, NOW).failed(THROTTLED, NOW)),
        SEEN.failed(THROTTLED, NOW),
        Phase.RUNNING,
        f"{waits('Throttled')} {ACTIVE}",
        SECOND,
    ),
    "a look throttled after one denied: the second in a row": Row(
        PLAIN, SEEN.failed(DENIED, NOW).failed(THROTTLED, NOW), Phase.RUNNING, f"{waits('Throttled')} {ACTIVE}",
        2 * SECOND,
    ),
    "a look throttled again and again: the wait doubles": Row(
        PLAIN,
        SEEN.failed(THROTTLED, NOW).failed(THROTTLED, NOW).failed(THROTTLED, NOW),
        Phase.RUNNING,
        f"{waits('Throttled')} {ACTIVE}",
        4 * SECOND,
    ),
    "a look unavailable: again in a second, and nothing is told of it": Row(
        PLAIN, SEEN.failed(UNAVAILABLE, NOW), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", SECOND
    ),
    "a second look unavailable: told": Row(
        PLAIN,
        SEEN.failed(THROTTLED, NOW - SECOND).failed(UNAVAILABLE, NOW),
        Phase.RUNNING,
        f"{waits('AWSUnavailable')} {ACTIVE}",
        2 * SECOND,
    ),
    "a look denied: every five minutes": Row(
        PLAIN, SEEN.failed(DENIED, NOW), Phase.RUNNING, f"{stalled('AccessDenied')} {ACTIVE}", 5 * MINUTE
    ),
    "a look without credentials: a person must mend them, but they may renew themselves": Row(
        PLAIN, SEEN.failed(CREDENTIALS, NOW), Phase.RUNNING, f"{stalled('CredentialsUnavailable')} {ACTIVE}", SECOND
    ),
    "an id that Batch took before is refused: an outage, not a missing job": Row(
        PLAIN, SEEN.failed(REJECTED, NOW), Phase.RUNNING, f"{waits('AWSUnavailable')} {ACTIVE}", 5 * MINUTE
    ),
    "a good look ends the trouble": Row(
        PLAIN.settled(SEEN.failed(DENIED, NOW)),
        SEEN.failed(DENIED, NOW).saw(LIVING.job, NOW),
        Phase.RUNNING,
        f"{OBSERVED} {ACTIVE}",
        30 * SECOND,
    ),
    "looks fail, and yet a job seen alive is asked at once, and its wait is told": Row(
        ASKED,
        SEEN.failed(THROTTLED, NOW),
        Phase.RUNNING,
        f"Ready=False/Terminating Reconciling=True/Throttled {REQUESTED} {ACTIVE}",
        SECOND,
        call=WHY,
    ),
    "a look fails after the request: nothing is sent for want of a sign": Row(
        ASKED, SENT.failed(UNAVAILABLE, NOW), Phase.TERMINATING, FOLLOWING, SECOND
    ),
    "looks fail after the request: nothing is sent, and it is told why": Row(
        ASKED,
        SENT.failed(UNAVAILABLE, NOW).failed(UNAVAILABLE, NOW),
        Phase.TERMINATING,
        FOLLOWING.replace("Reconciling=True/TerminationInProgress", "Reconciling=True/AWSUnavailable"),
        2 * SECOND,
    ),
    "stuck and throttled: stuck is what a person must know": Row(
        ASKED, OLDER.failed(THROTTLED, NOW), Phase.TERMINATING, STUCK, SECOND
    ),
    "stuck and an id refused that Batch took before: still stuck": Row(
        ASKED, OLDER.failed(REJECTED, NOW), Phase.TERMINATING, STUCK, 5 * MINUTE
    ),
    "stuck and denied: nobody can see any more": Row(
        ASKED,
        OLDER.failed(DENIED, NOW),
        Phase.TERMINATING,
        f"{stalled('AccessDenied')} Terminated=Unknown/TerminationInProgress {ACTIVE}",
        5 * MINUTE,
    ),
}  # fmt: skip

CALLS: Final = {
    "the call throttled: again in a second": Row(
        ASKED,
        seen(LIVING).refused(THROTTLED, NOW),
        Phase.RUNNING,
        f"Ready=False/Terminating Reconciling=True/Throttled {REQUESTED} {ACTIVE}",
        SECOND,
    ),
    "the call throttled, a second later: again": Row(
        ASKED,
        seen(LIVING).refused(THROTTLED, NOW - SECOND),
        Phase.RUNNING,
        f"Ready=False/Terminating Reconciling=True/Throttled {REQUESTED} {ACTIVE}",
        30 * SECOND,
        call=WHY,
    ),
    "the retry is under way: no looks in a hurry": Row(
        ASKED,
        seen(LIVING).refused(THROTTLED, NOW - SECOND).called(),
        Phase.RUNNING,
        f"Ready=False/Terminating Reconciling=True/Throttled {REQUESTED} {ACTIVE}",
        30 * SECOND,
    ),
    "the call unavailable for the fifth time: 15 seconds at the most": Row(
        ASKED,
        seen(LIVING).refused(UNAVAILABLE, NOW).refused(UNAVAILABLE, NOW).refused(UNAVAILABLE, NOW)
        .refused(UNAVAILABLE, NOW).refused(UNAVAILABLE, NOW),
        Phase.RUNNING,
        f"Ready=False/Terminating Reconciling=True/AWSUnavailable {REQUESTED} {ACTIVE}",
        15 * SECOND,
    ),
    "the call unavailable but its effect shows: not again": Row(
        ASKED, seen(LIVING.flagged()).refused(UNAVAILABLE, NOW - MINUTE), Phase.TERMINATING, FOLLOWING, SECOND
    ),
    "the call denied: every five minutes": Row(
        ASKED, REFUSED, Phase.RUNNING, f"{stalled('AccessDenied')} {REQUESTED} {ACTIVE}", 30 * SECOND
    ),
    "the call denied, five minutes less a moment later: not yet": Row(
        ASKED,
        REFUSED.saw(LIVING.job, NOW + 5 * MINUTE - 1),
        Phase.RUNNING,
        f"{stalled('AccessDenied')} {REQUESTED} {ACTIVE}",
        1,
        at=NOW + 5 * MINUTE - 1,
    ),
    "the call denied, five minutes later: again": Row(
        ASKED,
        REFUSED.saw(LIVING.job, NOW + 5 * MINUTE),
        Phase.RUNNING,
        f"{stalled('AccessDenied')} {REQUESTED} {ACTIVE}",
        30 * SECOND,
        WHY,
        NOW + 5 * MINUTE,
    ),
    "the call denied, then the object edited: worth a try": Row(
        ASKED.generation(2, NOW + SECOND), REFUSED, Phase.RUNNING, f"{stalled('AccessDenied')} {REQUESTED} {ACTIVE}",
        29 * SECOND, WHY, NOW + SECOND,
    ),
    "the call throttled, then the object edited: the wait is the account's": Row(
        ASKED.generation(2, NOW + 1),
        seen(LIVING).refused(THROTTLED, NOW),
        Phase.RUNNING,
        f"Ready=False/Terminating Reconciling=True/Throttled {REQUESTED} {ACTIVE}",
        SECOND - 2,
        at=NOW + 2,
    ),
    "the call denied in the future, by a clock that was set back: again": Row(
        ASKED, REFUSED, Phase.RUNNING, f"{stalled('AccessDenied')} {REQUESTED} {ACTIVE}", 31 * SECOND, WHY,
        NOW - SECOND,
    ),
    "the call without credentials": Row(
        ASKED,
        seen(LIVING).refused(CREDENTIALS, NOW),
        Phase.RUNNING,
        f"{stalled('CredentialsUnavailable')} {REQUESTED} {ACTIVE}",
        SECOND,
    ),
    "the call rejected: told as the fate of the request, again in five minutes": Row(
        ASKED,
        seen(LIVING).refused(REJECTED, NOW),
        Phase.RUNNING,
        f"{stalled('TerminationRejected')} Terminated=False/TerminationRejected {ACTIVE}",
        30 * SECOND,
    ),
    "the call denied and withdrawn: no trouble of this object's any more": Row(
        PLAIN, REFUSED, Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 30 * SECOND
    ),
    "the resend denied: looked at, and again in five minutes": Row(
        ASKED,
        SENT.saw(LIVING.job, NOW).refused(DENIED, NOW),
        Phase.TERMINATING,
        f"{stalled('AccessDenied')} Terminated=Unknown/TerminationInProgress {ACTIVE}",
        15 * SECOND,
    ),
    "the resend denied and a look throttled: the refusal is told": Row(
        ASKED,
        SENT.saw(LIVING.job, NOW).refused(DENIED, NOW).failed(THROTTLED, NOW),
        Phase.TERMINATING,
        f"{stalled('AccessDenied')} Terminated=Unknown/TerminationInProgress {ACTIVE}",
        SECOND,
    ),
    "both lanes throttled: the earlier of both tries": Row(
        ASKED,
        SEEN.failed(THROTTLED, NOW).failed(THROTTLED, NOW).refused(UNAVAILABLE, NOW),
        Phase.RUNNING,
        f"Ready=False/Terminating Reconciling=True/AWSUnavailable {REQUESTED} {ACTIVE}",
        SECOND,
    ),
    "both lanes denied, the retry under way: no looks in a hurry": Row(
        ASKED,
        SEEN.refused(DENIED, NOW - 5 * MINUTE).failed(DENIED, NOW).called(),
        Phase.RUNNING,
        f"{stalled('AccessDenied')} {REQUESTED} {ACTIVE}",
        5 * MINUTE,
    ),
}  # fmt: skip

FAULTS: Final = LOOKS | CALLS
