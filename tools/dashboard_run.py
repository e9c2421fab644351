"""Records what the panels of deploy/monitoring/dashboard.json show of a sandbox, as a Prometheus answers their queries.

Two replicas, about 200 active jobs of three AWS accounts, and the events of `_Scenario`.
"""

import json
import os
import random
import shutil
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from awsbatch_sandbox.batch.settings import DEFAULT_ACCOUNT
from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.competing_client import CompetingClient
from awsbatch_sandbox.demo import REASON
from awsbatch_sandbox.fixtures import UNKNOWN_JOB
from awsbatch_sandbox.kubeconfig import direct
from awsbatch_sandbox.operator_process import REGION, OperatorProcess
from awsbatch_sandbox.policies import Policies
from awsbatch_sandbox.processes import Child, free_port, wait_for
from awsbatch_sandbox.teams import ACCOUNTS, create_teams, policy
from awsbatch_sandbox.terminations import Terminations
from awsbatch_sandbox.world import World

ROOT: Final = Path(__file__).resolve().parents[1]
DASHBOARD: Final = ROOT / "deploy/monitoring/dashboard.json"
LENGTH: Final = 420
"""Seconds that the picture shows."""
STEP: Final = 3
_SCRAPE: Final = 2
_RATE_INTERVAL: Final = "20s"
_PODS: Final = ("awsbatch-operator-1", "awsbatch-operator-2")
_NAMESPACE: Final = "default"
_CLUSTER: Final = "sandbox"
_FLAGS: Final = (
    *("--leader-elect", f"--lease-namespace={_NAMESPACE}", f"--cluster-name={_CLUSTER}", "--missing-grace=5s"),
    *("--poll-running=10s", "--poll-pending=10s", "--poll-with-events=20s"),
)
_JOBS: Final = {_NAMESPACE: 130, "team-a": 40, "team-b": 30}
_KEPT: Final = 60
"""Objects of finished jobs; the oldest are deleted."""


def queries(panel: dict[str, Any]) -> list[list[str]]:
    """Expression and legend of each target."""
    return [[target["expr"], target["legendFormat"]] for target in panel.get("targets", [])]


def record() -> dict[str, Any]:
    """Run the scenario, then ask Prometheus what each panel shows.

    `panels`: by the panel's id its `queries`, and its `series`: name and values, one for each STEP, null for none.
    """
    program = shutil.which(os.environ.get("PROMETHEUS") or "prometheus")
    if program is None:
        raise SystemExit("prometheus is missing: apt-get install prometheus, or set PROMETHEUS to its path")
    with ExitStack() as ends:
        world = ends.enter_context(World("auto", grace=8, roles=True, events=True))
        scenario = ends.enter_context(_Scenario(world))
        prometheus = _Prometheus(program, world.directory, [replica.address for replica in scenario.replicas])
        ends.callback(prometheus.stop)
        prometheus.start()
        time.sleep(2 * _SCRAPE)
        began = time.time()
        scenario.play()
        dashboard = json.loads(DASHBOARD.read_text("utf-8"))
        panels = {
            str(panel["id"]): {"queries": queries(panel), "series": list(prometheus.series(panel, began))}
            for panel in dashboard["panels"]
            if panel["type"] != "row"
        }
    return {"length": LENGTH, "step": STEP, "panels": panels}


