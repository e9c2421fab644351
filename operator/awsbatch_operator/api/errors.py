"""Classes of failed AWS calls. Adapters turn every foreign exception into one of these."""

from dataclasses import dataclass
from enum import Enum


class ErrorClass(Enum):
    THROTTLED = "Throttled"
    """429 and its relatives: the account's shared budget is used up. Back off and retry."""
    UNAVAILABLE = "AWSUnavailable"
    """5xx, network failure, an empty or cut body: the result is unknown. Retry; TerminateJob is idempotent."""
    DENIED = "AccessDenied"
    """403 for this action: a user must grant it. Retried after minutes."""
    CREDENTIALS = "CredentialsUnavailable"
    """Credentials are missing, expired, unknown or wrongly signed. They are renewed, or a user must fix them."""
    REJECTED = "TerminationRejected"
    """ClientException: AWS refuses this very request, however often it is sent."""
    NOT_SENT = "NotSent"
    """The operator sent nothing: the permit was no longer valid, or the API call is not available."""

    @property
    def transient(self) -> bool:
        """Whether waiting alone may fix it: shown as Reconciling, otherwise as Stalled."""
        return self in (ErrorClass.THROTTLED, ErrorClass.UNAVAILABLE, ErrorClass.NOT_SENT)


@dataclass(frozen=True, slots=True)
class CallError:
    """Why a call failed.

    `message` is AWS's text without what changes from call to call (request ids, times), so that two occurrences of the
    same error are equal and the status that shows it is not written again. `remedy`: what the user can do, where that
    differs from the remedy of the error class.
    """

    error_class: ErrorClass
    message: str
    code: str = ""
    remedy: str = ""
