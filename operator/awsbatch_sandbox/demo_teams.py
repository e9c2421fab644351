"""Two teams with an AWS account each, played and told: one names a job of the other, and is refused."""

import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

import yaml

from awsbatch_sandbox.cluster import Body, Cluster, condition
from awsbatch_sandbox.demo import StoryError, patch_for
from awsbatch_sandbox.policies import access_policy
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.story import Story
from awsbatch_sandbox.world import QUICK, World

CLUSTER: Final = "demo"
FLAGS: Final = (*QUICK, "--absence-grace=500ms", "--access-policy=required", f"--cluster-name={CLUSTER}")
GRACE: Final = 1.0
ACCOUNTS: Final = {"team-a": "111122223333", "team-b": "444455556666"}
FOREIGN: Final = ("theirs", "payroll", "mistyped")
"""BatchJobs of team b that name a job of team a, one of another queue in team b's own account, and none."""
_OWN: Final = (("team-a", "train"), ("team-b", "render"))


def play(control_plane: str, *, flags: Sequence[str] = FLAGS, timeout: float = 15.0) -> None:
    """Tells it on stdout. StoryError when a step takes more than `timeout` seconds, or goes otherwise than told."""
    story = Story()
    story.title("Two teams, two AWS accounts: nobody ends another's job")
    story.text("in a sandbox of its own: no cluster, no AWS account; nothing of it stays behind\n")
    story.progress("starting a Kubernetes API server, a simulated AWS Batch, and AWS STS")
    with World(control_plane, grace=GRACE, flags=flags, roles=True) as world:
        story.progress(f"up: {world.control_plane.description}")
        try:
            _Play(story, world, timeout).act()
        except TimeoutError as late:
            raise StoryError(f"{late}\nThe operator's last words:\n{world.operator.last_words()}") from late
    story.gap()
    story.title(f"All stopped again, after {story.elapsed:.1f} s")