class _Scenario:
    """Jobs start and end all the time; besides, things happen at certain seconds."""

    def __init__(self, world: World) -> None:
        self._world, self._chance = world, random.Random(16)  # noqa: S311  no cryptography
        self._ends, self._competition = ExitStack(), ExitStack()
        self._ends.callback(self._competition.close)
        self._living: list[tuple[Cluster, str, str]] = []
        self._finished: list[tuple[Cluster, str]] = []
        self._created = 0
        flags = (*_FLAGS, f"--events-queue={world.events_queue}")
        directories = [world.directory / pod for pod in _PODS]
        for directory in directories:
            directory.mkdir()
        self.replicas = [OperatorProcess(world.environment, directory, flags) for directory in directories]
        self.events: dict[int, Callable[[], None]] = {
            60: self._terminate_many,
            95: self._create_bulk,
            125: self._approve,
            170: self._begin_competition,
            230: self._competition.close,
            255: self._kill_leader,
            265: self._restart,
            300: partial(self._suspend, suspend=True),
            340: partial(self._suspend, suspend=False),
            350: partial(world.batch.deny, "TerminateJob", account=DEFAULT_ACCOUNT),
            385: world.batch.clear_denials,
        }

    def __enter__(self) -> Self:
        world, enter = self._world, self._ends.enter_context
        self._namespaces = {_NAMESPACE: world.cluster, **create_teams(world, _CLUSTER)}
        world.batch.clear_denials()  # they concern jobs without the tag of their namespace, such as those of no team
        self._policies = enter(Policies(world.control_plane.kubeconfig))
        self._bulk = enter(Terminations(world.control_plane.kubeconfig, "team-a"))
        self._refused = enter(Terminations(world.control_plane.kubeconfig, "team-b"))
        for team, account in ACCOUNTS.items():
            spec = policy(team, world.batch.create_queue(account=account))["spec"]
            allow = ["Observe", "Terminate", *(["List"] if team == "team-a" else [])]
            self._policies.create(team, **{**spec, "allow": allow})
        for namespace, count in _JOBS.items():
            for _ in range(count):
                self._create(namespace, "RUNNING" if self._chance.random() < 0.85 else "RUNNABLE")
        world.cluster.create("mistyped", UNKNOWN_JOB)
        for replica in self.replicas:
            self._ends.callback(_stop, replica)
            replica.start()
            wait_for(lambda: self._leader() is not None, timeout=20, what="a replica is the leader")
        return self

    def __exit__(self, *_error: object) -> None:
        self._ends.close()

    def play(self) -> None:
        """One turn a second."""
        began = time.monotonic()
        for second in range(LENGTH):
            time.sleep(max(0.0, began + second - time.monotonic()))
            self.events.get(second, lambda: None)()
            self._end_one()
            self._create(self._chance.choices(list(_JOBS), list(_JOBS.values()))[0], "RUNNABLE")
            if second % 5 == 0:
                self._terminate(self._chance.randrange(len(self._living)))
            if len(self._finished) > _KEPT:
                cluster, name = self._finished.pop(0)
                cluster.delete(name)

    def _create(self, namespace: str, status: str) -> None:
        self._created += 1
        name, own = f"job-{self._created}", namespace != _NAMESPACE
        account = ACCOUNTS[namespace] if own else DEFAULT_ACCOUNT
        tags = {"team": namespace[-1], "k8s-namespace": namespace} if own else {"k8s-namespace": namespace}
        job_id = self._world.batch.seed(
            name=name, status=status, account=account, tags=tags, queue=f"{namespace}-gpu" if own else "batch"
        )
        self._namespaces[namespace].create(name, job_id)
        self._living.append((self._namespaces[namespace], name, job_id))

    def _end_one(self) -> None:
        """The oldest of ten jobs ends, and another one starts to run."""
        cluster, name, job_id = self._living.pop(self._chance.randrange(10))
        if self._world.batch.job(job_id)["status"] not in ("SUCCEEDED", "FAILED"):
            failed = self._chance.random() < 0.2
            self._world.batch.move(job_id, "FAILED" if failed else "SUCCEEDED", exit_code=int(failed))
        self._finished.append((cluster, name))
        _, _, job_id = self._living[-20]
        if self._world.batch.job(job_id)["status"] == "RUNNABLE":
            self._world.batch.move(job_id, "RUNNING")

    def _terminate(self, number: int) -> None:
        cluster, name, _ = self._living[number]
        cluster.terminate(name, REASON)

    def _terminate_many(self) -> None:
        for number in self._chance.sample(range(20, len(self._living)), 45):
            self._terminate(number)

    def _create_bulk(self) -> None:
        for team, terminations in (("team-a", self._bulk), ("team-b", self._refused)):
            queue, tags = f"{team}-gpu", {"team": team[-1], "k8s-namespace": team}
            an_hour_ago = int((time.time() - 3600) * 1000)
            job = {"status": "RUNNING", "queue": queue, "account": ACCOUNTS[team], "tags": tags}
            self._world.batch.seed_many(40, name="sweep", created_at=an_hour_ago, **job)
            select, before = (
                {"queues": [queue], "jobNames": ["sweep-*"]},
                time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            )
            spec = {"region": REGION, "select": select, "createdBefore": before, "reason": REASON, "maxJobs": 100}
            terminations.create("inc-4711", **spec)

    def _approve(self) -> None:
        self._bulk.approve("inc-4711")

    def _suspend(self, *, suspend: bool) -> None:
        """The policy of team-a, which meanwhile wants five jobs terminated."""
        self._policies.edit("team-a", suspend=suspend)
        of_team = [number for number, job in enumerate(self._living) if job[0] is self._namespaces["team-a"]]
        for number in of_team[10:15] if suspend else ():
            self._terminate(number)

    def _begin_competition(self) -> None:
        """Another client of the account uses most of its quota."""
        self._world.batch.limit(4, 4, account=DEFAULT_ACCOUNT)
        self._competition.callback(self._world.batch.limit, None, account=DEFAULT_ACCOUNT)
        self._competition.enter_context(CompetingClient(self._world.batch.url, rate=5))

    def _leader(self) -> OperatorProcess | None:
        return next((one for one in self.replicas if one.running and _is_leader(one)), None)

    def _kill_leader(self) -> None:
        if leader := self._leader():
            leader.kill9()

    def _restart(self) -> None:
        for replica in self.replicas:
            if not replica.running:
                replica.launch()


