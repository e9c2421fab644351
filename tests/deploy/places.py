"""Where in the repository stands what these tests are about. The chart's own place is `helm_chart.CHART`."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
GITOPS: Final = DEPLOY / "gitops"
CRDS: Final = sorted((ROOT / "crds").glob("*.awsbatch.dev.yaml"))
OPERATIONS: Final = ROOT / "docs" / "operations.md"
"""The page that has the runbooks."""
