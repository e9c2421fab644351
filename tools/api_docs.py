"""Writes docs/api.md, the reference of the API, from the CRD and two of its examples.

``python tools/api_docs.py > docs/api.md`` writes it; ``python tools/api_docs.py --check`` fails when it is out of date.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CRD = ROOT / "crds" / "batchjobs.awsbatch.dev.yaml"
EXAMPLES = ROOT / "crds" / "examples" / "valid"
PAGE = ROOT / "docs" / "api.md"

Schema = dict[str, Any]

# A line of a description that lists one value: its name, in brackets the conditions it stands on, its meaning.
BULLET = re.compile(r"^- (?P<name>\w+)(?: \((?P<places>[^)]+)\))?: (?P<meaning>.+)$")
# What reads better as code inside a sentence: paths into DescribeJobs' answer and into the object, and ids.
CODE = re.compile(r"(?:\bjobs\[\]|\b(?:spec|status|metadata))(?:\.\w+)+|<id>[:#]\d")

# Fields of status that have a chapter of their own, of the same name.
CHAPTERS = ("phase", "conditions")

HEAD = """\
# API reference: {kind}

<!-- Written by tools/api_docs.py from crds/; change the CRD, then run: python tools/api_docs.py > docs/api.md -->

{description}

`apiVersion: {group}/{version}`, `kind: {kind}`, {scope}. For `kubectl`: `{plural}`, short `{short}`, in the category
`{category}`. Needs Kubernetes 1.31 or later. The same text is in the cluster: `kubectl explain {short}.spec`.

```yaml
{example}```

To end a job that is being mirrored, state why:

```console
$ kubectl patch {short} train-42 --type=merge -p '{{"spec": {{"terminate": {{"reason": "INC-4711: runaway cost"}}}}}}'
$ kubectl wait {short} train-42 --for=condition=Terminated --timeout=5m
```

All objects on one job, in all namespaces: `kubectl get {short} -A --field-selector spec.jobId=<id>`.
"""


@dataclass(frozen=True, slots=True)
class Bullet:
    """One named value of a field, as its description lists it; ``places`` are pairs such as ("Ready", "True")."""

    name: str
    places: tuple[tuple[str, str], ...]
    meaning: str


def prose(description: str) -> str:
    """The sentences of a description, without its list of values, as one line of Markdown."""
    text = " ".join(line for line in description.splitlines() if not BULLET.match(line))
    return markdown(text)


def markdown(text: str) -> str:
    """Text as it may stand in a table cell, with paths and ids set as code."""

    def escape(plain: str) -> str:
        return plain.replace("<", "&lt;").replace("|", "\\|")

    out, end = "", 0
    for match in CODE.finditer(text):
        out += escape(text[end : match.start()]) + f"`{match.group()}`"
        end = match.end()
    return out + escape(text[end:])


def bullets(description: str) -> Iterator[Bullet]:
    for match in filter(None, map(BULLET.match, description.splitlines())):
        places = tuple(tuple(place.split("=")) for place in (match["places"] or "").split(", ") if place)
        meaning = match["meaning"][0].upper() + match["meaning"][1:]
        yield Bullet(match["name"], tuple((kind, status) for kind, status in places), markdown(meaning))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *map(list, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def type_of(schema: Schema) -> str:
    if schema.get("format") == "date-time":
        return "time"
    if schema["type"] == "array":
        return f"list of {type_of(schema['items'])}s"
    if "additionalProperties" in schema:
        return f"map of {type_of(schema['additionalProperties'])}s"
    return str(schema["type"])


def fields(schema: Schema, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(path, type, meaning) of every field of an object, those of nested objects after their parent."""
    for name, child in schema["properties"].items():
        required = ", required" if name in schema.get("required", ()) else ""
        meaning = prose(child["description"])
        if name in CHAPTERS:
            meaning += f" See [{name}](#{name})."
        yield f"`{prefix}{name}`", type_of(child) + required, meaning
        if "properties" in child:
            yield from fields(child, f"{prefix}{name}.")


