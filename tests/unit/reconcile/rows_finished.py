"""Rows of the decision table for a job that has ended."""

from typing import Final

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.api.timestamps import MINUTE, SECOND
from awsbatch_operator.reconcile.job_state import JobState
from builders import DENIED, NOW, REJECTED, TERMINATE, THROTTLED, UNAVAILABLE, WHY, a_job, absent, an_object, seen
from unit.reconcile.rows import BY_REQUEST, OBSERVED, Row

RUNNING_JOB = a_job().running()
SUCCEEDED = a_job().ended("SUCCEEDED")
FAILED = a_job().ended("FAILED", "Essential container in task exited")
TERMINATED = a_job().flagged().ended("FAILED", WHY)
PLAIN = an_object()
ASKED = an_object().terminating()

ACCEPTED = seen(RUNNING_JOB, NOW - MINUTE).accepted(TERMINATE, WHY, NOW - MINUTE, NOW - MINUTE)
SKIPPED = "Ready=True/AlreadyFinished Terminated=False/AlreadyFinished"
SUCCESS = "Succeeded=True/JobSucceeded"
FAILURE = "Succeeded=False/JobFailed"


def after(job: JobState) -> JobState:
    """The same, a minute after an accepted TerminateJob."""
    assert job.job is not None
    return ACCEPTED.with_job(job.job, NOW)


DONE = PLAIN.settled(seen(SUCCEEDED))
DONE_BY_US = ASKED.settled(after(seen(TERMINATED)))
LATE = DONE.generation(2, NOW + 10 * MINUTE).terminating()
"""A finished object for which a termination is stated ten minutes later."""
LATER = NOW + 10 * MINUTE
FOUND_OUT = ASKED.settled(seen(TERMINATED))
"""Ended by a request that an earlier process sent and did not live to write down."""

UNASKED: Final = {
    "succeeded": Row(PLAIN, seen(SUCCEEDED), Phase.SUCCEEDED, f"{OBSERVED} {SUCCESS}", None),
    "failed": Row(PLAIN, seen(FAILED), Phase.FAILED, f"{OBSERVED} {FAILURE}", None),
    "someone else terminated it": Row(
        PLAIN, seen(TERMINATED), Phase.TERMINATED, f"{OBSERVED} Succeeded=False/JobTerminated", None
    ),
    "someone else cancelled it": Row(
        PLAIN,
        seen(a_job().cancelled().ended("FAILED", "queue drained")),
        Phase.TERMINATED,
        f"{OBSERVED} Succeeded=False/JobCancelled",
        None,
    ),
    "someone else asked, but it succeeded": Row(
        PLAIN, seen(SUCCEEDED.flagged()), Phase.SUCCEEDED, f"{OBSERVED} {SUCCESS}", None
    ),
    "forgotten by Batch after its end: frozen": Row(
        PLAIN, absent(NOW, last=seen(SUCCEEDED, NOW - MINUTE)), Phase.SUCCEEDED, f"{OBSERVED} {SUCCESS}", None
    ),
    "after a restart a finished object costs nothing": Row(
        DONE, seen(), Phase.SUCCEEDED, f"{OBSERVED} {SUCCESS}", None
    ),
    "after a restart an ended termination costs nothing": Row(DONE_BY_US, seen(), Phase.TERMINATED, BY_REQUEST, None),
    "a finished phase that somebody else wrote gets polled": Row(
        DONE.with_status(phase=Phase.FAILED), seen(), Phase.FAILED, f"{OBSERVED} {SUCCESS}", 0
    ),
    "a finished phase that somebody else wrote, and Batch has forgotten the job: not believed": Row(
        DONE.with_status(phase=Phase.FAILED), absent(NOW), Phase.UNKNOWN, f"{OBSERVED} {SUCCESS}", 40 * SECOND
    ),
    "an error that came before the end is forgotten": Row(
        PLAIN,
        seen(RUNNING_JOB).with_error(DENIED, NOW).with_job(FAILED.job, NOW),
        Phase.FAILED,
        f"{OBSERVED} {FAILURE}",
        None,
    ),
}

