"""Executes actions on objects (API server) and on jobs (simulator), and records each in the ledger."""

import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from awsbatch_operator.api.names import FINALIZER
from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.controlplane import Embedded
from awsbatch_sandbox.world import World
from chaos.actors import UNKNOWN
from chaos.bulks import BulkScript
from chaos.ledger import Deadline, History, Ledger, Moment, Statement
from chaos.plan import Step
from chaos.settled import shows_end

_TRIES: Final = 50
_SHORTEST_LIMIT: Final = 60
_FIELDS: Final = {"terminate": "terminate", "deadline": "deadline", "onDelete": "on_delete"}
_PAUSE: Final = 0.2
"""Seconds between two tries of a request: after a restart the API server takes a moment to serve."""


class Script:
    """Actors connect to the API server directly, without a proxy that breaks."""

    def __init__(self, world: World, clusters: Sequence[Cluster], ledger: Ledger) -> None:
        self._batch, self._clusters, self._ledger = world.batch, clusters, ledger
        # A control plane without kube-controller-manager never empties a namespace.
        self._has_namespaces = isinstance(world.control_plane, Embedded)
        self._crowds: dict[str, Cluster] = {}
        self._seen: dict[str, float] = {}
        self._bulks = BulkScript(world, ledger.bulks, self._tried)
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
            "deadline": self._deadline,
            "move_deadline": self._deadline,
            "drop_deadline": self._drop_deadline,
            "tie": self._tie,
            "untie": self._tie,
            "create_namespace": self._create_namespace,
            "delete_namespace": self._delete_namespace,
            **dict.fromkeys(self._bulks.steps, self._bulk),
        }

    @property
    def clusters(self) -> Sequence[Cluster]:
        return [*self._clusters, *self._crowds.values()]

    def close(self) -> None:
        for cluster in self._crowds.values():
            cluster.close()
        self._bulks.close()

    def _bulk(self, step: Step) -> bool:
        self._bulks.steps[step.kind](step.target)
        return True

    def _cluster_of(self, name: str) -> Cluster:
        """The namespace of that object: names end in a number, and namespaces take turns; those of a crowd begin so."""
        crowd = self._crowds.get(name.rpartition("-")[0])
        if crowd is not None:
            return crowd
        return self._clusters[int(name.rpartition("-")[2]) % len(self._clusters)]

    def _create(self, step: Step) -> bool:
        self._born(step.target, *self._job(step.target, step.detail), step.detail)
        return True

    def _job(self, name: str, detail: Mapping[str, Any]) -> tuple[str, float]:
        """Id of a new job, and since when it runs or waits, by the clock of Batch."""
        since = self._ledger.batch_time(time.time()) - detail["age"]
        if detail["kind"] == UNKNOWN:
            return str(uuid.uuid4()), since
        job = dict(detail["job"], created_at=int(since * 1000))
        if "status" not in job and "children" not in job:
            job["started_at"] = job["created_at"]
        if detail["kind"] == "held":
            job["depends_on"] = [self._batch.seed(name=f"before-{name}")]
        return self._batch.seed(name=name, **job), since

    def _twin(self, step: Step) -> bool:
        of = self._ledger.objects[step.detail["of"]]
        self._born(step.target, of.job_id, of.since, step.detail)
        return True

    def _born(self, name: str, job_id: str, since: float, detail: Mapping[str, Any]) -> None:
        stated = Statement(detail.get("reason"), time.time(), on_delete=detail.get("on_delete"))
        self._ledger.objects[name] = history = History(name, job_id, [stated], since)
        if "deadline" in detail:
            stated = history.statements[0] = replace(stated, deadline=self._limit_in(history, detail["deadline"]))
        spec = {field: value for field, value in _spec(stated).items() if value is not None}
        finalizers = [FINALIZER] if detail.get("finalizer") else []
        # A first try may have taken effect although no answer came: then the second one finds it there.
        self._tried(
            lambda: self._cluster_of(name).create(name, job_id, finalizers=finalizers, **spec), done_by_then=409
        )
        stated.certain = time.time()

    def _state(self, step: Step) -> bool:
        self._say(step.target, terminate=step.detail["reason"])
        return True

    def _withdraw(self, step: Step) -> bool:
        self._say(step.target, terminate=None)
        return True

    def _deadline(self, step: Step) -> bool:
        """State a deadline, or move the limit of the one that is stated."""
        history = self._ledger.objects[step.target]
        self._say(step.target, deadline=self._limit_in(history, step.detail))
        return True

    def _limit_in(self, history: History, detail: Mapping[str, Any]) -> Deadline:
        before = history.now.deadline
        age = self._ledger.batch_time(time.time()) - history.since
        limit = max(_SHORTEST_LIMIT, math.ceil(age + detail["due_in"]))
        reason = detail.get("reason") or (before.reason if before is not None else "")
        return Deadline(reason, **{detail["limit"]: limit})

    def _drop_deadline(self, step: Step) -> bool:
        self._say(step.target, deadline=None)
        return True

    def _tie(self, step: Step) -> bool:
        self._say(step.target, on_delete=step.detail.get("reason"))
        return True

    def _say(self, name: str, *, gone: int | None = None, **change: Any) -> None:
        """Change what the object states. `gone`: the answer that is fine, too."""
        history = self._ledger.objects[name]
        statement = replace(history.now, began=time.time(), certain=math.inf, **change)
        history.statements.append(statement)
        patch = {field: value for field, value in _spec(statement).items() if _FIELDS[field] in change}
        self._tried(lambda: self._cluster_of(name).patch(name, {"spec": patch}), done_by_then=gone, at_once=True)
        statement.certain = time.time()

    def _delete(self, step: Step) -> bool:
        untied = step.detail.get("untied")
        if untied == "before":
            self._say(step.target, on_delete=None)
        history, answers = self._ledger.objects[step.target], []
        deletion = history.deletion = Moment(time.time())
        self._tried(lambda: answers.append(self._cluster_of(step.target).delete(step.target)), done_by_then=404)
        deletion.certain = time.time()
        history.held = _is_held(answers[0]) if answers else None
        if history.held is False:
            history.gone = deletion
        elif untied == "after":
            time.sleep(step.detail["gap"])
            self._say(step.target, on_delete=None, gone=404)
        return True

    def _create_namespace(self, step: Step) -> bool:
        if not self._has_namespaces:
            return False
        cluster = self._crowds[step.target] = self._clusters[0].within(step.target)
        self._tried(cluster.create_namespace, done_by_then=409)
        for detail in step.detail["objects"]:
            self._born(detail["name"], *self._job(detail["name"], detail), detail)
        return True

    def _delete_namespace(self, step: Step) -> bool:
        cluster = self._crowds.get(step.target)
        if cluster is None:
            return False
        found: list[Mapping[str, Any]] = []
        self._tried(lambda: found.extend(cluster.objects()))
        deletion = Moment(time.time())
        for body in found:
            history = self._ledger.objects[body["metadata"]["name"]]
            # The operator may set the finalizer between this answer and the deletion.
            history.deletion, history.held = deletion, _is_held(body) or None
        self._tried(cluster.delete_namespace, done_by_then=409)
        deletion.certain = time.time()
        return True

    def look_for_deleted(self) -> None:
        """Note which objects that were deleted do not exist any more."""
        for history in self._ledger.objects.values():
            if history.deletion is None or history.gone is not None:
                continue
            seen = self._seen.get(history.name, history.deletion.began)
            asked = time.time()
            try:
                self._cluster_of(history.name).get(history.name)
            except ApiException as refusal:
                if refusal.status == 404:
                    history.gone = Moment(seen, time.time())
            except HTTPError:
                return  # the API server is away
            else:
                self._seen[history.name] = asked

    def look_for_ends(self) -> None:
        """Note which objects show the end of their job."""
        for cluster in self.clusters:
            try:
                found = cluster.objects()
            except (ApiException, HTTPError):
                continue  # the API server is away, or the namespace
            at = time.time()
            for body in found:
                if shows_end(body.get("status", {})):
                    self._ledger.shown.setdefault(body["metadata"]["name"], at)

    def _foreign_status(self, step: Step) -> bool:
        """Write a status as a foreign client does."""
        self._tried(lambda: self._cluster_of(step.target).patch_status(step.target, step.detail["status"]))
        return True

    def _race(self, step: Step) -> bool:
        self._say(step.target, terminate=step.detail["reason"])
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
        self._batch.hide(self._ledger.objects[step.target].job_id, **step.detail)
        return True

    def _tried(self, request: Callable[[], Any], *, done_by_then: int | None = None, at_once: bool = False) -> None:
        """`done_by_then`: the answer to a second try that says that the first took effect; `at_once`: to the first."""
        for number in range(_TRIES):
            try:
                request()
            except ApiException as refusal:
                if (number or at_once) and refusal.status == done_by_then:
                    return
                if number == _TRIES - 1 or (400 <= (refusal.status or 0) < 500 and refusal.status != 429):
                    raise
            except HTTPError:
                if number == _TRIES - 1:
                    raise
            else:
                return
            time.sleep(_PAUSE)


def _spec(stated: Statement) -> dict[str, Any]:
    """The fields of the spec in which it is written; None: absent."""
    deadline = None
    if stated.deadline is not None:
        limits = {"running": stated.deadline.running, "waiting": stated.deadline.waiting}
        deadline = {"reason": stated.deadline.reason} | {
            name: f"{seconds}s" for name, seconds in limits.items() if seconds is not None
        }
    return {
        "terminate": None if stated.terminate is None else {"reason": stated.terminate},
        "deadline": deadline,
        "onDelete": None if stated.on_delete is None else {"terminate": {"reason": stated.on_delete}},
    }


def _is_held(body: Mapping[str, Any]) -> bool:
    return FINALIZER in body.get("metadata", {}).get("finalizers", ())
