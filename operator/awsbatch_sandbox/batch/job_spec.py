"""The specification of a job: the properties that never change."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, NamedTuple

SUBMITTED: Final = "SUBMITTED"
PENDING: Final = "PENDING"
RUNNABLE: Final = "RUNNABLE"
STARTING: Final = "STARTING"
RUNNING: Final = "RUNNING"
SUCCEEDED: Final = "SUCCEEDED"
FAILED: Final = "FAILED"
STATUSES: Final = (SUBMITTED, PENDING, RUNNABLE, STARTING, RUNNING, SUCCEEDED, FAILED)
FINISHED: Final = frozenset({SUCCEEDED, FAILED})
ON_COMPUTE: Final = frozenset({STARTING, RUNNING})

KINDS: Final = ("single", "array", "multinode", "eks", "ecs-multi")
ARRAY_SIZES: Final = range(2, 10_001)


class AccountRegion(NamedTuple):
    """An account and one of its regions."""

    account: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job to create. Durations are seconds, `*_at` epoch milliseconds; None: the simulator's setting.

    `children`: statuses of an array's children by index (its length is the array's size). `stuck`: a termination is
    flagged but never ends. `ignores_terminate`: TerminateJob is accepted and lost; `ignore_terminates`: only the first
    so many are. `run_for`: RUNNING so long, then the end with `exit_code`. `is_terminated`, `is_cancelled`: the flag
    after another client's request; such a job keeps its state until it is moved. `natural`: the job changes its state
    by itself, as a submitted job. `past_attempts`: failed ones before now.
    """

    status: str = RUNNING
    job_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    name: str = "job"
    queue: str = "default"
    definition: str = "job:1"
    region: str = ""
    account: str = ""
    kind: str = "single"
    array_size: int | None = None
    children: Sequence[str] | None = None
    num_nodes: int | None = None
    main_node: int = 0
    depends_on: Sequence[str] = ()
    grace: float | None = None
    exit_code_on_term: int | None = None
    stuck: bool = False
    ignores_terminate: bool = False
    ignore_terminates: int = 0
    run_for: float | None = None
    exit_code: int | None = None
    natural: bool = False
    hidden_polls: int = 0
    past_attempts: int = 0
    retry_attempts: int = 1
    timeout: int | None = None
    created_at: int | None = None
    started_at: int | None = None
    stopped_at: int | None = None
    status_reason: str | None = None
    container_reason: str | None = None
    is_terminated: bool = False
    is_cancelled: bool = False
    share_identifier: str | None = None
    scheduling_priority: int | None = None
    platform: str = "EC2"
    image: str = "public.ecr.aws/docker/library/busybox:latest"
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = (("status", STATUSES), ("kind", KINDS))
        for name, allowed in known:
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if bad := [status for status in self.children or () if status not in STATUSES]:
            raise ValueError(f"children must be statuses ({', '.join(STATUSES)}), got {bad[0]!r}")
        if self.kind == "array" and self.size not in ARRAY_SIZES:
            raise ValueError(f"array_size must be 2..10000, got {self.size}")
        if self.kind == "multinode" and not 0 <= self.main_node < (self.num_nodes or 0):
            raise ValueError(f"main_node must be below num_nodes ({self.num_nodes}), got {self.main_node}")
        if self.children is not None and self.array_size not in (None, len(self.children)):
            raise ValueError(f"children has {len(self.children)} statuses but array_size is {self.array_size}")

    @property
    def size(self) -> int:
        """Number of children of an array job, else 0."""
        return len(self.children) if self.children is not None else self.array_size or 0

    @property
    def last_exit_code(self) -> int:
        """The exit code of a natural end: that of the spec, else 0."""
        return self.exit_code or 0


FIELDS: Final = frozenset(item.name for item in fields(JobSpec))


def job_spec_from(job: Mapping[str, Any], *, region: str, account: str) -> JobSpec:
    """A JobSpec from plain keywords; the kind follows from array and node fields. ValueError names a wrong field."""
    if unknown := sorted(set(job) - FIELDS):
        raise ValueError(f"{unknown[0]!r} is not a field of a job; use one of {', '.join(sorted(FIELDS))}")
    given = {"region": region, "account": account, **{key: value for key, value in job.items() if value is not None}}
    if "array_size" in given or "children" in given:
        given.setdefault("kind", "array")
    if "num_nodes" in given:
        given.setdefault("kind", "multinode")
    return JobSpec(**given)
