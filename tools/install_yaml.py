"""Writes deploy/install.yaml: the chart with its default values, for installations without Helm."""

import argparse
import difflib
import re
import sys
from pathlib import Path
from typing import Final

import helm_python as helm
import yaml
from helm_chart import CHART, ROOT, unlinked

INSTALL: Final = ROOT / "deploy/install.yaml"
NAME: Final = "awsbatch-operator"

_HEAD: Final = """\
# Generated from deploy/helm/awsbatch-operator with its default values by tools/install_yaml.py: don't edit.
# It creates the namespace awsbatch-operator, the custom resource definitions and all objects of the chart:
#   kubectl apply --server-side -f install.yaml
# To set a region, an AWS role or other values, use an overlay as in deploy/kustomization.yaml.
"""
_NAMESPACE: Final = f"""\
apiVersion: v1
kind: Namespace
metadata:
  name: {NAME}
  labels:
    app.kubernetes.io/name: {NAME}
    pod-security.kubernetes.io/enforce: restricted
"""
_ORDER: Final = (
    # Before the right that it limits.
    *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
    *("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
    *("Service", "PodDisruptionBudget", "Deployment"),
)
_HELMS_OWN: Final = re.compile(r"^ +(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", re.MULTILINE)
"""Labels of objects that Helm manages, which does not apply here."""


def install_yaml() -> str:
    with unlinked() as folder, helm.Chart.load(folder) as chart:
        rendered = chart.render(name=NAME, namespace=NAME)
    files = [text for path, text in sorted(rendered.items()) if path.endswith(".yaml")]
    documents = [one.strip("\n") + "\n" for text in files for one in re.split(r"^---$", text, flags=re.MULTILINE)]
    objects = sorted(filter(yaml.safe_load, documents), key=_rank)
    crds = [path.read_text(encoding="utf-8") for path in sorted((CHART / "crds").iterdir())]
    return "---\n".join((_HEAD, _NAMESPACE, *crds, *(_HELMS_OWN.sub("", one) for one in objects)))


def _rank(document: str) -> int:
    return _ORDER.index(yaml.safe_load(document)["kind"])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Write deploy/install.yaml from the chart to standard output.")
    parser.add_argument(
        "--check", nargs="?", const=INSTALL, type=Path, metavar="FILE", help="compare instead, exit 1 on a diff"
    )
    check: Path | None = parser.parse_args(arguments).check
    wanted = install_yaml()
    if check is None:
        sys.stdout.write(wanted)
        return 0
    found = check.read_text(encoding="utf-8")
    diff = difflib.unified_diff(found.splitlines(True), wanted.splitlines(True), str(check), "from the chart")
    sys.stderr.writelines(diff)
    if found != wanted:
        sys.stderr.write(f"{check} is out of date; run: python tools/install_yaml.py > deploy/install.yaml\n")
    return int(found != wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
