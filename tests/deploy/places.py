"""Paths of the tested files. The path of the chart is `helm_chart.CHART`."""

from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
GITOPS: Final = DEPLOY / "gitops"
EXAMPLES: Final = ROOT / "examples"
CRDS: Final = sorted((ROOT / "crds").glob("*.awsbatch.dev.yaml"))
OPERATIONS: Final = ROOT / "docs" / "operations.md"
TROUBLESHOOTING: Final = ROOT / "docs" / "troubleshooting.md"
"""The page that has the runbooks."""


def bulk_termination(name: str, *, approved: bool = False) -> dict[str, Any]:
    """The manifest of the example of a BatchTermination, under this name."""
    body = yaml.safe_load((ROOT / "crds/examples/valid/bulk.yaml").read_text("utf-8"))
    return {**body, "metadata": {"name": name}, "spec": {**body["spec"], "approved": approved}}