def rules(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    """(path of the field, message) of every CEL rule of an object and what it holds."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"`{path}{rule.get('fieldPath', '')}`", markdown(rule["message"])
    for name, child in schema.get("properties", {}).items():
        yield from rules(child, f"{path}.{name}")


def phase_chapter(phase: Schema) -> Iterator[str]:
    yield f"## Phase\n\n{prose(phase['description'])}\n\n"
    yield table(["Phase", "Meaning"], ((f"`{value.name}`", value.meaning) for value in bullets(phase["description"])))


def conditions_chapter(conditions: Schema) -> Iterator[str]:
    item = conditions["items"]["properties"]
    reasons = list(bullets(item["reason"]["description"]))
    statuses: list[str] = item["status"]["enum"]

    def row(kind: Bullet) -> Iterator[str]:
        yield f"**{kind.name}**: {kind.meaning}"
        for status in statuses:
            yield ", ".join(f"`{r.name}`" for r in reasons if (kind.name, status) in r.places) or "-"

    def places(reason: Bullet) -> str:
        return ", ".join(f"{kind}={status}" for kind, status in reason.places)

    yield f"## Conditions\n\n{prose(conditions['description'])}\n\n"
    yield table(["Type", *statuses], map(row, bullets(item["type"]["description"])))
    yield "\n### Reasons\n\n"
    yield table(["Reason", "Stands on", "Meaning"], ((f"`{r.name}`", places(r), r.meaning) for r in reasons))
    yield "\n### Fields of a condition\n\n"
    yield table(["Field", "Type", "Meaning"], fields(conditions["items"]))


def columns_chapter(columns: list[Schema]) -> Iterator[str]:
    def row(column: Schema) -> tuple[str, str, str, str]:
        wide = "`-o wide`" if column.get("priority") else "always"
        return column["name"].upper(), f"`{column['jsonPath']}`", wide, markdown(column["description"])

    yield "## Columns of `kubectl get`\n\n"
    yield table(["Column", "From", "Shown", "Meaning"], map(row, columns))


def example(name: str) -> str:
    """An example's manifest without the comment at its head."""
    lines = (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


def head(crd: Schema) -> str:
    names, version = crd["spec"]["names"], crd["spec"]["versions"][0]
    return HEAD.format(
        kind=names["kind"],
        plural=names["plural"],
        short=names["shortNames"][0],
        category=names["categories"][0],
        group=crd["spec"]["group"],
        version=version["name"],
        scope=crd["spec"]["scope"].lower(),
        description=prose(version["schema"]["openAPIV3Schema"]["description"]),
        example=example("terminate"),
    )


def page(crd: Schema) -> str:
    version = crd["spec"]["versions"][0]
    spec, status = (version["schema"]["openAPIV3Schema"]["properties"][name] for name in ("spec", "status"))
    parts = [
        head(crd),
        f"\n## Spec\n\n{prose(spec['description'])}\n\n",
        table(["Field", "Type", "Meaning"], fields(spec)),
        "\nBeyond types and lengths the API server itself checks these rules, and answers with these words:\n\n",
        table(["Field", "Answer when it does not hold"], rules(spec, "spec")),
        f"\n## Status\n\n{prose(status['description'])}\n\n",
        table(["Field", "Type", "Meaning"], fields(status)),
        f"\nOf a job that was terminated it reads:\n\n```yaml\n{example('status-terminated')}```\n\n",
        *phase_chapter(status["properties"]["phase"]),
        "\n",
        *conditions_chapter(status["properties"]["conditions"]),
        "\n",
        *columns_chapter(version["additionalPrinterColumns"]),
    ]
    return "".join(parts)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Write docs/api.md from the CRD to standard output.")
    parser.add_argument(
        "--check", nargs="?", const=PAGE, type=Path, metavar="FILE", help="compare instead, exit 1 on a diff"
    )
    check: Path | None = parser.parse_args(arguments).check
    wanted = page(yaml.safe_load(CRD.read_text(encoding="utf-8")))
    if check is None:
        sys.stdout.write(wanted)
        return 0
    found = check.read_text(encoding="utf-8")
    diff = difflib.unified_diff(found.splitlines(True), wanted.splitlines(True), str(check), "as the CRD says")
    sys.stderr.writelines(diff)
    if found != wanted:
        sys.stderr.write(f"{check} is out of date; run: python tools/api_docs.py > docs/api.md\n")
    return int(found != wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
