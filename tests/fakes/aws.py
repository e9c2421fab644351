"""What tests of the AWS provider share: permits, a provider with defaults, and calls inside of their slots."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import Accepted, DescribeResult, JobPage
from awsbatch_operator.api.job import Target
from awsbatch_operator.aws.provider import AwsBatch
from fakes.telemetry import FakeTelemetry

HERE = "eu-west-1"
OWN = Target(HERE)


def _always() -> bool:
    return True


@dataclass(frozen=True)
class FakePermit:
    """Implements `api.interfaces.TerminatePermit`; `validity` answers each question."""

    job_id: str
    target: Target = OWN
    namespace: str = "team"
    validity: Callable[[], bool] = field(default=_always, compare=False)

    def valid(self) -> bool:
        return self.validity()


def expires_after(questions: int) -> Callable[[], bool]:
    """Valid for so many questions."""
    left = iter(range(questions))
    return lambda: next(left, None) is not None


def make_batch(**given: Any) -> AwsBatch:
    defaults = {"telemetry": FakeTelemetry(), "cluster": "prod", "regions": {HERE}}
    return AwsBatch(**{**defaults, "describe_rate": 1000, "terminate_rate": 1000, **given})


async def describe(batch: AwsBatch, target: Target, *job_ids: str) -> dict[str, DescribeResult]:
    """Returns a result for each job: an error of the whole call is each job's."""
    async with batch.describe_slot(target):
        answer = await batch.describe(target, job_ids)
    return dict.fromkeys(job_ids, answer) if isinstance(answer, CallError) else dict(answer)


async def list_jobs(
    batch: AwsBatch, target: Target = OWN, *, queue: str = "batch", status: str = "RUNNING", token: str | None = None
) -> JobPage | CallError:
    async with batch.describe_slot(target):
        return await batch.list_jobs(target, queue, status, token)


async def terminate(batch: AwsBatch, *permits: FakePermit, reason: str = "why") -> list[Accepted | CallError]:
    """Returns the results in the order of the permits: an error of the whole call is each one's."""
    target = permits[0].target
    async with batch.terminate_slot(target):
        answer = await batch.terminate(target, permits, reason)
    return [answer] * len(permits) if isinstance(answer, CallError) else [answer[permit] for permit in permits]


def classes(results: Sequence[object]) -> list[ErrorClass | None]:
    """Returns the error class of each result, None for one that is no error."""
    return [result.error_class if isinstance(result, CallError) else None for result in results]
