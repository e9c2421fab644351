"""Reads the Dockerfile and .dockerignore, as far as the tests ask."""

import re
import shlex
from dataclasses import dataclass

from deploy.places import ROOT


@dataclass(frozen=True)
class Instruction:
    """One of them, its continued lines joined."""

    name: str
    argument: str


def stages() -> dict[str, list[Instruction]]:
    """Stages by the name after AS; "final" is the last one, "" is the part before the first FROM."""
    found: dict[str, list[Instruction]] = {"": []}
    for instruction in _instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")):
        if instruction.name == "FROM":
            found[instruction.argument.partition(" AS ")[2] or "final"] = []
        list(found.values())[-1].append(instruction)
    return found


def arguments(stage: list[Instruction], name: str) -> list[str]:
    """Return the arguments of all instructions with that name, in order."""
    return [each.argument for each in stage if each.name == name]


def copied() -> set[str]:
    """Every path of the source tree that the image is made of: the sources of all COPYs from the build context."""
    words = [shlex.split(each) for stage in stages().values() for each in arguments(stage, "COPY")]
    return {source for sources in words if not sources[0].startswith("--from=") for source in sources[:-1]}


def what_is_dropped() -> str:
    """The shell command that takes what nobody opens out of site-packages; it runs in that folder."""
    build = stages()["build"]
    (place,) = (
        n for n, each in enumerate(build) if each.name == "WORKDIR" and each.argument.endswith("/site-packages")
    )
    assert build[place + 1].name == "RUN"
    return build[place + 1].argument


def admitted(path: str) -> bool:
    """Whether .dockerignore lets this file, relative to the root, into the build context: the last match decides."""
    ignored = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        rule = line.strip()
        if rule and not rule.startswith("#") and re.fullmatch(_pattern(rule.removeprefix("!")), path):
            ignored = rule.startswith("!")
    return ignored


def _pattern(rule: str) -> str:
    """Docker's: * stays in its folder, ** does not, and what matches a folder matches everything in it."""
    parts = re.split(r"(\*\*/|\*)", rule)
    return "".join({"**/": "(?:.*/)?", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts) + "(?:/.*)?"


def _instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [
        Instruction(name.upper(), argument.strip()) for name, _, argument in (line.partition(" ") for line in joined)
    ]
