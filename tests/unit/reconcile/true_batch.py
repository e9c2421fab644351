"""The truth about one Batch job, which the operator learns only from answers."""

from dataclasses import dataclass

from awsbatch_operator.api.job import NOT_FOUND, Array, Job, NotFound
from awsbatch_operator.api.timestamps import Millis

SOMEONE_ELSE = "drained by someone else"


@dataclass
class TrueBatch:
    """One job. `received` holds the reasons of every TerminateJob of ours that had an effect or was accepted."""

    job: Job
    end_reason: str | None = None
    forgotten: bool = False
    received: tuple[str, ...] = ()

    @property
    def alive(self) -> bool:
        return not self.job.finished

    def answer(self) -> Job | NotFound:
        return NOT_FOUND if self.forgotten else self.job

    def accept(self, reason: str, *, lost: bool) -> None:
        """TerminateJob arrives. Lost: Batch says yes and does nothing. For a finished job it always says yes."""
        self.received = (*self.received, reason)
        if self.alive and not lost and not self.job.flagged:
            self.job, self.end_reason = self.job.replace(is_terminated=True), reason

    def interfere(self, *, cancel: bool) -> None:
        if self.alive and not self.job.flagged:
            self.job = self.job.replace(is_cancelled=cancel, is_terminated=not cancel)
            self.end_reason = SOMEONE_ELSE

    def move(self, status: str, children: int) -> None:
        """To another active state; with running children it is an array parent."""
        array = Array(size=children, status_summary={"RUNNING": children}) if children else None
        self.job = self.job.replace(status=status, array=array)

    def end(self, status: str, now: Millis) -> None:
        """Flagged jobs mostly fail with the reason of the request, but may succeed first."""
        reason = (self.end_reason if self.job.flagged else "exit 1") if status == "FAILED" else None
        self.job = self.job.replace(status=status, status_reason=reason, stopped_at=now)
