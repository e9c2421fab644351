"""The jobs of the sandbox and the demo: one in each common state."""

import time
from collections.abc import Callable
from typing import Any, Final

from awsbatch_sandbox.policies import Policies
from awsbatch_sandbox.teams import ACCOUNTS, create_teams, policy, seed
from awsbatch_sandbox.world import World

MINUTE: Final = 60
UNKNOWN_JOB: Final = "00000000-0000-4000-8000-000000000000"
_QUEUE: Final = "batch"


def _since(minutes: float) -> int:
    """Epoch milliseconds, so many minutes ago."""
    return int((time.time() - minutes * MINUTE) * 1000)


def _running(minutes: float) -> dict[str, Any]:
    return {"status": "RUNNING", "created_at": _since(minutes + 3), "started_at": _since(minutes)}


def _ended(status: str, minutes: float, **more: Any) -> dict[str, Any]:
    times = {"created_at": _since(minutes + 25), "started_at": _since(minutes + 20), "stopped_at": _since(minutes)}
    return {"status": status, **times, **more}


_KINDS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "train": lambda: _running(94),
    "resize": lambda: {"status": "RUNNABLE", "created_at": _since(7)},
    "publish": lambda: {"status": "PENDING", "created_at": _since(93)},
    "sweep": lambda: {"children": ["SUCCEEDED", "RUNNING", "RUNNING", "RUNNABLE"], "created_at": _since(31)},
    "report": lambda: _ended("SUCCEEDED", 12, exit_code=0),
    "import": lambda: _ended("FAILED", 40, exit_code=1, status_reason="Essential container in task exited"),
    "render": lambda: {**_running(18), "num_nodes": 3},
}


def populate(world: World, count: int) -> list[str]:
    """`count` jobs, the kinds in turn, `publish` waiting for its `resize`; and one object whose job does not exist.

    Returns the names of the objects, that of a running job first.
    """
    names: list[str] = []
    kinds = list(_KINDS)
    resize = ""
    for number in range(count):
        turn, kind = divmod(number, len(kinds))
        name = kinds[kind] + (f"-{turn + 1}" if turn else "")
        job: dict[str, Any] = _KINDS[kinds[kind]]()
        if kinds[kind] == "publish":
            job["depends_on"] = [resize]
        job_id = world.seed(name, queue=_QUEUE, definition=f"{kinds[kind]}:3", **job)
        resize = job_id if kinds[kind] == "resize" else resize
        names.append(name)
    world.cluster.create("mistyped", UNKNOWN_JOB)
    return [*names, "mistyped"]


def populate_teams(world: World, cluster_name: str) -> None:
    """Create two teams with a policy, an events queue and a running job each; team b also names the job of team a."""
    teams = create_teams(world, cluster_name)
    with Policies(world.control_plane.kubeconfig) as policies:
        for team, account in ACCOUNTS.items():
            policies.create(team, **policy(team, world.batch.create_queue(account=account))["spec"])
    train = seed(world, "team-a", "train", "team-a-gpu")
    teams["team-a"].create("train", train)
    teams["team-b"].create("render", seed(world, "team-b", "render", "team-b-spot"))
    teams["team-b"].create("theirs", train)
    for cluster in teams.values():
        cluster.close()