class _Play:
    def __init__(self, story: Story, world: World, timeout: float) -> None:
        self._story, self._world, self._timeout = story, world, timeout
        self._teams = {team: world.cluster.within(team) for team in ACCOUNTS}
        self._jobs: dict[str, str] = {}

    def act(self) -> None:
        try:
            self._populate()
            self._begin()
            self._denied()
            self._ended()
            self._heard_by_aws()
        finally:
            for cluster in self._teams.values():
                cluster.close()

    def _populate(self) -> None:
        story, batch = self._story, self._world.batch
        for team, cluster in self._teams.items():
            cluster.create_namespace(team=team[-1])
            self._world.sts.trust(role(team), external_id=f"awsbatch-operator/{CLUSTER}/{team}")
        # What deploy/iam grants: TerminateJob on jobs that carry the namespace of the session as a tag.
        batch.deny("TerminateJob", job_tag="k8s-namespace", principal_tag="kubernetes-namespace")
        self._jobs = {
            "train": self._seed("team-a", "train", "team-a-gpu"),
            "render": self._seed("team-b", "render", "team-b-spot"),
            "payroll": self._seed("team-b", "payroll", "finance"),
            "mistyped": str(uuid.uuid4()),
        }
        story.progress(f"two accounts with jobs: team a in {ACCOUNTS['team-a']}, team b in {ACCOUNTS['team-b']}\n")
        policies = yaml.safe_dump_all([policy(team) for team in ACCOUNTS], sort_keys=False, default_flow_style=None)
        story.feed(self._world.cluster, policies, "apply", "-f", "-")
        self._teams["team-a"].create("train", self._jobs["train"])
        self._teams["team-b"].create("render", self._jobs["render"])
        self._teams["team-b"].create("theirs", self._jobs["train"])
        for name in ("payroll", "mistyped"):
            self._teams["team-b"].create(name, self._jobs[name])

    def _seed(self, team: str, name: str, queue: str) -> str:
        tags = {"team": team[-1], "k8s-namespace": team}
        return self._world.batch.seed(name=name, queue=queue, account=ACCOUNTS[team], tags=tags)

    def _begin(self) -> None:
        story = self._story
        story.gap()
        story.progress("each team names a job of its own; team b names three more: one of team a, one of another queue")
        story.progress("in its own account, and one that does not exist")
        self._world.operator.start()
        story.progress(f"operator runs with --access-policy=required, process {self._world.operator.pid}")
        self._await("train", self._teams["team-a"], lambda status: status.get("phase") == "Running")
        self._await("render", self._teams["team-b"], lambda status: status.get("phase") == "Running")
        for name in FOREIGN:
            self._await(name, self._teams["team-b"], lambda status: status.get("phase") == "Denied")
        wait_for(self._counted, timeout=self._timeout, what="the policies say how many BatchJobs they govern")
        story.gap()
        story.run(self._world.cluster, "get", "bap")
        story.gap()
        story.run(self._world.cluster, "get", "batchjobs", "-A")

    def _counted(self) -> bool:
        told = self._world.cluster.kubectl("get", "bap", "-o", "jsonpath={.items[*].status.jobs}")
        return told.split() == ["1", "4"]

    def _denied(self) -> None:
        story, theirs = self._story, self._teams["team-b"]
        story.gap()
        story.progress("team b tries to end the job of team a:\n")
        self._patch("team-b", "theirs", "I need the GPUs")
        self._await("theirs", theirs, lambda status: condition(status, "Terminated").get("reason") == "JobNotAllowed")
        story.gap()
        story.run(self._world.cluster, "describe", "batchjob", "theirs", "-n", "team-b")
        story.gap()
        shown = [_told(theirs.get(name)["status"]) for name in ("payroll", "mistyped")]
        self._hold(shown[0] == shown[1], f"a job of another queue and none have equal statuses; they are {shown}")
        story.progress("payroll exists and mistyped does not: their statuses are equal, word by word")
        self._hold(not self._terminations(), "Batch got no TerminateJob so far")
        self._hold(self._job("train")["status"] == "RUNNING", "the job of team a runs on")
        story.progress("AWS Batch got no TerminateJob; the job of team a is RUNNING")

    def _ended(self) -> None:
        story = self._story
        story.gap()
        story.progress("each team ends its own job:\n")
        for team, name in _OWN:
            self._patch(team, name, f"{name} is not needed any more")
        for team, name in _OWN:
            self._await(name, self._teams[team], lambda status: status.get("phase") == "Terminated")
        story.gap()
        story.run(self._world.cluster, "get", "batchjobs", "-A")

    def _heard_by_aws(self) -> None:
        story, sessions = self._story, {call["issued"]: call for call in self._world.sts.calls("AssumeRole")}
        requests = sorted(self._world.batch.terminate_requests(), key=lambda one: str(one["account"]))
        story.gap()
        story.progress("what AWS saw of it, by the sandbox's recorder:")
        for request in requests:
            session = sessions[request["access_key"]]
            name = next((name for name, job_id in self._jobs.items() if job_id == request["job_id"]), "?")
            story.text(
                f'           TerminateJob of {name} in account {request["account"]}, reason "{request["reason"]}"'
            )
            story.text(f"             by {request['role']}, ExternalId {session['external_id']}")
            story.text(f"             session tags {', '.join(f'{key}={tag}' for key, tag in session['tags'].items())}")
        told = [
            (one["job_id"], one["account"], one["role"], sessions[one["access_key"]]["tags"]["kubernetes-namespace"])
            for one in requests
        ]
        own = [(self._jobs[name], ACCOUNTS[team], role(team), team) for team, name in _OWN]
        self._hold(told == own, f"each job is ended once, by its own team's role; the calls are {told}")
        self._hold(len(self._terminations()) == len(own), "Batch got two TerminateJob")
        self._hold(self._job("payroll")["status"] == "RUNNING", "the job of the other queue runs on")
        story.progress("no other TerminateJob was sent; payroll, which team b named too, is RUNNING")

    def _terminations(self) -> list[Body]:
        return [call for call in self._world.batch.calls() if call["operation"].startswith("Terminate")]

    def _patch(self, team: str, name: str, reason: str) -> None:
        patch = ("patch", "batchjob", name, "-n", team, "--type=merge", "-p", patch_for(reason))
        self._story.run(self._world.cluster, *patch)

    def _job(self, name: str) -> Body:
        return self._world.batch.job(self._jobs[name])

    def _await(self, name: str, cluster: Cluster, holds: Callable[[Body], Any]) -> None:
        cluster.wait_for(name, holds, timeout=self._timeout)

    def _hold(self, holds: bool, what: str) -> None:
        if not holds:
            raise StoryError(f"it should have come otherwise: {what}")


def role(team: str) -> str:
    return f"arn:aws:iam::{ACCOUNTS[team]}:role/batch-{team}"


def policy(team: str) -> Body:
    letter = team[-1]
    return access_policy(
        team,
        namespaceSelector={"matchLabels": {"team": letter}},
        role={"arn": role(team)},
        regions=["eu-west-1"],
        jobs={"queues": [f"{team}-*"], "tags": {"team": letter, "k8s-namespace": "${namespace}"}},
    )


def _told(status: Body) -> Body:
    """What a status says, without when it began to."""
    conditions = [
        {key: said for key, said in one.items() if key != "lastTransitionTime"} for one in status["conditions"]
    ]
    return {**status, "conditions": conditions}
