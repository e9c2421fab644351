"""Rows of the decision table for calls that AWS does not grant, for polls and for TerminateJob."""

from typing import Final

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.api.timestamps import MINUTE, SECOND
from builders import CREDENTIALS, DENIED, NOW, REJECTED, TERMINATE, THROTTLED, UNAVAILABLE, WHY, a_job, an_object, seen
from unit.reconcile.rows import ACTIVE, FOLLOWING, OBSERVED, STUCK, Row

RUNNING_JOB = a_job().running()
PLAIN = an_object()
ASKED = an_object().terminating()
SEEN = seen(RUNNING_JOB, NOW - 29 * SECOND)
REQUESTED = "Terminated=Unknown/TerminationPending"
SENT = SEEN.accepted(TERMINATE, WHY, NOW - MINUTE, NOW - MINUTE)
OLD = NOW - 30 * MINUTE
OLDER = seen(RUNNING_JOB.flagged()).accepted(TERMINATE, WHY, OLD, OLD)
REFUSED = seen(RUNNING_JOB).terminate_refused(DENIED, NOW)


def stalled(reason: str) -> str:
    return f"Ready=False/{reason} Stalled=True/{reason}"


FORBIDDEN = f"{stalled('AccessDenied')} Terminated=Unknown/AccessDenied {ACTIVE}"


def waits(reason: str, ready: str = OBSERVED) -> str:
    return f"{ready} Reconciling=True/{reason}"


POLLS: Final = {
    "a poll throttled: again in a second, and the status does not change": Row(
        PLAIN, SEEN.with_error(THROTTLED, NOW), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", SECOND
    ),
    "a second poll throttled: shown": Row(
        PLAIN,
        SEEN.with_error(THROTTLED, NOW - SECOND).with_error(THROTTLED, NOW),
        Phase.RUNNING,
        f"{waits('Throttled')} {ACTIVE}",
        2 * SECOND,
    ),
    "a poll throttled that the status of an earlier process shows: it stays": Row(
        PLAIN.settled(SEEN.with_error(THROTTLED, NOW).with_error(THROTTLED, NOW)),
        SEEN.with_error(THROTTLED, NOW),
        Phase.RUNNING,
        f"{waits('Throttled')} {ACTIVE}",
        SECOND,
    ),
    "a poll throttled after one denied: the second in a row": Row(
        PLAIN,
        SEEN.with_error(DENIED, NOW).with_error(THROTTLED, NOW),
        Phase.RUNNING,
        f"{waits('Throttled')} {ACTIVE}",
        2 * SECOND,
    ),
    "a poll throttled again and again: the wait doubles": Row(
        PLAIN,
        SEEN.with_error(THROTTLED, NOW).with_error(THROTTLED, NOW).with_error(THROTTLED, NOW),
        Phase.RUNNING,
        f"{waits('Throttled')} {ACTIVE}",
        4 * SECOND,
    ),
    "a poll unavailable: again in a second, and the status does not change": Row(
        PLAIN, SEEN.with_error(UNAVAILABLE, NOW), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", SECOND
    ),
    "a second poll unavailable: shown": Row(
        PLAIN,
        SEEN.with_error(THROTTLED, NOW - SECOND).with_error(UNAVAILABLE, NOW),
        Phase.RUNNING,
        f"{waits('AWSUnavailable')} {ACTIVE}",
        2 * SECOND,
    ),
    "a poll denied: every five minutes": Row(
        PLAIN, SEEN.with_error(DENIED, NOW), Phase.RUNNING, f"{stalled('AccessDenied')} {ACTIVE}", 5 * MINUTE
    ),
    "a poll without credentials: a person must fix them, but they may renew themselves": Row(
        PLAIN, SEEN.with_error(CREDENTIALS, NOW), Phase.RUNNING, f"{stalled('CredentialsUnavailable')} {ACTIVE}", SECOND
    ),
    "an id that Batch took before is refused: an outage, not a missing job": Row(
        PLAIN, SEEN.with_error(REJECTED, NOW), Phase.RUNNING, f"{waits('AWSUnavailable')} {ACTIVE}", 5 * MINUTE
    ),
    "a good poll ends the error": Row(
        PLAIN.settled(SEEN.with_error(DENIED, NOW)),
        SEEN.with_error(DENIED, NOW).with_job(RUNNING_JOB.job, NOW),
        Phase.RUNNING,
        f"{OBSERVED} {ACTIVE}",
        30 * SECOND,
    ),
    "polls fail, and yet a job seen alive is asked at once, and its wait is shown": Row(
        ASKED,
        SEEN.with_error(THROTTLED, NOW),
        Phase.RUNNING,
        f"Ready=False/TerminationPending Reconciling=True/Throttled {REQUESTED} {ACTIVE}",
        SECOND,
        call=WHY,
    ),
    "a poll fails after the request: nothing is sent without a flag": Row(
        ASKED, SENT.with_error(UNAVAILABLE, NOW), Phase.TERMINATING, FOLLOWING, SECOND
    ),
    "polls fail after the request: nothing is sent, and the status shows why": Row(
        ASKED,
        SENT.with_error(UNAVAILABLE, NOW).with_error(UNAVAILABLE, NOW),
        Phase.TERMINATING,
        FOLLOWING.replace("Reconciling=True/TerminationInProgress", "Reconciling=True/AWSUnavailable"),
        2 * SECOND,
    ),
    "stuck and throttled: stuck is what a person must know": Row(
        ASKED, OLDER.with_error(THROTTLED, NOW), Phase.TERMINATING, STUCK, SECOND
    ),
    "stuck and an id refused that Batch took before: still stuck": Row(
        ASKED, OLDER.with_error(REJECTED, NOW), Phase.TERMINATING, STUCK, 5 * MINUTE
    ),
    "stuck and denied: nobody can see any more": Row(
        ASKED,
        OLDER.with_error(DENIED, NOW),
        Phase.TERMINATING,
        f"{stalled('AccessDenied')} Terminated=Unknown/TerminationInProgress {ACTIVE}",
        5 * MINUTE,
    ),
}

