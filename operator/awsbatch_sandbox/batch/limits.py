"""Throttling as Batch does it."""

from dataclasses import dataclass

from awsbatch_sandbox.batch.job_spec import AccountRegion


@dataclass(frozen=True, slots=True)
class _Limit:
    """`rate` calls/s, `burst` at once; every account and region that it is for has a bucket of its own."""

    rate: float
    burst: float


class Limits:
    """A token bucket per account and region, shared by all operations."""

    def __init__(self) -> None:
        self._limits: dict[tuple[str | None, str | None], _Limit] = {}
        self._buckets: dict[AccountRegion, tuple[float, int]] = {}

    def set(self, rate: float | None, burst: float | None, account: str | None, region: str | None) -> None:
        """`rate` calls/s with bursts of `burst` (default: one second's worth); None lifts the limit.

        It applies to every account and region, or to those given; the more specific limit wins. Without both, it
        replaces all earlier limits.
        """
        if rate is not None and rate <= 0:
            raise ValueError(f"rate must be above 0, or None for no limit, got {rate}")
        if account is None and region is None:
            self._limits.clear()
        self._limits.pop((account, region), None)
        if rate is not None:
            self._limits[account, region] = _Limit(rate, max(1.0, rate if burst is None else burst))
        self._buckets.clear()

    def admits(self, account_region: AccountRegion, now_ms: int) -> bool:
        limit = self._of(account_region)
        if limit is None:
            return True
        tokens, since = self._buckets.get(account_region, (limit.burst, now_ms))
        tokens = min(limit.burst, tokens + (now_ms - since) * limit.rate / 1000)
        admitted = tokens >= 1
        self._buckets[account_region] = (tokens - admitted, now_ms)
        return admitted

    def _of(self, key: AccountRegion) -> _Limit | None:
        from_exact_to_any = (key, (key.account, None), (None, key.region), (None, None))
        return next((self._limits[one] for one in from_exact_to_any if one in self._limits), None)
