"""Exit codes, and errors that a person can act on."""

from __future__ import annotations

from kubectl_awsbatch.output import clean

OK = 0
FAILED = 1
"""`wait`: a job failed. `stop`: an object could not be changed."""
TERMINATED = 2
STALLED = 3
"""A person must act: an object is Stalled, a job or an object is missing, a BatchTermination is refused."""
NOT_APPROVED = 4
USAGE = 64
UNAVAILABLE = 69
"""No kubectl, no cluster, or the kind is not installed."""
INTERNAL = 70
NO_PERMISSION = 77
TIMED_OUT = 124
INTERRUPTED = 130


class CommandError(Exception):
    """An error whose message a person can act on; it ends the command with `exit_code`."""

    def __init__(self, message: str, remedy: str = "", exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.message, self.remedy, self.exit_code = clean(message).rstrip("."), remedy, exit_code

    def __str__(self) -> str:
        """The message and the remedy, as sentences."""
        end = "" if self.message.endswith(("?", "!")) else "."
        return f"{self.message}{end} {self.remedy}".rstrip()


class UsageError(CommandError):
    """The command line is wrong."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy, USAGE)
