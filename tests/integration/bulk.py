"""BatchTerminations of a team, and what AWS Batch recorded of them."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from awsbatch_operator.api import timestamps as times
from awsbatch_sandbox.operator_process import REGION
from awsbatch_sandbox.terminations import Terminations
from integration.scenario import SOON, phase
from integration.teams import Stage, Status, Team
from ownership_checks import assert_observe_only

REASON: Final = "INC-4711: runaway cost"
FULL: Final = ("Observe", "Terminate", "List")
NAME: Final = "stop"
AN_HOUR: Final = 3_600_000
LONG: Final = 60.0
"""Seconds to wait for what takes several sweeps or thousands of terminations."""
ON_ITS_WAY: Final = 1.0
"""Seconds that a call which was sent in time may take to be recorded on a busy machine."""


@dataclass(frozen=True)
class Bulk:
    """The team's jobs are in the queue `queue`, and were submitted an hour ago unless stated otherwise."""

    team: Team
    terminations: Terminations

    @property
    def queue(self) -> str:
        return f"{self.team.name}-spot"

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def grant(self, **spec: Any) -> None:
        """Create the team's policy: its queues, by name alone, for everything that a policy can allow."""
        self.team.grant(**{"jobs": {"queues": [f"{self.team.name}-*"]}, "allow": list(FULL), **spec})

    def seed(self, count: int, name: str = "train", **job: Any) -> list[str]:
        """Ids of new jobs named `name`-0, `name`-1, ..."""
        tags = {"k8s-namespace": self.team.name}
        defaults = {"queue": self.queue, "account": self.team.account, "tags": tags, "created_at": now() - AN_HOUR}
        return self.team.world.batch.seed_many(count, name=name, **{**defaults, **job})

    # -- objects ------------------------------------------------------------------------------------------------------

    def spec(self, **changes: Any) -> dict[str, Any]:
        select = {"queues": [self.queue], "jobNames": ["train-*"]}
        spec = {"region": REGION, "select": select, "createdBefore": times.date_time(now()), "reason": REASON}
        return {**spec, "maxJobs": 10_000, **changes}

    def state(self, name: str = NAME, **changes: Any) -> None:
        self.terminations.create(name, **self.spec(**changes))

    def wait_for(self, holds: Callable[[Status], Any], name: str = NAME, *, timeout: float = SOON) -> Status:
        return self.terminations.wait_for(name, holds, timeout=timeout)

    def counted(self, jobs: int, name: str = NAME, *, timeout: float = SOON) -> Status:
        """The status, once it awaits the approval to terminate so many jobs."""
        status = self.wait_for(phase("AwaitingApproval"), name, timeout=timeout)
        assert status["matched"] == jobs
        return status

    def requested(self, jobs: int, name: str = NAME) -> Status:
        """The status, once AWS Batch has accepted the termination of so many jobs. More sweeps follow."""
        return self.wait_for(lambda status: status.get("requested") == jobs, name, timeout=LONG)

    def finished(self, name: str = NAME) -> Status:
        """The status after the two sweeps that find nothing any more, ten seconds each."""
        return self.wait_for(phase("Finished"), name, timeout=LONG)

    # -- what AWS Batch recorded --------------------------------------------------------------------------------------

    def calls(self) -> list[dict[str, Any]]:
        """Those that terminate jobs of the team, whatever their answer; without a role they are of the test alone."""
        found = self.team.world.batch.calls()
        return [call for call in found if call["operation"].startswith("Terminate") and self._is_own(call)]

    def sent(self) -> Counter[str]:
        """Return the number of accepted terminations of each job."""
        found = self.team.world.batch.terminate_requests()
        return Counter(request["job_id"] for request in found if self._is_own(request))

    def _is_own(self, call: dict[str, Any]) -> bool:
        return call["role"] in (self.team.role, None)

    def assert_each_once(self, jobs: Iterable[str]) -> None:
        """AWS Batch was asked to terminate these jobs, each once with the reason of the object, and no other job."""
        sent = self.sent()
        assert sent.keys() ^ set(jobs) == set()
        assert set(sent.values()) <= {1}
        assert {call["reason"] for call in self.calls()} <= {REASON}

    def assert_quiet_after(self, at: float) -> None:
        """No call that terminates jobs came after this time, in epoch seconds."""
        assert [call["at"] - at for call in self.calls() if call["at"] > at] == []


def now() -> int:
    return int(time.time() * 1000)


@contextmanager
def bulk_of(team: Team) -> Iterator[Bulk]:
    """Provide jobs and objects for the team, and delete all of them afterwards."""
    with Terminations(team.world.control_plane.kubeconfig, team.name) as terminations:
        try:
            yield Bulk(team, terminations)
            for body in terminations.objects():
                assert_observe_only(body)
        finally:
            terminations.delete_all()


@contextmanager
def bulk_on(stage: Stage) -> Iterator[Bulk]:
    """Of a new team; the operator is up, and there is no policy yet."""
    assert stage.operator.running
    with stage.teams(1) as (team,), bulk_of(team) as bulk:
        yield bulk
