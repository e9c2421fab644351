"""Objects as kubectl prints them."""

from typing import Any

Body = dict[str, Any]


def job(name: str = "train", *, spec: Body | None = None, generation: int = 1, **status: Any) -> Body:
    """A BatchJob. Conditions are given as Type="Status/Reason", or "Status/Reason/message"."""
    given = {key: value for key, value in status.items() if key[0].isupper()}
    rest = {key: value for key, value in status.items() if not key[0].isupper()}
    return {
        "apiVersion": "awsbatch.dev/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": name, "namespace": "team-a", "uid": f"uid-{name}", "generation": generation},
        "spec": {"jobId": "job-1", **(spec or {})},
        "status": {"observedGeneration": generation, "conditions": conditions(**given), **rest},
    }


def conditions(**given: str) -> list[Body]:
    found = []
    for type_, text in given.items():
        status, reason, message = [*text.split("/", 2), ""][:3]
        found.append({"type": type_, "status": status, "reason": reason, "message": message})
    return found


def termination(*, approved: bool = False, generation: int = 1, **status: Any) -> Body:
    """A BatchTermination, conditions as above."""
    body = job("stop-1", generation=generation, **status)
    select = {"queues": ["gpu"], "jobNames": ["train-*"]}
    spec = {"region": "eu-west-1", "select": select, "createdBefore": "2026-01-01T00:00:00Z", "reason": "INC-1"}
    return {**body, "kind": "BatchTermination", "spec": {**spec, "maxJobs": 200, "approved": approved}}
