"""The chart, as Helm reads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import helm_python as helm
import yaml

Body = dict[str, Any]
CHART: Final = Path(__file__).parents[2] / "deploy/helm/awsbatch-operator"
RELEASE: Final = "awsbatch-operator"
"""Name of the release, of its namespace, and of most of what it makes."""


def rendered(values: Mapping[str, Any]) -> list[Body]:
    """The objects of the release, without the CRD."""
    with helm.Chart.load(CHART) as chart:
        manifests = chart.render(dict(values), name=RELEASE, namespace=RELEASE)
    texts = [text for path, text in manifests.items() if path.endswith(".yaml")]
    return [body for text in texts for body in yaml.safe_load_all(text) if body]


def flags(objects: list[Body]) -> list[str]:
    """Those that the Deployment runs the operator with, for a process outside of the cluster."""
    [deployment] = [body for body in objects if body["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    command, *given = container["args"]
    assert command == "run"
    # Outside there is no pod whose namespace the Lease would be in.
    return [*(flag for flag in given if not flag.startswith("--http-address")), f"--lease-namespace={RELEASE}"]
