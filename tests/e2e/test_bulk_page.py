"""docs/bulk-termination.md: its commands print its transcript, and its tables have every phase and reason."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from awsbatch_operator.api.batchtermination import BulkPhase
from awsbatch_operator.api.conditions import Reason
from awsbatch_sandbox.cluster import Cluster, kubectl_environment, kubectl_program
from awsbatch_sandbox.world import World
from e2e.transcripts import run_step, steps
from integration.scenario import SOON, phase

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs/bulk-termination.md").read_text("utf-8")
CRD: Final = (ROOT / "crds/batchterminations.awsbatch.dev.yaml").read_text("utf-8")
(POLICY,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def shell(world: World, cluster: Cluster, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a shell in the namespace, to which the policy of the page applies."""
    policy = POLICY.replace("name: bulk", f"name: {cluster.namespace}")
    policy = policy.replace("metadata.name: default", f"metadata.name: {cluster.namespace}")
    cluster.kubectl("apply", "-f", "-", stdin=policy)
    config = yaml.safe_load(world.control_plane.kubeconfig.read_text("utf-8"))
    for context in config["contexts"]:
        context["context"]["namespace"] = cluster.namespace
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config), "utf-8")
    kubeconfig.chmod(0o600)
    (tmp_path / "kubectl").symlink_to(kubectl_program())
    environment = os.environ | kubectl_environment(kubeconfig, world.cache)
    yield environment | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    cluster.kubectl("delete", "bt", "--all")
    cluster.kubectl("delete", "bap", cluster.namespace)


@pytest.mark.usefixtures("operator")
def test_the_commands_print_the_transcript(world: World, cluster: Cluster, shell: dict[str, str]) -> None:
    old = {"queue": "batch", "created_at": int(time.time() * 1000) - 3_600_000}
    for suffix in ("", *(f"-{number}" for number in range(2, 10))):
        cluster.create(f"train{suffix}", world.batch.seed(name=f"train{suffix}", **old))
        world.batch.seed(name=f"sweep{suffix}", children=["RUNNING"] * 4, **old)
    world.batch.seed(name="render", **old)
    cluster.wait_for("train-2", phase("Running"), timeout=SOON)

    for command, printed in steps(PAGE):
        run_step(command, printed, shell)


def first_column(heading: str) -> set[str]:
    table = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.+?) \|", table, re.MULTILINE))))


def test_each_phase_has_a_row() -> None:
    assert first_column("What it shows") == set(BulkPhase)


def test_each_reason_of_a_refusal_has_a_row() -> None:
    stalled = set(re.findall(r"- (\w+) \(Stalled=True", CRD))
    assert "TooManyJobs" in stalled
    assert first_column("When it is refused") == stalled | {Reason.TERMINATION_REJECTED}
