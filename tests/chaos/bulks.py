"""BatchTerminations among the actors: their plan, how it is played, and what must hold of them.

Their jobs have no BatchJobs, and are in a queue and a namespace of their own, the only one with a policy.
"""

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from awsbatch_operator.api import timestamps
from awsbatch_sandbox.operator_process import REGION
from awsbatch_sandbox.policies import Policies
from awsbatch_sandbox.terminations import Terminations
from awsbatch_sandbox.world import World

NAMESPACE: Final = "bulks"
JOBS: Final = 200
LATER: Final = 10
"""Jobs that are submitted after the BatchTermination was created, and jobs with other names."""
_EVERY: Final = 50.0
"""Seconds of a storm for which there are as many BatchTerminations as lives. Each costs fifteen calls of ListJobs after
a change of the leader, from the budget of all polls."""
_LIVES: Final = (
    ("approve",),
    ("approve", "withdraw", "approve"),
    ("approve", "withdraw"),
    ("approve", "delete"),
    ("approve", "delete", "create", "submit", "approve"),
)
"""Sequences of actions on a BatchTermination."""
_GAP: Final = (0.2, 2.0)
"""Seconds between two of its steps: the first jobs are terminated a second after the approval."""

Action = tuple[float, str, str]
"""Seconds from the begin of the storm, kind of step, name of the object."""


@dataclass(slots=True)
class Approval:
    """Whether it may terminate from a moment on. Times as of a Statement."""

    approved: bool
    began: float
    certain: float = math.inf


@dataclass(slots=True)
class Bulk:
    """One BatchTermination, those that were created again included. `cutoff`: its createdBefore, epoch seconds.

    `jobs`: all jobs that were submitted for it, and whether it may terminate them.
    """

    name: str
    cutoff: float
    jobs: dict[str, bool] = field(default_factory=dict)
    approvals: list[Approval] = field(default_factory=list)

    @property
    def reason(self) -> str:
        return f"{self.name}: runaway cost"

    def approved_at(self, since: float, until: float) -> bool:
        """Whether it may have been approved at any moment from `since` to `until`."""
        ends = [*(one.certain for one in self.approvals[1:]), math.inf]
        return any(
            one.approved and one.began <= until and end >= since for one, end in zip(self.approvals, ends, strict=True)
        )


def plan(dice: random.Random, storm: float, number: int) -> Iterator[Action]:
    """The actions in the storm of that number, including the end of those of the storm before."""
    turns = max(1, round(storm / _EVERY))
    for turn in range(turns):
        for which, life in enumerate(_LIVES):
            if number:
                yield 0.0, "bulk_delete", f"bulk-{number - 1}-{turn}-{which}"
            name, at = f"bulk-{number}-{turn}-{which}", storm * (turn + dice.uniform(0, 0.3)) / turns
            for kind in ("submit", "create", *life):
                yield at, f"bulk_{kind}", name
                at += dice.uniform(*_GAP)


class BulkScript:
    """Plays the steps, by their kind. `tried` repeats a request while the API server is away."""

    def __init__(self, world: World, bulks: dict[str, Bulk], tried: Callable[..., None]) -> None:
        self._batch, self._bulks, self._tried = world.batch, bulks, tried
        self.steps: dict[str, Callable[[str], None]] = {
            "bulk_submit": self._submit,
            "bulk_create": self._create,
            "bulk_approve": self._approve,
            "bulk_withdraw": self._withdraw,
            "bulk_delete": self._delete,
        }
        kubeconfig = world.control_plane.kubeconfig
        self._terminations = Terminations(kubeconfig, NAMESPACE)
        cluster = world.cluster.within(NAMESPACE)
        cluster.create_namespace(team=NAMESPACE)
        cluster.close()
        with Policies(kubeconfig) as policies:
            selector = {"matchLabels": {"team": NAMESPACE}}
            allow = ["Observe", "Terminate", "List"]
            policies.create(NAMESPACE, namespaceSelector=selector, jobs={"queues": [NAMESPACE]}, allow=allow)

    def close(self) -> None:
        self._terminations.close()

    def _submit(self, name: str) -> None:
        """Before its creation the jobs that it selects, and afterwards those that are too young; others each time."""
        bulk = self._bulks.get(name)
        now = time.time()
        if bulk is None:
            bulk = self._bulks[name] = Bulk(name, now)
            self._seed(bulk, JOBS, name, now - 60, selected=True)
        else:
            self._seed(bulk, LATER, name, now, selected=False)
        self._seed(bulk, LATER, f"other-{name}", now - 60, selected=False)

    def _seed(self, bulk: Bulk, count: int, name: str, created_at: float, *, selected: bool) -> None:
        jobs = self._batch.seed_many(count, name=name, queue=NAMESPACE, created_at=int(1000 * created_at), grace=3.0)
        bulk.jobs |= dict.fromkeys(jobs, selected)

    def _create(self, name: str) -> None:
        """The same manifest each time."""
        bulk = self._bulks[name]
        spec = {
            "region": REGION,
            "select": {"queues": [NAMESPACE], "jobNames": [f"{name}-*"]},
            "createdBefore": timestamps.date_time(int(1000 * bulk.cutoff)),
            "reason": bulk.reason,
            "maxJobs": 10_000,
        }
        self._tried(lambda: self._terminations.create(name, **spec), done_by_then=409)

    def _approve(self, name: str) -> None:
        self._change(name, True, lambda: self._terminations.approve(name))

    def _withdraw(self, name: str) -> None:
        self._change(name, False, lambda: self._terminations.approve(name, approved=False))

    def _delete(self, name: str) -> None:
        self._change(name, False, lambda: self._terminations.delete(name), done_by_then=404, at_once=True)

    def _change(self, name: str, approved: bool, request: Callable[[], Any], **tolerated: Any) -> None:
        approval = Approval(approved, time.time())
        self._bulks[name].approvals.append(approval)
        self._tried(request, **tolerated)
        approval.certain = time.time()


def unrequested(bulks: Iterable[Bulk], ended_or_flagged: Callable[[str], bool]) -> Iterator[tuple[Bulk, str]]:
    """The jobs that an approved object selects and that AWS Batch was not asked to terminate."""
    for bulk in bulks:
        if bulk.approvals and bulk.approvals[-1].approved:
            yield from ((bulk, job) for job, selected in bulk.jobs.items() if selected and not ended_or_flagged(job))
