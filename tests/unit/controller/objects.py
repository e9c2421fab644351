"""Tracked objects and jobs for tests of what reads the cache."""

from awsbatch_operator.api.batchjob import ObjectRef, Spec, Status
from awsbatch_operator.api.job import JobKey
from awsbatch_operator.controller.cache import Cache, TrackedJob, TrackedObject
from awsbatch_operator.policy.authorizer import deciding_parent
from awsbatch_operator.policy.resolution import Scope
from awsbatch_operator.reconcile.outcome import Record
from builders import NOW, REGION


def an_object(cache: Cache, name: str, namespace: str = "train", status: Status | None = None) -> TrackedObject:
    """One BatchJob in the cache; its job has its name."""
    status = status or Status()
    record = Record(Spec(name), REGION, generation=1, created_at=NOW, changed_at=NOW, known_since=NOW, status=status)
    ref = ObjectRef(namespace, name, f"uid-{namespace}-{name}")
    tracked = TrackedObject(ref, record, "1", status, 0.0)
    cache.add(tracked)
    return tracked


def bind(cache: Cache, tracked: TrackedObject, scope: Scope) -> TrackedJob:
    """Give the object a scope. Returns the job that it stands for then."""
    job_id = tracked.record.spec.job_id
    tracked.scope = scope
    cache.bind(tracked, JobKey(scope.target, job_id), deciding_parent(scope, job_id))
    job = cache.job_of(tracked)
    assert job is not None
    return job