NOTHING_SENT: Final = {
    "finished before the termination was stated: nothing is sent": Row(
        ASKED, seen(SUCCEEDED), Phase.SUCCEEDED, f"{SKIPPED} {SUCCESS}", None
    ),
    "failed before the termination was stated": Row(ASKED, seen(FAILED), Phase.FAILED, f"{SKIPPED} {FAILURE}", None),
    "stated, but someone else terminated it with their own reason": Row(
        ASKED,
        seen(a_job().flagged().ended("FAILED", "cleaning up")),
        Phase.TERMINATED,
        f"{SKIPPED} Succeeded=False/JobTerminated",
        None,
    ),
    "refused, then finished: the refusal is forgotten": Row(
        ASKED,
        seen(RUNNING_JOB).terminate_refused(REJECTED, NOW).with_job(FAILED.job, NOW),
        Phase.FAILED,
        f"{SKIPPED} {FAILURE}",
        None,
    ),
    "stated late: one poll first": Row(LATE, seen(SUCCEEDED), Phase.SUCCEEDED, f"{OBSERVED} {SUCCESS}", 0, at=LATER),
    "stated late, after a restart: one poll first": Row(
        LATE, seen(), Phase.SUCCEEDED, f"{OBSERVED} {SUCCESS}", 0, at=LATER
    ),
    "stated late and polled: nothing to send": Row(
        LATE, seen(SUCCEEDED, LATER), Phase.SUCCEEDED, f"{SKIPPED} {SUCCESS}", None, at=LATER
    ),
    "stated late and forgotten by Batch: nothing to send": Row(
        LATE, absent(LATER), Phase.SUCCEEDED, f"{SKIPPED} {SUCCESS}", None, at=LATER
    ),
    "stated late, the poll throttled: again in a second": Row(
        LATE,
        seen().with_error(THROTTLED, LATER),
        Phase.SUCCEEDED,
        f"{OBSERVED} Reconciling=True/Throttled Terminated=Unknown/TerminationPending {SUCCESS}",
        SECOND,
        at=LATER,
    ),
    "a request found out afterwards and then withdrawn, the poll throttled: its result stays": Row(
        FOUND_OUT.generation(2, LATER).terminating(None),
        seen().with_error(THROTTLED, LATER),
        Phase.TERMINATED,
        BY_REQUEST,
        SECOND,
        at=LATER,
    ),
    "stated late, the poll throttled after another was denied: Ready shows neither": Row(
        LATE.settled(seen().with_error(DENIED, LATER), LATER).generation(3, LATER),
        seen().with_error(THROTTLED, LATER),
        Phase.SUCCEEDED,
        f"{OBSERVED} Reconciling=True/Throttled Terminated=Unknown/TerminationPending {SUCCESS}",
        SECOND,
        at=LATER,
    ),
    "a new generation in the future, by a clock that was set back, is no reason to poll for ever": Row(
        LATE, seen(SUCCEEDED), Phase.SUCCEEDED, f"{SKIPPED} {SUCCESS}", None
    ),
    "the end of our termination, restated: stays what it was": Row(
        DONE_BY_US.generation(2, LATER).terminating("once more"),
        seen(TERMINATED, LATER),
        Phase.TERMINATED,
        BY_REQUEST,
        None,
        at=LATER,
    ),
    "another object's request was over before this one was made": Row(
        ASKED.created_at(NOW + MINUTE),
        after(seen(TERMINATED)),
        Phase.TERMINATED,
        f"{SKIPPED} Succeeded=False/JobTerminated",
        None,
    ),
}

