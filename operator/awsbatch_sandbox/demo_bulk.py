"""The demo of a BatchTermination: one approval terminates 200 of the 300 jobs of a queue."""

import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import yaml

from awsbatch_operator.api.names import API_VERSION, TERMINATION_KIND
from awsbatch_sandbox.cluster import Body, KubectlError
from awsbatch_sandbox.demo import REASON, expect, stage
from awsbatch_sandbox.narrator import Narrator
from awsbatch_sandbox.operator_process import REGION
from awsbatch_sandbox.policies import access_policy
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import QUICK, World

GRACE: Final = 1.0
TEAM: Final = "team-a"
QUEUE: Final = "gpu"
NAME: Final = "inc-4711"
MATCHING: Final = (("train-gpu", "RUNNING", 160), ("train-cpu", "RUNNABLE", 40))
OTHERS: Final = (("render", "RUNNING", 60), ("report", "RUNNABLE", 40))
"""Names of jobs, their status, and how many there are."""
LATE: Final = "train-late"
MAX_JOBS: Final = sum(count for _, _, count in MATCHING)
_APPROVED: Final = json.dumps({"spec": {"approved": True}}, separators=(",", ":"))
_EXAMPLES: Final = 'jsonpath={range .status.examples[:3]}{.jobName}{"  "}{.jobId}{"\\n"}{end}'


def play(control_plane: str, *, flags: Sequence[str] = QUICK, timeout: float = 50.0) -> None:
    """Run it and write each step to stdout. DemoError when a step is too slow or has another result.

    `timeout`: seconds a step. Two sweeps 10 s apart must find no job left before the object is finished.
    """
    title = "One approval terminates 200 of the 300 jobs of a queue"
    with stage(title, control_plane, grace=GRACE, flags=flags) as (narrator, world):
        _Demo(narrator, world, timeout).act()


