"""docs/guide.md: its commands print what it shows, in the sandbox that it names, and its manifests are examples."""

import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
import yaml

from awsbatch_sandbox.cluster import Cluster, kubectl_environment, kubectl_program
from awsbatch_sandbox.controlplane import Embedded
from awsbatch_sandbox.demo import GRACE
from awsbatch_sandbox.fixtures import populate
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import QUICK, World
from e2e.transcripts import run_step, steps
from integration.scenario import SOON, phase, reasons_sent

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs/guide.md").read_text("utf-8")
EXAMPLES: Final = {path.name: path.read_text("utf-8") for path in (ROOT / "examples/guide").iterdir()}


@pytest.fixture(scope="module")
def sandbox(request: pytest.FixtureRequest) -> Iterator[World]:
    """The sandbox that the page names, and the namespaces of its manifests."""
    plane = request.config.getoption("--control-plane")
    if plane == "existing":
        pytest.skip("this control plane belongs to others")
    with World(plane, grace=GRACE, flags=(*QUICK, "--on-delete=enabled"), events=True) as world:
        populate(world, 7)
        for namespace in ("team-a", "preview-123"):
            world.cluster.kubectl("create", "namespace", namespace)
        world.operator.start()
        yield world


@pytest.fixture
def shell(sandbox: World, tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that has read the file env of the sandbox."""
    (tmp_path / "kubectl").symlink_to(kubectl_program())
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    kubectl = kubectl_environment(sandbox.control_plane.kubeconfig, sandbox.cache)
    return os.environ | kubectl | {"PATH": path, "AWS_REGION": "eu-west-1", "JOB_ID": sandbox.batch.seed(name="alone")}


def apply(cluster: Cluster, example: str, **values: str) -> None:
    """Apply a manifest of the page, with other values."""
    text = EXAMPLES[example]
    for field, value in values.items():
        text, changes = re.subn(rf"(?m)^(\s*{field}): .*$", rf"\1: {value}", text)
        assert changes == 1
    cluster.kubectl("apply", "-f", "-", stdin=text)


def test_the_commands_print_what_the_page_shows(sandbox: World, shell: dict[str, str]) -> None:
    cluster, team, preview = (sandbox.cluster.within(name) for name in ("default", "team-a", "preview-123"))
    of_team = [sandbox.batch.seed(name=f"job-{queue}", queue=queue) for queue in ("team-a-cpu",) * 2 + ("team-a-gpu",)]
    apply(team, "bulk-termination.yaml", createdBefore=f'"{datetime.now(UTC) + timedelta(minutes=1):%FT%TZ}"')
    of_preview = sandbox.batch.seed(name="index")
    apply(preview, "on-delete.yaml", jobId=of_preview)
    preview.wait_for("index", phase("Running"), timeout=SOON)
    cluster.wait_for("train", phase("Running"), timeout=SOON)
    for command, printed in steps(PAGE):
        if command.startswith("kubectl delete namespace") and not isinstance(sandbox.control_plane, Embedded):
            # envtest lacks the controller that deletes the objects of a namespace.
            preview.delete_all()
        else:
            run_step(command, printed, shell)
    assert reasons_sent(sandbox, shell["JOB_ID"]) == ["INC-4711: runaway cost"]
    assert [reasons_sent(sandbox, job_id) for job_id in of_team] == [["INC-4711: runaway cost of team-a"]] * 3
    wait_for(lambda: not preview.objects(), timeout=SOON, what="the object of the preview is gone")
    assert reasons_sent(sandbox, of_preview) == ["its preview environment was deleted"]
    for one in (cluster, team, preview):
        one.close()


def test_every_manifest_is_a_document_of_an_example() -> None:
    separator = re.compile(r"^(?:#.*\n)+|---\n", flags=re.MULTILINE)
    documents = {document for example in EXAMPLES.values() for document in separator.split(example)}
    shown = re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert [yaml.safe_load(one)["kind"] for one in shown] == ["BatchJob", "BatchTermination", "BatchJob"]
    assert set(shown) <= documents


def test_the_page_links_every_example() -> None:
    assert set(re.findall(r"\(\.\./examples/guide/([^)]+)\)", PAGE)) == set(EXAMPLES)
