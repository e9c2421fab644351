"""The demo of two teams with an AWS account each: one names a job of the other, and the operator denies it."""

import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

import yaml

from awsbatch_sandbox.cluster import Body, Cluster, condition
from awsbatch_sandbox.demo import expect, patch_for, stage
from awsbatch_sandbox.narrator import Narrator
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.teams import ACCOUNTS, create_teams, policy, role, seed
from awsbatch_sandbox.world import QUICK, World

CLUSTER: Final = "demo"
FLAGS: Final = (*QUICK, "--access-policy=required", f"--cluster-name={CLUSTER}")
GRACE: Final = 1.0
FOREIGN: Final = ("theirs", "payroll", "mistyped")
"""BatchJobs of team b that name a job of team a, one of another queue in team b's own account, and none."""
_OWN: Final = (("team-a", "train"), ("team-b", "render"))


def play(control_plane: str, *, flags: Sequence[str] = FLAGS, timeout: float = 15.0) -> None:
    """Run it and write each step to stdout. DemoError when a step is too slow or has another result.

    `timeout`: seconds a step.
    """
    title = "Two teams, two AWS accounts: no team can terminate a job of the other"
    with stage(title, control_plane, grace=GRACE, flags=flags, roles=True) as (narrator, world):
        _Demo(narrator, world, timeout).act()