SENT: Final = {
    "accepted, flagged, failed: terminated by request": Row(
        ASKED, after(seen(TERMINATED)), Phase.TERMINATED, BY_REQUEST, None
    ),
    "accepted, failed with exactly our reason though not flagged: terminated by request": Row(
        ASKED,
        after(seen(a_job().ended("FAILED", WHY))),
        Phase.TERMINATED,
        BY_REQUEST,
        None,
    ),
    "accepted, but it succeeded first": Row(
        ASKED,
        after(seen(SUCCEEDED.flagged())),
        Phase.SUCCEEDED,
        f"Ready=True/AlreadyFinished Terminated=False/SucceededBeforeTermination {SUCCESS}",
        None,
    ),
    "accepted, but it failed by itself first": Row(
        ASKED,
        after(seen(FAILED)),
        Phase.FAILED,
        f"Ready=True/AlreadyFinished Terminated=False/FailedBeforeTermination {FAILURE}",
        None,
    ),
    "removed after acceptance: the end counts as that of the request": Row(
        ASKED.settled(ACCEPTED, NOW - MINUTE).generation(2).terminating(None),
        after(seen(TERMINATED)),
        Phase.TERMINATED,
        BY_REQUEST,
        None,
    ),
    "a second object on the job shares the end of the request": Row(
        an_object().terminating("the second object's reason"),
        after(seen(TERMINATED)),
        Phase.TERMINATED,
        BY_REQUEST,
        None,
    ),
    "a second object that states nothing sees someone else's termination": Row(
        PLAIN, after(seen(TERMINATED)), Phase.TERMINATED, f"{OBSERVED} Succeeded=False/JobTerminated", None
    ),
    "written down by an earlier process, ended while nobody watched": Row(
        ASKED.sent(at=NOW - MINUTE), seen(TERMINATED), Phase.TERMINATED, BY_REQUEST, None
    ),
    "sent by a process that died before it could write: adopted by its exact reason": Row(
        ASKED.settled(seen(RUNNING_JOB, NOW - MINUTE), NOW - MINUTE),
        seen(TERMINATED),
        Phase.TERMINATED,
        BY_REQUEST,
        None,
    ),
    "adopted, then restated: stays what it was": Row(
        ASKED.settled(seen(TERMINATED)).generation(2, LATER).terminating("once more"),
        seen(TERMINATED, LATER),
        Phase.TERMINATED,
        BY_REQUEST,
        None,
        at=LATER,
    ),
    "the same reason, but ended before the object was made: not adopted": Row(
        ASKED.created_at(NOW + SECOND),
        seen(TERMINATED),
        Phase.TERMINATED,
        f"{SKIPPED} Succeeded=False/JobTerminated",
        None,
    ),
    "the same reason, but not flagged: not adopted": Row(
        ASKED, seen(a_job().ended("FAILED", WHY)), Phase.FAILED, f"{SKIPPED} {FAILURE}", None
    ),
    "finished while the call is under way: its answer is waited for": Row(
        ASKED.settled(seen(RUNNING_JOB)),
        seen(RUNNING_JOB).in_flight().with_job(TERMINATED.job, NOW),
        Phase.RUNNING,
        "Ready=False/TerminationPending Reconciling=True/TerminationPending "
        "Terminated=Unknown/TerminationPending Succeeded=Unknown/JobActive",
        None,
    ),
    "finished while the call is under way, then accepted: terminated by request": Row(
        ASKED,
        seen(RUNNING_JOB).in_flight().with_job(TERMINATED.job, NOW).accepted(TERMINATE, WHY, NOW, NOW),
        Phase.TERMINATED,
        BY_REQUEST,
        None,
    ),
    "finished while the call is under way, then refused: nothing was sent": Row(
        ASKED,
        seen(RUNNING_JOB).in_flight().with_job(FAILED.job, NOW).terminate_refused(UNAVAILABLE, NOW),
        Phase.FAILED,
        f"{SKIPPED} {FAILURE}",
        None,
    ),
    "finished while another's call is under way: none of this object's": Row(
        PLAIN, seen(RUNNING_JOB).in_flight().with_job(FAILED.job, NOW), Phase.FAILED, f"{OBSERVED} {FAILURE}", None
    ),
}

FINISHED: Final = UNASKED | NOTHING_SENT | SENT
