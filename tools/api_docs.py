"""Writes docs/api.md, the reference of the API, from the CRDs and some of their examples.

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
CRDS = ROOT / "crds"
EXAMPLES = CRDS / "examples" / "valid"
PAGE = ROOT / "docs" / "api.md"

Schema = dict[str, Any]

# A line of a description that lists one value: its name, in brackets its conditions, its meaning.
BULLET = re.compile(r"^- (?P<name>\w+)(?: \((?P<places>[^)]+)\))?: (?P<meaning>.+)$")
# Shown as code inside a sentence: paths into DescribeJobs' response and into the object, and ids.
CODE = re.compile(r"(?:\b(?:jobs|jobSummaryList)\[\]|\b(?:spec|status|metadata))(?:\.\w+)+|<id>[:#]\d")

# Fields of status that have their own chapter of the same name.
CHAPTERS = ("phase", "conditions")
# Fields of a condition whose values are in the tables before.
TABULATED = ("type", "reason")

TOP = """\
# API reference

<!-- Written by tools/api_docs.py from crds/; change the CRD, then run: python tools/api_docs.py > docs/api.md -->

[BatchJob](#batchjob): one job, for users who mirror and terminate jobs · [BatchTermination](#batchtermination): the
termination of many jobs at once, counted first · [BatchAccessPolicy](#batchaccesspolicy): which namespaces may see and
terminate which jobs, for the platform team. Needs Kubernetes 1.31 or later.

"""

HEAD = """\
# {kind}

{description}

`apiVersion: {group}/{version}`, `kind: {kind}`, {scope}. For `kubectl`: `{plural}`, short `{short}`, in the category
`{category}`. The same text is in the cluster: `kubectl explain {short}.spec`.

```yaml
{example}```
"""

USE_OF_JOBS = """
To terminate a mirrored job, set the reason:

```console
$ kubectl patch bj train-42 --type=merge -p '{"spec": {"terminate": {"reason": "INC-4711: runaway cost"}}}'
$ kubectl wait bj train-42 --for=condition=Finished --timeout=5m
```

`Finished` is True when the job has ended, however it ended; its reason and the phase say how. A wait for
`condition=Terminated` never returns if the job succeeds first, and one for `condition=Succeeded` if it fails.

Field selectors: `spec.jobId`, `status.region`, `status.phase`, `status.jobQueue`. All objects for one job, in all
namespaces: `kubectl get bj -A --field-selector spec.jobId=<id>`.
"""

USE_OF_BULK = """
Create it, look at what it counted, and approve it:

```console
$ kubectl create -f stop-run-42.yaml
$ kubectl wait bt stop-run-42 --for=jsonpath='{.status.phase}'=AwaitingApproval --timeout=5m
$ kubectl get bt stop-run-42 -o yaml
$ kubectl patch bt stop-run-42 --type=merge -p '{"spec": {"approved": true}}'
$ kubectl wait bt stop-run-42 --for=condition=Finished --timeout=10m
```

`status.matched` and `status.examples` say what an approval terminates. Jobs that end before the approval drop out, and
`spec.createdBefore` excludes jobs that are submitted later. Setting `approved` back to false, or deleting the object,
stops what was not sent.

Field selectors: `spec.approved`, `status.phase`. All that wait for an approval:
`kubectl get bt -A --field-selector status.phase=AwaitingApproval`.
"""


USE_OF_POLICIES = """
`kubectl get bap` shows in the column READY whether a policy is in force; `-o wide` adds the cause if it is not. See
[security.md](security.md#who-can-do-what) for who should be able to write and read policies.
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """`use`: the text after the head. `of`: suffix of the titles of its chapters, which must differ on one page.

    `stated` and `shown` are examples: as users write it, and with the status that `caption` introduces.
    """

    crd: str
    of: str
    use: str
    stated: str
    caption: str
    shown: str


KINDS = (
    Kind("batchjobs", "", USE_OF_JOBS, "terminate", "The status of a terminated job", "status-terminated"),
    Kind(
        "batchterminations",
        " of a bulk termination",
        USE_OF_BULK,
        "bulk",
        "The status of jobs that are counted",
        "bulk-status-awaiting-approval",
    ),
    Kind(
        "batchaccesspolicies",
        " of a policy",
        USE_OF_POLICIES,
        "policy-team",
        "The status of a policy in force",
        "policy-status-in-force",
    ),
)


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


def meaning_of(name: str, description: str, of: str) -> str:
    """The whole description in one cell, except a list of values that has its own table."""
    if name in CHAPTERS:
        return f"{prose(description)} See [{name}](#{name}{of.replace(' ', '-')})."
    if name in TABULATED:
        return prose(description)
    values = (f"`{value.name}`: {value.meaning}" for value in bullets(description))
    return " ".join([prose(description), *values])


def markdown(text: str) -> str:
    """The text escaped for a table cell, with paths and ids as code."""

    def escape(plain: str) -> str:
        return plain.replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*")

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


def fields(schema: Schema, of: str, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(path, type, meaning) of every field of an object, those of nested objects after their parent."""
    for name, child in schema["properties"].items():
        required = ", required" if name in schema.get("required", ()) else ""
        yield f"`{prefix}{name}`", type_of(child) + required, meaning_of(name, child["description"], of)
        if name in CHAPTERS:
            continue
        if "properties" in child:
            yield from fields(child, of, f"{prefix}{name}.")
        elif "properties" in child.get("items", ()):
            yield from fields(child["items"], of, f"{prefix}{name}[].")


def rules(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    """(path of the field, message) of every CEL rule of an object and of its fields."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"`{path}{rule.get('fieldPath', '')}`", markdown(rule["message"])
    for name, child in schema.get("properties", {}).items():
        yield from rules(child, f"{path}.{name}")
    for name, marks in (("items", "[]"), ("additionalProperties", ".*")):
        if name in schema:
            yield from rules(schema[name], f"{path}{marks}")


def phase_chapter(status: Schema, of: str) -> Iterator[str]:
    if (phase := status["properties"].get("phase")) is None:
        return
    yield f"## Phase{of}\n\n{prose(phase['description'])}\n\n"
    yield table(["Phase", "Meaning"], ((f"`{value.name}`", value.meaning) for value in bullets(phase["description"])))
    yield "\n"


def conditions_chapter(conditions: Schema, of: str) -> Iterator[str]:
    item = conditions["items"]["properties"]
    reasons = list(bullets(item["reason"]["description"]))
    statuses: list[str] = item["status"]["enum"]

    def row(kind: Bullet) -> Iterator[str]:
        yield f"**{kind.name}**: {kind.meaning}"
        for status in statuses:
            yield ", ".join(f"`{r.name}`" for r in reasons if (kind.name, status) in r.places) or "-"

    def places(reason: Bullet) -> str:
        return ", ".join(f"{kind}={status}" for kind, status in reason.places)

    yield f"## Conditions{of}\n\n{prose(conditions['description'])}\n\n"
    yield table(["Type", *statuses], map(row, bullets(item["type"]["description"])))
    yield f"\n### Reasons{of}\n\n"
    yield table(["Reason", "Conditions", "Meaning"], ((f"`{r.name}`", places(r), r.meaning) for r in reasons))
    yield f"\n### Fields of a condition{of}\n\n"
    yield table(["Field", "Type", "Meaning"], fields(conditions["items"], of))


def columns_chapter(columns: list[Schema], plural: str) -> Iterator[str]:
    def row(column: Schema) -> tuple[str, str, str, str]:
        wide = "`-o wide`" if column.get("priority") else "always"
        return column["name"].upper(), f"`{column['jsonPath']}`", wide, markdown(column["description"])

    yield f"## Columns of `kubectl get {plural}`\n\n"
    yield table(["Column", "From", "Shown", "Meaning"], map(row, columns))


def example(name: str) -> str:
    """An example's manifest without the comment at its head."""
    lines = (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


def head(crd: Schema, kind: Kind) -> str:
    names, version = crd["spec"]["names"], crd["spec"]["versions"][0]
    return HEAD.format(
        kind=names["kind"],
        plural=names["plural"],
        short=names["shortNames"][0],
        category=names["categories"][0],
        group=crd["spec"]["group"],
        version=version["name"],
        scope="cluster-scoped" if crd["spec"]["scope"] == "Cluster" else "namespaced",
        description=prose(version["schema"]["openAPIV3Schema"]["description"]),
        example=example(kind.stated),
    )


def part(kind: Kind) -> str:
    crd = yaml.safe_load((CRDS / f"{kind.crd}.awsbatch.dev.yaml").read_text(encoding="utf-8"))
    version, plural = crd["spec"]["versions"][0], crd["spec"]["names"]["plural"]
    spec, status = (version["schema"]["openAPIV3Schema"]["properties"][name] for name in ("spec", "status"))
    parts = [
        head(crd, kind),
        kind.use,
        f"\n## Spec{kind.of}\n\n{prose(spec['description'])}\n\n",
        table(["Field", "Type", "Meaning"], fields(spec, kind.of)),
        "\nBesides types and lengths, the API server checks these rules and returns these messages:\n\n",
        table(["Field", "Message if violated"], rules(spec, "spec")),
        f"\n## Status{kind.of}\n\n{prose(status['description'])}\n\n",
        table(["Field", "Type", "Meaning"], fields(status, kind.of)),
        f"\n{kind.caption}:\n\n```yaml\n{example(kind.shown)}```\n\n",
        *phase_chapter(status, kind.of),
        *conditions_chapter(status["properties"]["conditions"], kind.of),
        "\n",
        *columns_chapter(version["additionalPrinterColumns"], plural),
    ]
    return "".join(parts)


def page() -> str:
    return TOP + "\n".join(map(part, KINDS))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Write docs/api.md from the CRDs to standard output.")
    parser.add_argument(
        "--check", nargs="?", const=PAGE, type=Path, metavar="FILE", help="compare instead, exit 1 on a diff"
    )
    check: Path | None = parser.parse_args(arguments).check
    wanted = page()
    if check is None:
        sys.stdout.write(wanted)
        return 0
    found = check.read_text(encoding="utf-8")
    diff = difflib.unified_diff(found.splitlines(True), wanted.splitlines(True), str(check), "from the CRDs")
    sys.stderr.writelines(diff)
    if found != wanted:
        sys.stderr.write(f"{check} is out of date; run: python tools/api_docs.py > docs/api.md\n")
    return int(found != wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
