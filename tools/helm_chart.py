"""Checks the chart with Helm, and writes the table of values into its README."""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import helm_python as helm
import yaml

ROOT: Final = Path(__file__).parents[1]
CHART: Final = ROOT / "deploy/helm/awsbatch-operator"

_BEGIN: Final = "<!-- made from values.schema.json and values.yaml by tools/helm_chart.py -->\n"
_END: Final = "<!-- end of it -->"
_WARNING: Final = 2
_NO_VALUES: Final = ("global", "replicaCount")
"""Names that the schema accepts although they set nothing: Helm adds the first, the templates refuse the second."""


@contextmanager
def unlinked() -> Iterator[Path]:
    """A copy of the chart without symbolic links: Helm follows them, but warns each time."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copytree(CHART, Path(folder) / CHART.name))


def leaves(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each value that has its own description, with its dotted path."""
    for name, node in schema["properties"].items():
        if name in _NO_VALUES:
            continue
        if "description" in node:
            yield f"{path}{name}", node
        else:
            yield from leaves(node, f"{path}{name}.")


def at(values: dict[str, Any], path: str) -> Any:
    """The value at a dotted path. Raises KeyError."""
    for name in path.split("."):
        values = values[name]
    return values


def table() -> str:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    rows = ["| Value | Default | Meaning |", "|---|---|---|"]
    for path, node in leaves(schema):
        rows.append(f"| `{path}` | {_default(at(values, path))} | {node['description']} |")
    return "\n".join(rows) + "\n"


def _default(value: Any) -> str:
    if value in ("", None):
        return ""
    shown = json.dumps(value) if not isinstance(value, str) else value
    return f"`{shown}`" if len(shown) <= 60 else "see [values.yaml](values.yaml)"


def readme() -> str:
    """The README with an up-to-date table."""
    head, rest = (CHART / "README.md").read_text(encoding="utf-8").split(_BEGIN)
    return f"{head}{_BEGIN}{table()}{_END}{rest.split(_END, 1)[1]}"


def faults() -> list[str]:
    """Warnings and errors of Helm's linter, and whether the table is out of date."""
    with unlinked() as folder:
        report = helm.lint(folder, {}, strict=True)
    found = [f"{one['path']}: {one['error']}" for one in report["messages"] if one["severity"] >= _WARNING]
    if readme() != (CHART / "README.md").read_text(encoding="utf-8"):
        found.append("README.md: its table is out of date; run: python tools/helm_chart.py readme")
    return [*found, *(error for error in report["errors"] if error not in found)]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Check the Helm chart, or write the table of values into its README.")
    parser.add_argument("command", choices=("lint", "readme"))
    if parser.parse_args(arguments).command == "readme":
        (CHART / "README.md").write_text(readme(), encoding="utf-8")
        return 0
    found = faults()
    sys.stderr.writelines(f"{fault}\n" for fault in found)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