class _Demo:
    def __init__(self, narrator: Narrator, world: World, timeout: float) -> None:
        self._narrator, self._world, self._timeout = narrator, world, timeout
        self._team = world.cluster.within(TEAM)
        self._matching: set[str] = set()
        self._others: set[str] = set()
        self._late = ""

    def act(self) -> None:
        try:
            self._populate()
            self._count()
            self._approve()
            self._finish()
            self._seen_by_aws()
        finally:
            self._team.close()

    def _populate(self) -> None:
        narrator, world = self._narrator, self._world
        self._team.create_namespace(team="a")
        self._matching = self._seed(MATCHING)
        self._others = self._seed(OTHERS)
        jobs = ", ".join(f"{count} {name}-…" for name, _, count in (*MATCHING, *OTHERS))
        narrator.progress(f"{len(self._matching | self._others)} jobs in the queue {QUEUE}: {jobs}")
        world.operator.start()
        narrator.progress(f"the operator is ready (process {world.operator.pid})")
        narrator.progress("the platform team lets team a list and terminate the jobs of this queue:\n")
        narrator.feed(world.cluster, _document(_policy()), "apply", "-f", "-")

    def _seed(self, groups: Sequence[tuple[str, str, int]]) -> set[str]:
        an_hour_ago = int((time.time() - 3600) * 1000)
        seed = self._world.batch.seed_many
        found = [seed(n, name=name, status=status, queue=QUEUE, created_at=an_hour_ago) for name, status, n in groups]
        return {job_id for ids in found for job_id in ids}

    def _count(self) -> None:
        narrator = self._narrator
        narrator.gap()
        narrator.progress(
            "team a wants to terminate every train-* job that was submitted until now. First it counts them:\n"
        )
        narrator.feed(self._team, _document(_termination()), "create", "-n", TEAM, "-f", "-")
        # createdBefore has whole seconds: what is submitted from here on is later.
        self._late = self._world.batch.seed(name=LATE, queue=QUEUE)
        self._wait("jsonpath={.status.phase}=AwaitingApproval")
        self._show("get", "bt", NAME)
        narrator.gap()
        narrator.progress("three of the examples in its status:\n")
        self._show("get", "bt", NAME, "-o", _EXAMPLES)
        status = self._status()
        expect(status.get("matched") == MAX_JOBS, f"{MAX_JOBS} jobs match; the status is {status}")
        shown = {one["jobId"] for one in status["examples"]}
        expect(shown <= self._matching, f"all examples are train-* jobs of before; they are {status['examples']}")
        expect(not self._terminations(), "Batch has received no TerminateJobs before the approval")
        narrator.gap()
        narrator.progress("AWS Batch has received no TerminateJobs: nothing is sent before the approval")

    def _approve(self) -> None:
        narrator, batch = self._narrator, self._world.batch
        narrator.gap()
        began_at = time.time()
        self._show("patch", "bt", NAME, "--type=merge", "-p", _APPROVED)
        requests = wait_for(self._all_requested, timeout=self._timeout, what=f"{MAX_JOBS} terminations arrive at Batch")
        calls = [call for call in self._terminations() if call["http_status"] == 200]
        narrator.at(
            calls[0]["at"] - began_at,
            f"after the patch, AWS Batch receives TerminateJobs of {len(calls[0]['job_ids'])} jobs",
        )
        narrator.at(calls[-1]["at"] - began_at, f"and the last of {len(calls)} such calls, {len(requests)} jobs in all")
        wait_for(lambda: not self._alive() & self._matching, timeout=self._timeout, what="the jobs to finish in Batch")
        ended = f'AWS Batch has stopped the {MAX_JOBS} jobs: FAILED, with the statusReason "{REASON}"'
        narrator.at(time.time() - began_at, ended, good=True)
        reasons = {job["status_reason"] for job in batch.jobs() if job["job_id"] in self._matching}
        expect(reasons == {REASON}, f"each job shows the stated reason; they show {reasons}")

    def _all_requested(self) -> list[Body] | None:
        requests = self._world.batch.terminate_requests()
        return requests if len(requests) >= MAX_JOBS else None

    def _finish(self) -> None:
        narrator = self._narrator
        narrator.gap()
        narrator.progress("the operator lists the queue again, until it has found no job left twice in a row:\n")
        self._wait("condition=Finished")
        self._show("get", "bt", NAME)
        narrator.gap()
        self._show("describe", "bt", NAME)

    def _seen_by_aws(self) -> None:
        narrator = self._narrator
        narrator.gap()
        narrator.progress(f"what is in the queue {QUEUE} now, as AWS Batch shows it:\n")
        names = [name for name, _, _ in (*MATCHING, *OTHERS)] + [LATE]
        jobs = self._world.batch.jobs()
        found = Counter((_group(job["name"], names), job["status"]) for job in jobs)
        for name in names:
            counts = ", ".join(f"{count} {status}" for (one, status), count in found.items() if one == name)
            narrator.text(f"           {name:<12}{counts}")
        requested = {one["job_id"] for one in self._world.batch.terminate_requests()}
        expect(requested == self._matching, "exactly the jobs that matched were terminated")
        expect(self._alive() == self._others | {self._late}, "every other job is active")
        narrator.gap()
        narrator.progress(f"the other {len(self._others)} jobs are active. So is {LATE}, which was submitted after")
        narrator.progress("spec.createdBefore: an approval terminates nothing that nobody has counted")

    def _show(self, *arguments: str) -> None:
        self._narrator.run(self._team, *arguments, "-n", TEAM)

    def _wait(self, condition: str) -> None:
        try:
            self._show("wait", "bt", NAME, f"--for={condition}", f"--timeout={self._timeout:g}s")
        except KubectlError as late:
            raise TimeoutError(f"BatchTermination {NAME}: {late}; its status is {self._status()}") from late

    def _status(self) -> Body:
        status: Body = json.loads(self._team.kubectl("get", "bt", NAME, "-o", "json")).get("status", {})
        return status

    def _alive(self) -> set[str]:
        return {job["job_id"] for job in self._world.batch.jobs() if job["status"] not in ("SUCCEEDED", "FAILED")}

    def _terminations(self) -> list[Body]:
        return [call for call in self._world.batch.calls() if call["operation"].startswith("Terminate")]


def _policy() -> Body:
    select = {"matchLabels": {"team": "a"}}
    return access_policy(
        TEAM, namespaceSelector=select, jobs={"queues": [QUEUE]}, allow=["Observe", "List", "Terminate"]
    )


def _termination() -> Body:
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    select = {"queues": [QUEUE], "jobNames": ["train-*"]}
    spec: dict[str, Any] = {"region": REGION, "select": select, "createdBefore": now}
    spec |= {"reason": REASON, "maxJobs": MAX_JOBS}
    return {"apiVersion": API_VERSION, "kind": TERMINATION_KIND, "metadata": {"name": NAME}, "spec": spec}


def _document(body: Body) -> str:
    return yaml.safe_dump(body, sort_keys=False, default_flow_style=None)


def _group(name: str, names: Sequence[str]) -> str:
    return name if name in names else name.rpartition("-")[0]
