"""The few fates of a call that AWS did not grant. Foreign exceptions end at the adapter, as one of these."""

from dataclasses import dataclass
from enum import Enum


class Fate(Enum):
    THROTTLED = "Throttled"
    """429 and its kin: the account's shared budget is spent. Back off, try again."""
    UNAVAILABLE = "AWSUnavailable"
    """5xx, network, an empty or cut body: nobody knows what happened. Try again; TerminateJob is idempotent."""
    DENIED = "AccessDenied"
    """403 for this action: a person must grant it. Again after minutes."""
    CREDENTIALS = "CredentialsUnavailable"
    """None found, expired, unknown or with a wrong signature: a person must mend them, or they renew themselves."""
    REJECTED = "TerminationRejected"
    """ClientException: AWS will not have this very request, however often it is sent."""
    LAPSED = "Lapsed"
    """Not sent: what allowed it held no more when its turn came. Look, and decide anew."""

    @property
    def passes(self) -> bool:
        """Whether waiting alone may cure it: Reconciling then, else Stalled."""
        return self in (Fate.THROTTLED, Fate.UNAVAILABLE, Fate.LAPSED)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a call was not granted.

    `message` is AWS's own words without what changes from call to call (request ids, times), so that the same
    fault seen twice is equal and a status that shows it is not written again. `remedy`: what a person can do, where
    that is another thing than for the rest of its fate.
    """

    fate: Fate
    message: str
    code: str = ""
    remedy: str = ""
