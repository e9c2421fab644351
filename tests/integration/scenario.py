"""Words that the integration tests share."""

from collections.abc import Callable, Mapping
from typing import Any

from awsbatch_sandbox.cluster import Cluster, condition
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World

Status = Mapping[str, Any]
SOON = 15.0
"""Seconds to wait for what should happen within one or two: the machine may be busy."""


def phase(name: str) -> Callable[[Status], bool]:
    return lambda status: bool(status.get("phase") == name)


def says(type_: str, status: str, reason: str) -> Callable[[Status], bool]:
    """Whether the condition of that type has that status and reason."""
    return lambda shown: claim(shown, type_) == (status, reason)


def claim(shown: Status, type_: str) -> tuple[str, str] | None:
    """Status and reason of a condition; None when it is absent."""
    found = condition(shown, type_)
    return (found["status"], found["reason"]) if found else None


def accepted(status: Status) -> bool:
    return "acceptedAt" in status.get("termination", {})


def reasons_sent(world: World, job_id: str) -> list[str]:
    """The reasons of the termination requests that Batch accepted for the job, by TerminateJob or TerminateJobs."""
    return [one["reason"] for one in world.batch.terminate_requests() if one["job_id"] == job_id]


def terminations_tried(world: World) -> list[dict[str, Any]]:
    """All calls of TerminateJob and TerminateJobs, whatever their answer."""
    return [call for call in world.batch.calls() if call["operation"].startswith("Terminate")]


def has_events(cluster: Cluster, name: str, *reasons: str) -> bool:
    """Whether the Events about the object come to have these reasons, in this order, and no others."""

    def found() -> list[str]:
        return [event["reason"] for event in cluster.events(name)]

    # Events follow the status write that they report.
    wait_for(lambda: len(found()) >= len(reasons), timeout=SOON, what=f"Events {reasons} about {name}")
    return found() == list(reasons)
