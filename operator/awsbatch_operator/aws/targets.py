"""State of each target: the rate limiter of its account and region, and the labels of its metrics."""

from collections.abc import Callable

from awsbatch_operator.api.interfaces import CallLabels, Telemetry
from awsbatch_operator.api.job import Target, account_of
from awsbatch_operator.aws.caller_identity import CallerIdentity
from awsbatch_operator.workqueue.rate_limiter import AccountRateLimiter


class Targets:
    """For the event loop's thread alone."""

    def __init__(
        self, identity: CallerIdentity, telemetry: Telemetry, make_limiter: Callable[[], AccountRateLimiter]
    ) -> None:
        self._identity, self._telemetry, self._make_limiter = identity, telemetry, make_limiter
        self._limiters: dict[tuple[str, str], AccountRateLimiter] = {}
        self._labels: dict[Target, CallLabels] = {}

    def account(self, target: Target) -> str | None:
        return account_of(target.role) if target.role else self._identity.account

    def limiter(self, target: Target) -> AccountRateLimiter:
        """Returns the limiter of the target's account and region: roles of one account share it."""
        self.labels(target)
        key = self._limit_key(target)
        if key not in self._limiters:
            # The limiter of the operator's own account from before its number was known.
            own = key[0] == self._identity.last_account
            unnamed = self._limiters.pop(("", target.region), None) if own else None
            self._limiters[key] = unnamed or self._make_limiter()
        return self._limiters[key]

    def labels(self, target: Target) -> CallLabels:
        """Returns the labels of the target's metrics. They change when the operator's own account becomes known."""
        if target.role is None:
            now = CallLabels(self._identity.last_account, target.region, "")
        else:
            now = CallLabels(account_of(target.role) or "", target.region, target.role.rpartition("/")[2])
        before = self._labels.get(target)
        if before is not None and before != now:
            self._telemetry.forget_polls(before)
        self._labels[target] = now
        return now

    def forget(self, target: Target) -> None:
        labels = self._labels.pop(target, None)
        # Two policies may have one role: its metrics go with the last of them.
        if labels is not None and labels not in self._labels.values():
            self._telemetry.forget(labels)
        used = {self._limit_key(one) for one in self._labels}
        self._limiters = {key: limiter for key, limiter in self._limiters.items() if key in used}

    def _limit_key(self, target: Target) -> tuple[str, str]:
        if target.role is None:
            return self._identity.last_account, target.region
        return account_of(target.role) or target.role, target.region
