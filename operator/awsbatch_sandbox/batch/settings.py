"""Settings of the simulated Batch as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

DEFAULT_ACCOUNT = "123456789012"
WEEK_SECONDS = 7 * 24 * 3600.0
EARLY_FLAGS = ("isTerminated", "isCancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All durations are seconds.

    `early_flag`: which flag TerminateJob sets on a job that is not yet STARTING (unconfirmed on real AWS).
    `strict_ids`: DescribeJobs accepts lower-case UUIDs only, else anything of `[a-zA-Z_0-9-]{1,128}`. `submitted_for`,
    `runnable_for`, `starting_for`: how long a submitted job stays in each state; `run_for` None keeps it RUNNING until
    a control verb moves it. `hide_after_submit`: DescribeJobs calls that do not show a new job yet. `regions`: the
    existing regions; empty: all. `queues`: names of queues that exist in every account and region, beside the queues of
    seeded jobs. `clock_ahead`: of the clocks of clients that sign calls. `flags_in_details`, `flags_in_lists`: whether
    DescribeJobs and ListJobs show isTerminated and isCancelled; older endpoints lack them.
    """

    grace: float = 30.0
    exit_code_on_term: int = 137
    early_flag: Literal["isTerminated", "isCancelled"] = "isTerminated"
    retention: float = WEEK_SECONDS
    shuffle: bool = True
    strict_ids: bool = False
    bulk_available: bool = True
    flags_in_details: bool = True
    flags_in_lists: bool = True
    submitted_for: float = 1.0
    runnable_for: float = 2.0
    starting_for: float = 2.0
    run_for: float | None = None
    hide_after_submit: int = 0
    region: str = "eu-west-1"
    account: str = DEFAULT_ACCOUNT
    accounts: Mapping[str, str] = field(default_factory=dict)
    """Access key id to account; a key that is not listed belongs to `account`."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Access key id to secret access key; that of a key which is not listed is `sandbox`."""
    unlisted_keys: bool = True
    """Whether a key is known that is in neither list and not `sandbox`."""
    children_carry_tags: bool = False
    """Whether IAM sees an array's children with the tags of their parent (unconfirmed on real AWS)."""
    regions: Sequence[str] = ()
    queues: Sequence[str] = ("default",)
    clock_ahead: float = 0.0

    def __post_init__(self) -> None:
        if self.early_flag not in EARLY_FLAGS:
            raise ValueError(f"early_flag must be one of {', '.join(EARLY_FLAGS)}, got {self.early_flag!r}")
        for name in ("grace", "retention", "submitted_for", "runnable_for", "starting_for"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def as_dict(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}