CALLS: Final = {
    "the call throttled: again in a second": Row(
        ASKED,
        seen(RUNNING_JOB).terminate_refused(THROTTLED, NOW),
        Phase.RUNNING,
        f"Ready=False/TerminationPending Reconciling=True/Throttled {REQUESTED} {ACTIVE}",
        SECOND,
    ),
    "the call throttled, a second later: again": Row(
        ASKED,
        seen(RUNNING_JOB).terminate_refused(THROTTLED, NOW - SECOND),
        Phase.RUNNING,
        f"Ready=False/TerminationPending Reconciling=True/Throttled {REQUESTED} {ACTIVE}",
        30 * SECOND,
        call=WHY,
    ),
    "the retry is under way: no polls in a hurry": Row(
        ASKED,
        seen(RUNNING_JOB).terminate_refused(THROTTLED, NOW - SECOND).in_flight(),
        Phase.RUNNING,
        f"Ready=False/TerminationPending Reconciling=True/Throttled {REQUESTED} {ACTIVE}",
        30 * SECOND,
    ),
    "the call unavailable for the fifth time: 15 seconds at the most": Row(
        ASKED,
        seen(RUNNING_JOB)
        .terminate_refused(UNAVAILABLE, NOW)
        .terminate_refused(UNAVAILABLE, NOW)
        .terminate_refused(UNAVAILABLE, NOW)
        .terminate_refused(UNAVAILABLE, NOW)
        .terminate_refused(UNAVAILABLE, NOW),
        Phase.RUNNING,
        f"Ready=False/TerminationPending Reconciling=True/AWSUnavailable {REQUESTED} {ACTIVE}",
        15 * SECOND,
    ),
    "the call unavailable but its effect shows: not again": Row(
        ASKED,
        seen(RUNNING_JOB.flagged()).terminate_refused(UNAVAILABLE, NOW - MINUTE),
        Phase.TERMINATING,
        FOLLOWING,
        SECOND,
    ),
    "the call denied: every five minutes": Row(ASKED, REFUSED, Phase.RUNNING, FORBIDDEN, 30 * SECOND),
    "the call denied, five minutes less a moment later: not yet": Row(
        ASKED,
        REFUSED.with_job(RUNNING_JOB.job, NOW + 5 * MINUTE - 1),
        Phase.RUNNING,
        FORBIDDEN,
        1,
        at=NOW + 5 * MINUTE - 1,
    ),
    "the call denied, five minutes later: again": Row(
        ASKED,
        REFUSED.with_job(RUNNING_JOB.job, NOW + 5 * MINUTE),
        Phase.RUNNING,
        FORBIDDEN,
        30 * SECOND,
        WHY,
        NOW + 5 * MINUTE,
    ),
    "the call denied, then the object edited: worth a try": Row(
        ASKED.generation(2, NOW + SECOND),
        REFUSED,
        Phase.RUNNING,
        FORBIDDEN,
        29 * SECOND,
        WHY,
        NOW + SECOND,
    ),
    "the call throttled, then the object edited: the wait is the account's": Row(
        ASKED.generation(2, NOW + 1),
        seen(RUNNING_JOB).terminate_refused(THROTTLED, NOW),
        Phase.RUNNING,
        f"Ready=False/TerminationPending Reconciling=True/Throttled {REQUESTED} {ACTIVE}",
        SECOND - 2,
        at=NOW + 2,
    ),
    "the call denied in the future, by a clock that was set back: again": Row(
        ASKED,
        REFUSED,
        Phase.RUNNING,
        FORBIDDEN,
        31 * SECOND,
        WHY,
        NOW - SECOND,
    ),
    "the call without credentials": Row(
        ASKED,
        seen(RUNNING_JOB).terminate_refused(CREDENTIALS, NOW),
        Phase.RUNNING,
        f"{stalled('CredentialsUnavailable')} Terminated=Unknown/CredentialsUnavailable {ACTIVE}",
        SECOND,
    ),
    "the call rejected: shown as the result of the request, again in five minutes": Row(
        ASKED,
        seen(RUNNING_JOB).terminate_refused(REJECTED, NOW),
        Phase.RUNNING,
        f"{stalled('TerminationRejected')} Terminated=False/TerminationRejected {ACTIVE}",
        30 * SECOND,
    ),
    "the call denied and withdrawn: the error does not concern this object any more": Row(
        PLAIN, REFUSED, Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 30 * SECOND
    ),
    "the resend denied: polled, and again in five minutes": Row(
        ASKED,
        SENT.with_job(RUNNING_JOB.job, NOW).terminate_refused(DENIED, NOW),
        Phase.TERMINATING,
        f"{stalled('AccessDenied')} Terminated=Unknown/TerminationInProgress {ACTIVE}",
        15 * SECOND,
    ),
    "the resend denied and a poll throttled: the refusal is shown": Row(
        ASKED,
        SENT.with_job(RUNNING_JOB.job, NOW).terminate_refused(DENIED, NOW).with_error(THROTTLED, NOW),
        Phase.TERMINATING,
        f"{stalled('AccessDenied')} Terminated=Unknown/TerminationInProgress {ACTIVE}",
        SECOND,
    ),
    "both kinds of call throttled: the earlier of both tries": Row(
        ASKED,
        SEEN.with_error(THROTTLED, NOW).with_error(THROTTLED, NOW).terminate_refused(UNAVAILABLE, NOW),
        Phase.RUNNING,
        f"Ready=False/TerminationPending Reconciling=True/AWSUnavailable {REQUESTED} {ACTIVE}",
        SECOND,
    ),
    "both kinds of call denied, the retry under way: no polls in a hurry": Row(
        ASKED,
        SEEN.terminate_refused(DENIED, NOW - 5 * MINUTE).with_error(DENIED, NOW).in_flight(),
        Phase.RUNNING,
        FORBIDDEN,
        5 * MINUTE,
    ),
}

ERROR_ROWS: Final = POLLS | CALLS
