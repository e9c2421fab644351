"""What IAM would refuse: rules that tests set. Without any, every caller may do everything."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from awsbatch_sandbox.batch.credentials import Caller

OF_ONE_JOB: Final = {"TerminateJobs": "TerminateJob", "CancelJobs": "CancelJob"}
"""The bulk calls ask for the right to the single one, job by job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """Refuses `operation` to the callers of that account and role, all where none is named; `role` is an ARN.

    With both tags the call is granted on a job whose tag `job_tag` is the caller's session tag `principal_tag`, as by
    the condition `aws:ResourceTag/<job_tag>` = `${aws:PrincipalTag/<principal_tag>}`.
    """

    operation: str = "*"
    account: str | None = None
    role: str | None = None
    job_tag: str | None = None
    principal_tag: str | None = None

    def __post_init__(self) -> None:
        if self.operation in OF_ONE_JOB:
            raise ValueError(f"{self.operation} asks for the right to {OF_ONE_JOB[self.operation]}: deny that")
        if (self.job_tag is None) != (self.principal_tag is None):
            raise ValueError("job_tag and principal_tag go together: name both or none")

    def refuses(self, operation: str, caller: Caller, tags: Mapping[str, str]) -> bool:
        """`tags` are those of the job that is asked for; none when the call is about no job, or one that is not."""
        asked = ((self.account, caller.account), (self.role, caller.role))
        if self.operation not in ("*", operation) or any(want not in (None, have) for want, have in asked):
            return False
        if self.job_tag is None or self.principal_tag is None:
            return True
        mine = caller.tags.get(self.principal_tag)
        return mine is None or tags.get(self.job_tag) != mine


class Permissions:
    """All denials that are in force."""

    def __init__(self) -> None:
        self._denials: list[Denial] = []

    def add(self, denial: Denial) -> None:
        self._denials.append(denial)

    def clear(self) -> None:
        self._denials.clear()

    def refuse(self, operation: str, caller: Caller, tags: Mapping[str, str]) -> bool:
        return any(denial.refuses(operation, caller, tags) for denial in self._denials)


def denied(operation: str, caller: Caller, job_id: str = "*") -> str:
    """AWS's words."""
    resource = f"arn:aws:batch:{caller.region}:{caller.account}:job/{job_id}"
    return f"User: {caller.arn} is not authorized to perform: batch:{operation} on resource: {resource}"
