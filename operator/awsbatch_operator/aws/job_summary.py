"""Turns an answer of ListJobs into a page of jobs. Nothing raises, whatever a body contains."""

from typing import Final

from msgspec import DecodeError
from msgspec.json import Decoder

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import JobPage
from awsbatch_operator.api.job import JobSummary
from awsbatch_operator.aws import answers
from awsbatch_operator.aws.decoding import REPLACED, decode
from awsbatch_operator.aws.values import UNKNOWN, count, is_foreign, moment, shared, text

NO_LIST: Final = CallError(
    ErrorClass.UNAVAILABLE, "the ListJobs response has no list of jobs: its body is empty or truncated", "EmptyAnswer"
)
NO_TOKEN: Final = CallError(
    ErrorClass.UNAVAILABLE,
    "the ListJobs response has a nextToken that is not a string: there may be more jobs",
    "NoToken",
)
UNREADABLE: Final = CallError(
    ErrorClass.UNAVAILABLE, "the ListJobs response has entries, but none with a job id", "UnreadableAnswer"
)
FOREIGN: Final = CallError(
    ErrorClass.UNAVAILABLE,
    "the ListJobs response has jobs of another account or region than requested",
    "ForeignAnswer",
)
_TYPED_ANSWER: Final = Decoder(answers.TypedListJobsAnswer)
_TOKEN: Final = Decoder(str | None)


def parse_list_jobs(body: bytes, region: str, account: str | None = None) -> JobPage | CallError:
    """Returns the jobs of one page, without children: their parent stands for them.

    An entry without an id, or of a job of another account or region than those of the request, is dropped. A page on
    which nothing else stands is an error, for it must never pass for "no jobs". `account` None: any.
    """
    answer = _decode(body)
    if isinstance(answer, CallError):
        return answer
    jobs: list[JobSummary] = []
    problem = None
    for entry in answer.job_summary_list:
        job_id = entry.job_id
        if not job_id or REPLACED in job_id:
            problem = UNREADABLE
        elif is_foreign(entry.job_arn, region, account):
            problem = FOREIGN
        elif ":" in job_id or "#" in job_id:
            continue
        elif (array := entry.array_properties) is None:
            jobs.append(_summary(entry, job_id, 1))
        elif array.index is None:
            jobs.append(_summary(entry, job_id, count(array.size) or 1))
    if problem is not None and not jobs:
        return problem
    return JobPage(tuple(jobs), answer.next_token or None)


def _decode(body: bytes) -> answers.TypedListJobsAnswer | CallError:
    try:
        # Nearly always everything fits: one pass over the body instead of two.
        return _TYPED_ANSWER.decode(body)
    except (DecodeError, RecursionError):
        answer = decode(body, answers.ListJobsAnswer)
    # An empty or cut body, or one of another kind, must never pass for "no jobs".
    if answer is None or answer.job_summary_list is None or not bytes(answer.error_type).startswith(b'"'):
        return NO_LIST
    token = _token(bytes(answer.next_token))
    if token is None:
        return NO_TOKEN
    entries = [decode(raw, answers.JobSummary) or answers.JobSummary() for raw in answer.job_summary_list]
    return answers.TypedListJobsAnswer(entries, token)


def _token(raw: bytes) -> str | None:
    """Returns the token, empty for none; None if it can't be read."""
    try:
        token = _TOKEN.decode(raw) or ""
    except (DecodeError, RecursionError):
        return None
    return None if REPLACED in token else token


def _summary(entry: answers.JobSummary, job_id: str, size: int) -> JobSummary:
    return JobSummary(
        job_id,
        text(entry.job_name) or "",
        shared(entry.status) or UNKNOWN,
        moment(entry.created_at),
        entry.is_terminated is True or entry.is_cancelled is True,
        size,
        text(entry.job_arn),
        shared(entry.status_reason),
        moment(entry.started_at),
    )
