"""`python tools/release.py check v1.2.3`: the tag, the package and the chart are of one version; prints it.

`python tools/release.py notes v1.2.3`: prints its section of the changelog. Needs only Python.
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


def versions(root: Path) -> dict[str, str]:
    """The version in each file; empty if it has none."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package = "operator/awsbatch_operator/__init__.py"
    plugin = "operator/kubectl_awsbatch/__init__.py"
    chart = "deploy/helm/awsbatch-operator/Chart.yaml"
    return {
        "pyproject.toml: version": project["version"],
        f"{package}: __version__": _find(r'^__version__ = "(.+)"$', root / package),
        f"{plugin}: __version__": _find(r'^__version__ = "(.+)"$', root / plugin),
        f"{chart}: version": _find(r"^version: \"?([^\"\s]+)", root / chart),
        f"{chart}: appVersion": _find(r"^appVersion: \"?([^\"\s]+)", root / chart),
    }


def check(tag: str, root: Path = ROOT) -> list[str]:
    """Differences from the tag, one line each."""
    wanted = tag.removeprefix("v")
    faults = [] if re.fullmatch(r"v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", tag) else [f"{tag} is not a tag like v1.2.3"]
    faults += [f"{place} is {found!r}, not {wanted!r}" for place, found in versions(root).items() if found != wanted]
    return faults if notes(tag, root) else [*faults, f"CHANGELOG.md has no section [{wanted}] with a date"]


def notes(tag: str, root: Path = ROOT) -> str:
    """The section of the changelog, without its heading; empty if there is none with the date of the release."""
    heading = re.escape(f"## [{tag.removeprefix('v')}] - ") + r"\d{4}-\d\d-\d\d"
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^{heading}\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE)
    return found[1].strip() if found else ""


def _find(pattern: str, path: Path) -> str:
    found = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


def main(verb: str, tag: str) -> int:
    faults = check(tag)
    sys.stderr.writelines(f"{fault}\n" for fault in faults)
    if not faults:
        sys.stdout.write((tag.removeprefix("v") if verb == "check" else notes(tag)) + "\n")
    return len(faults) and 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
