"""Rows of the decision table for an active job: requests that were accepted or recorded, and held terminations."""

from typing import Final

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.api.timestamps import MINUTE, SECOND
from builders import DENIED, NOW, THROTTLED, WHY, an_object, seen
from unit.reconcile.rows import ACTIVE, FOLLOWING, OBSERVED, SENDING, STUCK, Row
from unit.reconcile.rows_active import ACCEPTED, ASKED, FLAGGED, PLAIN, RUNNING_JOB, requested

OTHER_WORDS = "another object asked for it"
CAUSE = "the policy informer has no answer from the API server"
WITHHELD = f"Ready=False/TerminationHeld Reconciling=True/TerminationHeld Terminated=Unknown/TerminationHeld {ACTIVE}"
REWORDED = ASKED.settled(ACCEPTED).generation(2).terminating("a better reason")
REMOVED = ASKED.settled(ACCEPTED).generation(2).terminating(None)

WITH_A_REQUEST: Final = {
    "removed after acceptance: followed to its end all the same": Row(
        REMOVED, ACCEPTED, Phase.TERMINATING, FOLLOWING, SECOND
    ),
    "reworded after acceptance: nothing new is sent": Row(REWORDED, ACCEPTED, Phase.TERMINATING, FOLLOWING, SECOND),
    "reworded after acceptance and no flag: the current reason is sent": Row(
        REWORDED,
        ACCEPTED.with_job(RUNNING_JOB.job, NOW + MINUTE),
        Phase.TERMINATING,
        FOLLOWING,
        15 * SECOND,
        "a better reason",
        NOW + MINUTE,
    ),
    "removed after acceptance and no flag: never sent again": Row(
        REMOVED,
        ACCEPTED.with_job(RUNNING_JOB.job, NOW + MINUTE),
        Phase.TERMINATING,
        FOLLOWING,
        15 * SECOND,
        None,
        NOW + MINUTE,
    ),
    "removed after acceptance: no poll for a resend": Row(
        REMOVED,
        ACCEPTED.with_job(RUNNING_JOB.job, NOW + 55 * SECOND),
        Phase.TERMINATING,
        FOLLOWING,
        15 * SECOND,
        at=NOW + 55 * SECOND,
    ),
    "removed after a refused resend: the error does not concern this object any more": Row(
        REMOVED,
        ACCEPTED.with_job(RUNNING_JOB.job, NOW).terminate_refused(DENIED, NOW),
        Phase.TERMINATING,
        FOLLOWING,
        SECOND,
    ),
    "removed after acceptance, after a restart: never sent again": Row(
        PLAIN.sent(at=NOW - 60 * MINUTE + SECOND).known_since(NOW - 59 * MINUTE),
        seen(RUNNING_JOB),
        Phase.TERMINATING,
        STUCK,
        15 * SECOND,
        at=NOW,
    ),
    "removed while the call was in flight, then accepted: recorded all the same": Row(
        ASKED.settled(seen(RUNNING_JOB)).generation(2).withdrawn(NOW), ACCEPTED, Phase.TERMINATING, FOLLOWING, SECOND
    ),
    "removed before another object's request was sent: none of this object's": Row(
        ASKED.settled(seen(RUNNING_JOB)).generation(2).withdrawn(NOW - 11),
        ACCEPTED,
        Phase.RUNNING,
        f"{OBSERVED} {ACTIVE}",
        29 * SECOND,
    ),
    "removed before anything was sent: as if never stated": Row(
        ASKED.settled(seen(RUNNING_JOB).in_flight()).generation(2).terminating(None),
        seen(RUNNING_JOB),
        Phase.RUNNING,
        f"{OBSERVED} {ACTIVE}",
        30 * SECOND,
    ),
    "an earlier process sent it and wrote it down: not again": Row(
        ASKED.sent(at=NOW - 40 * SECOND), seen(RUNNING_JOB), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
    "an earlier process sent it and Batch lost it: again": Row(
        ASKED.sent(at=NOW - MINUTE).known_since(NOW - SECOND),
        seen(RUNNING_JOB),
        Phase.TERMINATING,
        FOLLOWING,
        15 * SECOND,
        call=WHY,
    ),
    "a status without a count of requests does no harm": Row(
        ASKED.sent(at=NOW - MINUTE, requests=0), seen(RUNNING_JOB), Phase.TERMINATING, FOLLOWING, 15 * SECOND, call=WHY
    ),
    "a request in a status that lacks the reason was none": Row(
        PLAIN.sent("", at=NOW - MINUTE), seen(RUNNING_JOB), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 30 * SECOND
    ),
    "another object's request is shared: nothing more is sent": Row(
        an_object().terminating(OTHER_WORDS), ACCEPTED, Phase.TERMINATING, FOLLOWING, SECOND
    ),
    "another object's request without a flag: this object's own reason is sent": Row(
        an_object().terminating(OTHER_WORDS),
        ACCEPTED.with_job(RUNNING_JOB.job, NOW + MINUTE),
        Phase.TERMINATING,
        FOLLOWING,
        15 * SECOND,
        OTHER_WORDS,
        NOW + MINUTE,
    ),
    "another object's request is none of an object's that states nothing": Row(
        PLAIN,
        ACCEPTED.with_job(FLAGGED.job, NOW + SECOND),
        Phase.TERMINATING,
        f"{OBSERVED} {ACTIVE}",
        15 * SECOND,
        None,
        NOW + SECOND,
    ),
    "an acceptance in the future, by a clock that was set back, stops no poll": Row(
        ASKED.sent(at=NOW + 60 * MINUTE), seen(RUNNING_JOB), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
    "accepted after an observation that lies in the future, by a clock that was set back: no call at once": Row(
        ASKED.sent(at=NOW), seen(RUNNING_JOB, NOW + 2 * MINUTE), Phase.TERMINATING, FOLLOWING, SECOND
    ),
    "a poll in the future, by a clock that was set back, stops no poll": Row(
        PLAIN, seen(RUNNING_JOB, NOW + 60 * MINUTE), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 5 * MINUTE
    ),
}

FOREIGN: Final = {
    "the own status records the same reason and many requests: the doubled wait goes on": Row(
        ASKED.sent(at=NOW - 2 * MINUTE, requests=3), seen(RUNNING_JOB), Phase.TERMINATING, FOLLOWING, 15 * SECOND
    ),
    "the own status records an acceptance in the future: it counts from the start of this process": Row(
        ASKED.sent(at=NOW + 60 * MINUTE).known_since(NOW - MINUTE),
        seen(RUNNING_JOB),
        Phase.TERMINATING,
        FOLLOWING,
        15 * SECOND,
        call=WHY,
    ),
    "the own status records a billion requests: at most a quarter of an hour": Row(
        ASKED.sent(at=NOW - 15 * MINUTE, requests=10**9).known_since(NOW - 15 * MINUTE),
        seen(RUNNING_JOB),
        Phase.TERMINATING,
        FOLLOWING,
        15 * SECOND,
        call=WHY,
    ),
    "the own status records another reason: it delays by the regular wait": Row(
        ASKED.sent("forged", at=NOW + 60 * MINUTE, requests=10**9).known_since(NOW - MINUTE + 1),
        seen(RUNNING_JOB),
        Phase.TERMINATING,
        FOLLOWING,
        1,
    ),
    "the own status records another reason, the regular wait is over: the current reason is sent": Row(
        ASKED.sent("forged", at=NOW + 60 * MINUTE, requests=10**9).known_since(NOW - MINUTE),
        seen(RUNNING_JOB),
        Phase.TERMINATING,
        FOLLOWING,
        15 * SECOND,
        call=WHY,
    ),
    "the own status records another reason of long ago: nothing delays": Row(
        ASKED.sent("long ago", at=NOW - MINUTE), seen(RUNNING_JOB), Phase.TERMINATING, FOLLOWING, 15 * SECOND, call=WHY
    ),
}
"""What a status records, its own or a forged one, delays for a bounded time and never supplies a reason."""

HELD: Final = {
    "held: nothing is sent": Row(ASKED.held(CAUSE), seen(RUNNING_JOB), Phase.RUNNING, WITHHELD, 30 * SECOND),
    "held and flagged by someone else: there is nothing to hold": Row(
        ASKED.held(CAUSE), seen(FLAGGED), Phase.TERMINATING, FOLLOWING, SECOND
    ),
    "held, nothing stated": Row(
        PLAIN.held(CAUSE), seen(RUNNING_JOB), Phase.RUNNING, f"{OBSERVED} {ACTIVE}", 30 * SECOND
    ),
    "held while a request is followed": Row(ASKED.held(CAUSE), ACCEPTED, Phase.TERMINATING, FOLLOWING, SECOND),
    "held when a resend is due": Row(
        ASKED.held(CAUSE),
        requested(seen(RUNNING_JOB), MINUTE),
        Phase.TERMINATING,
        "Ready=False/TerminationHeld Reconciling=True/TerminationHeld Terminated=Unknown/TerminationInProgress "
        f"{ACTIVE}",
        15 * SECOND,
    ),
    "held no more: sent": Row(
        ASKED.held(CAUSE).settled(seen(RUNNING_JOB)).released(),
        seen(RUNNING_JOB),
        Phase.RUNNING,
        SENDING,
        30 * SECOND,
        call=WHY,
    ),
    "held, then absent once": Row(
        ASKED.held(CAUSE).settled(seen(RUNNING_JOB)),
        seen(RUNNING_JOB).with_not_found(NOW),
        Phase.RUNNING,
        SENDING,
        40 * SECOND,
    ),
    "held and a poll throttled: held is what matters": Row(
        ASKED.held(CAUSE), seen(RUNNING_JOB).with_error(THROTTLED, NOW), Phase.RUNNING, WITHHELD, SECOND
    ),
    "held and a poll denied: a person must act": Row(
        ASKED.held(CAUSE),
        seen(RUNNING_JOB).with_error(DENIED, NOW),
        Phase.RUNNING,
        f"Ready=False/AccessDenied Stalled=True/AccessDenied Terminated=Unknown/AccessDenied {ACTIVE}",
        5 * MINUTE,
    ),
}

ACCEPTED_ROWS: Final = WITH_A_REQUEST | FOREIGN | HELD