class _Demo:
    def __init__(self, narrator: Narrator, world: World, timeout: float) -> None:
        self._narrator, self._world, self._timeout = narrator, world, timeout
        self._teams = create_teams(world, CLUSTER)
        self._jobs: dict[str, str] = {}

    def act(self) -> None:
        try:
            self._populate()
            self._begin()
            self._denied()
            self._terminate_own()
            self._seen_by_aws()
        finally:
            for cluster in self._teams.values():
                cluster.close()

    def _populate(self) -> None:
        narrator = self._narrator
        self._jobs = {
            "train": seed(self._world, "team-a", "train", "team-a-gpu"),
            "render": seed(self._world, "team-b", "render", "team-b-spot"),
            "payroll": seed(self._world, "team-b", "payroll", "finance"),
            "mistyped": str(uuid.uuid4()),
        }
        narrator.progress(f"two accounts with jobs: team a in {ACCOUNTS['team-a']}, team b in {ACCOUNTS['team-b']}\n")
        policies = yaml.safe_dump_all([policy(team) for team in ACCOUNTS], sort_keys=False, default_flow_style=None)
        narrator.feed(self._world.cluster, policies, "apply", "-f", "-")
        self._teams["team-a"].create("train", self._jobs["train"])
        self._teams["team-b"].create("render", self._jobs["render"])
        self._teams["team-b"].create("theirs", self._jobs["train"])
        for name in ("payroll", "mistyped"):
            self._teams["team-b"].create(name, self._jobs[name])

    def _begin(self) -> None:
        narrator = self._narrator
        narrator.gap()
        narrator.progress(
            "each team names a job of its own; team b names three more: a job of team a, a job of another queue"
        )
        narrator.progress("in its own account, and a job that does not exist")
        self._world.operator.start()
        narrator.progress(f"the operator is ready, with --access-policy=required (process {self._world.operator.pid})")
        self._await("train", self._teams["team-a"], lambda status: status.get("phase") == "Running")
        self._await("render", self._teams["team-b"], lambda status: status.get("phase") == "Running")
        for name in FOREIGN:
            self._await(name, self._teams["team-b"], lambda status: status.get("phase") == "Denied")
        wait_for(self._counted, timeout=self._timeout, what="the policies to show how many BatchJobs they govern")
        narrator.gap()
        narrator.run(self._world.cluster, "get", "bap")
        narrator.gap()
        narrator.run(self._world.cluster, "get", "batchjobs", "-A")

    def _counted(self) -> bool:
        counts = self._world.cluster.kubectl("get", "bap", "-o", "jsonpath={.items[*].status.jobs}")
        return counts.split() == ["1", "4"]

    def _denied(self) -> None:
        narrator, theirs = self._narrator, self._teams["team-b"]
        narrator.gap()
        narrator.progress("team b tries to terminate the job of team a:\n")
        self._patch("team-b", "theirs", "I need the GPUs")
        self._await("theirs", theirs, lambda status: condition(status, "Terminated").get("reason") == "JobNotAllowed")
        narrator.gap()
        narrator.run(self._world.cluster, "describe", "batchjob", "theirs", "-n", "team-b")
        narrator.gap()
        shown = [_comparable(theirs.get(name)) for name in ("payroll", "mistyped")]
        expect(
            shown[0] == shown[1],
            f"a job of another queue and none have equal statuses, except for their ids; they are {shown}",
        )
        narrator.progress(
            "payroll exists and mistyped does not: their statuses are equal, except for the id that each object names, "
            "so neither shows whether a job exists"
        )
        expect(not self._terminations(), "Batch has received no TerminateJob")
        expect(self._job("train")["status"] == "RUNNING", "the job of team a still runs")
        narrator.progress("AWS Batch received no TerminateJob; the job of team a is RUNNING")

    def _terminate_own(self) -> None:
        narrator = self._narrator
        narrator.gap()
        narrator.progress("each team terminates its own job:\n")
        for team, name in _OWN:
            self._patch(team, name, f"{name} is not needed any more")
        for team, name in _OWN:
            self._await(name, self._teams[team], lambda status: status.get("phase") == "Terminated")
        narrator.gap()
        narrator.run(self._world.cluster, "get", "batchjobs", "-A")

    def _seen_by_aws(self) -> None:
        narrator, sessions = self._narrator, {call["issued"]: call for call in self._world.sts.calls("AssumeRole")}
        requests = sorted(self._world.batch.terminate_requests(), key=lambda one: str(one["account"]))
        narrator.gap()
        narrator.progress("what AWS received, as the sandbox recorded it:")
        for request in requests:
            session = sessions[request["access_key"]]
            name = next((name for name, job_id in self._jobs.items() if job_id == request["job_id"]), "?")
            narrator.text(
                f'           TerminateJob of {name} in account {request["account"]}, reason "{request["reason"]}"'
            )
            narrator.text(f"             by {request['role']}, ExternalId {session['external_id']}")
            narrator.text(
                f"             session tags {', '.join(f'{key}={tag}' for key, tag in session['tags'].items())}"
            )
        calls = [
            (one["job_id"], one["account"], one["role"], sessions[one["access_key"]]["tags"]["kubernetes-namespace"])
            for one in requests
        ]
        own = [(self._jobs[name], ACCOUNTS[team], role(team), team) for team, name in _OWN]
        expect(calls == own, f"each job is terminated once, by its own team's role; the calls are {calls}")
        expect(len(self._terminations()) == len(own), "Batch received two TerminateJob calls")
        expect(self._job("payroll")["status"] == "RUNNING", "the job of the other queue still runs")
        narrator.progress("no other TerminateJob was sent; payroll, which team b named too, is RUNNING")

    def _terminations(self) -> list[Body]:
        return [call for call in self._world.batch.calls() if call["operation"].startswith("Terminate")]

    def _patch(self, team: str, name: str, reason: str) -> None:
        patch = ("patch", "batchjob", name, "-n", team, "--type=merge", "-p", patch_for(reason))
        self._narrator.run(self._world.cluster, *patch)

    def _job(self, name: str) -> Body:
        return self._world.batch.job(self._jobs[name])

    def _await(self, name: str, cluster: Cluster, holds: Callable[[Body], Any]) -> None:
        cluster.wait_for(name, holds, timeout=self._timeout)


def _comparable(body: Body) -> str:
    """The status without transition times and without the id of the job, which the object itself names."""
    conditions = [
        {key: value for key, value in one.items() if key != "lastTransitionTime"}
        for one in body["status"]["conditions"]
    ]
    return str({**body["status"], "conditions": conditions}).replace(body["spec"]["jobId"], "ID")
