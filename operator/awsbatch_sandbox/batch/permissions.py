"""IAM denials that tests set. Without any, every caller may do everything."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from awsbatch_sandbox.batch.credentials import Caller

OF_ONE_JOB: Final = {"TerminateJobs": "TerminateJob", "CancelJobs": "CancelJob"}
"""The bulk calls need the permission of the single call, for each job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """Refuses `operation` to the callers of that account and role, all where none is named; `role` is an ARN.

    With both tags the call is allowed on a job if its tag `job_tag` is the caller's session tag `principal_tag`, as by
    the condition `aws:ResourceTag/<job_tag>` = `${aws:PrincipalTag/<principal_tag>}`.
    """

    operation: str = "*"
    account: str | None = None
    role: str | None = None
    job_tag: str | None = None
    principal_tag: str | None = None

    def __post_init__(self) -> None:
        if self.operation in OF_ONE_JOB:
            raise ValueError(f"{self.operation} needs the permission {OF_ONE_JOB[self.operation]}: deny that")
        if (self.job_tag is None) != (self.principal_tag is None):
            raise ValueError("job_tag and principal_tag go together: name both or none")

    def refuses(self, operation: str, caller: Caller, tags: Mapping[str, str]) -> bool:
        """`tags` are those of the requested job; none if the call concerns no job, or one that does not exist."""
        required = ((self.account, caller.account), (self.role, caller.role))
        if self.operation not in ("*", operation) or any(want not in (None, have) for want, have in required):
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

    def clear(self, *, but_by_tag: bool = False) -> None:
        """Lift all denials, or all but those that compare tags."""
        self._denials = [one for one in self._denials if but_by_tag and one.job_tag is not None]

    def refuse(self, operation: str, caller: Caller, tags: Mapping[str, str]) -> bool:
        return any(denial.refuses(operation, caller, tags) for denial in self._denials)


def denied(operation: str, caller: Caller, job_id: str = "*") -> str:
    """AWS's message."""
    resource = f"arn:aws:batch:{caller.region}:{caller.account}:job/{job_id}"
    return f"User: {caller.arn} is not authorized to perform: batch:{operation} on resource: {resource}"