def _stop(replica: OperatorProcess) -> None:
    if replica.running:
        replica.stop()


def _is_leader(replica: OperatorProcess) -> bool:
    return any(value == 1 for _, value in replica.metrics().get("awsbatch_operator_leader", []))


class _Prometheus:
    """A Prometheus that scrapes the replicas as a ServiceMonitor of the chart has it scrape pods."""

    def __init__(self, program: str, directory: Path, addresses: list[str]) -> None:
        targets = [
            {"targets": [address], "labels": {"pod": pod, "namespace": "awsbatch-operator", "cluster": _CLUSTER}}
            for pod, address in zip(_PODS, addresses, strict=True)
        ]
        config = directory / "prometheus.json"
        job = {"job_name": "awsbatch-operator", "scrape_interval": f"{_SCRAPE}s", "static_configs": targets}
        config.write_text(json.dumps({"scrape_configs": [{**job, "scrape_timeout": f"{_SCRAPE}s"}]}), "utf-8")
        self._url = f"http://127.0.0.1:{free_port()}"
        flags = [f"--config.file={config}", f"--storage.tsdb.path={directory}/prometheus"]
        listen = f"--web.listen-address={self._url.removeprefix('http://')}"
        self._child = Child("prometheus", [program, *flags, listen], log=directory / "prometheus.log")

    def start(self) -> None:
        self._child.start()
        self._child.ready(self._answers, timeout=20)

    def stop(self) -> None:
        self._child.stop()

    def series(self, panel: dict[str, Any], began: float) -> Iterator[dict[str, Any]]:
        """What a panel shows: stats the last value, the others a value for each STEP."""
        for target in panel["targets"]:
            when = {"start": began, "end": began + LENGTH, "step": STEP}
            found = self._ask("api/v1/query_range", query=_filled(target["expr"]), **when)["result"]
            for one in found:
                values = {round((float(at) - began) / STEP): float(value) for at, value in one["values"]}
                points = [_short(values.get(number)) for number in range(LENGTH // STEP + 1)]
                name = " ".join(_legend(target["legendFormat"], one["metric"]).split())
                yield {"name": name, "values": points}

    def _answers(self) -> bool:
        with suppress(OSError), direct.open(f"{self._url}/-/ready", timeout=5) as response:
            return bool(response.status == 200)
        return False

    def _ask(self, path: str, **parameters: Any) -> Any:
        with direct.open(f"{self._url}/{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as response:
            return json.load(response)["data"]


def _filled(expression: str) -> str:
    """With the variables of the dashboard as Grafana sets them."""
    for variable in ("cluster", "namespace", "job"):
        expression = expression.replace(f'"${variable}"', '".*"')
    return expression.replace("$__rate_interval", _RATE_INTERVAL)


def _legend(template: str, labels: dict[str, str]) -> str:
    for name in (
        "account",
        "cause",
        "code",
        "operation",
        "phase",
        "pod",
        "queue",
        "reason",
        "region",
        "result",
        "role",
    ):
        template = template.replace(f"{{{{{name}}}}}", labels.get(name, ""))
    return template


def _short(value: float | None) -> float | None:
    """Four digits; None for what has no value, such as a division by 0."""
    return None if value is None or value != value else float(f"{value:.4g}")  # noqa: PLR0124  only NaN is not itself
