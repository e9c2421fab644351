"""What actors do, done: to objects by the API server itself, to jobs by the simulator; each noted in the ledger."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.world import World
from chaos.actors import UNKNOWN
from chaos.ledger import History, Ledger, Statement
from chaos.plan import Step

_TRIES: Final = 50
_PAUSE: Final = 0.2
"""Seconds between two tries of a request: after a restart the API server takes a moment to serve."""


class Script:
    """Actors connect to the API server directly, without a proxy that breaks."""

    def __init__(self, world: World, clusters: Sequence[Cluster], ledger: Ledger) -> None:
        self._batch, self._clusters, self._ledger = world.batch, clusters, ledger
        self.actions: Mapping[str, Callable[[Step], bool]] = {
            "create": self._create,
            "twin": self._twin,
            "state": self._state,
            "reword": self._state,
            "withdraw": self._withdraw,
            "delete": self._delete,
            "foreign_status": self._foreign_status,
            "race": self._race,
            "end": self._end,
            "rival": self._rival,
            "hide": self._hide,
        }

    def _cluster_of(self, name: str) -> Cluster:
        """The namespace of that object: names end in a number, and namespaces take turns."""
        return self._clusters[int(name.rpartition("-")[2]) % len(self._clusters)]

    def _create(self, step: Step) -> bool:
        job_id = str(uuid.uuid4()) if step.detail["kind"] == UNKNOWN else self._seed(step)
        return self._born(step, job_id)

    def _seed(self, step: Step) -> str:
        job = dict(step.detail["job"])
        if step.detail["kind"] == "held":
            job["depends_on"] = [self._batch.seed(name=f"before-{step.target}")]
        return self._batch.seed(name=step.target, **job)

    def _twin(self, step: Step) -> bool:
        return self._born(step, self._ledger.objects[step.detail["of"]].job_id)

    def _born(self, step: Step, job_id: str) -> bool:
        reason = step.detail.get("reason")
        spec = {} if reason is None else {"terminate": {"reason": reason}}
        statement = Statement(reason, time.time())
        self._ledger.objects[step.target] = History(step.target, job_id, [statement])
        # A first try may have taken effect although no answer came: then the second one finds it there.
        self._tried(lambda: self._cluster_of(step.target).create(step.target, job_id, **spec), done_by_then=409)
        statement.certain = time.time()
        return True

    def _state(self, step: Step) -> bool:
        self._say(step.target, step.detail["reason"])
        return True

    def _withdraw(self, step: Step) -> bool:
        self._say(step.target, None)
        return True

    def _say(self, name: str, reason: str | None) -> None:
        statement = Statement(reason, time.time())
        self._ledger.objects[name].statements.append(statement)
        terminate = None if reason is None else {"reason": reason}
        self._tried(lambda: self._cluster_of(name).patch(name, {"spec": {"terminate": terminate}}))
        statement.certain = time.time()

    def _delete(self, step: Step) -> bool:
        deletion = self._ledger.objects[step.target].deletion = Statement(None, time.time())
        self._tried(lambda: self._cluster_of(step.target).delete(step.target), done_by_then=404)
        deletion.certain = time.time()
        return True

    def _foreign_status(self, step: Step) -> bool:
        """Write a status as a foreign client does."""
        self._tried(lambda: self._cluster_of(step.target).patch_status(step.target, step.detail["status"]))
        return True

    def _race(self, step: Step) -> bool:
        self._say(step.target, step.detail["reason"])
        time.sleep(step.detail["gap"])
        return self._end(step)

    def _end(self, step: Step) -> bool:
        """The job ends by itself, unless it has ended already."""
        job_id = self._ledger.objects[step.target].job_id
        if self._batch.job(job_id)["status"] in ("SUCCEEDED", "FAILED"):
            return False
        self._batch.move(job_id, step.detail["status"])
        return True

    def _rival(self, step: Step) -> bool:
        """Somebody else, in the console, asks for the end of the job; it comes a little later."""
        job_id = self._ledger.objects[step.target].job_id
        job = self._batch.job(job_id)
        if job["status"] in ("SUCCEEDED", "FAILED") or job["is_terminated"]:
            return False
        self._batch.move(job_id, "RUNNING", is_terminated=True, reason="by hand")
        self._ledger.rivals[job_id] = time.time()
        return True

    def _hide(self, step: Step) -> bool:
        self._batch.hide(self._ledger.objects[step.target].job_id, step.detail["polls"])
        return True

    def _tried(self, request: Callable[[], Any], *, done_by_then: int | None = None) -> None:
        for number in range(_TRIES):
            try:
                request()
            except ApiException as refusal:
                if number and refusal.status == done_by_then:
                    return
                if number == _TRIES - 1 or (400 <= (refusal.status or 0) < 500 and refusal.status != 429):
                    raise
            except HTTPError:
                if number == _TRIES - 1:
                    raise
            else:
                return
            time.sleep(_PAUSE)
