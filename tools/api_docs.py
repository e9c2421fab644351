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

TOP = """\
# API reference

<!-- Written by tools/api_docs.py from crds/; change the CRD, then run: python tools/api_docs.py > docs/api.md -->

| Kind | Use it to | Written by |
| --- | --- | --- |
| [BatchJob](#batchjob) | see and terminate one job | users |
| [BatchTermination](#batchtermination) | count many jobs, then terminate them | users |
| [BatchAccessPolicy](#batchaccesspolicy) | define which jobs a namespace may see and terminate | the platform team |

The API needs Kubernetes 1.31 or later. The API server rejects an invalid object with a message that names the field and
the remedy. `DescribeJobs`, `ListJobs` and other AWS actions in the tables name the source of a value.

"""

HEAD = """\
# {kind}

{description}

`apiVersion: {group}/{version}`, `kind: {kind}`, {scope}; in `kubectl`: `{plural}`, `{short}`, category `{category}`.
To read this text in the cluster, run `kubectl explain {short}.spec`.

```yaml
{example}```
"""

USE_OF_JOBS = """
To terminate a mirrored job, set the reason:

```console
$ kubectl patch bj train-42 --type=merge -p '{"spec": {"terminate": {"reason": "INC-4711: runaway cost"}}}'
$ kubectl wait bj train-42 --for=condition=Finished --timeout=5m
```

`Finished` becomes True when the job has finished, whatever its result. Do not wait for `condition=Terminated` or
`condition=Succeeded`: the wait does not return if the job finishes with another result.

Field selectors: `spec.jobId`, `status.region`, `status.phase`, `status.jobQueue`. To list all objects for one job, run
`kubectl get bj -A --field-selector spec.jobId=<id>`.
"""

USE_OF_BULK = """
Create it, check what it counted, and approve it:

```console
$ kubectl create -f stop-run-42.yaml
$ kubectl wait bt stop-run-42 --for=jsonpath='{.status.phase}'=AwaitingApproval --timeout=5m
$ kubectl get bt stop-run-42 -o yaml
$ kubectl patch bt stop-run-42 --type=merge -p '{"spec": {"approved": true}}'
$ kubectl wait bt stop-run-42 --for=condition=Finished --timeout=10m
```

`status.matched` and `status.examples` show what an approval terminates. See
[bulk-termination.md](bulk-termination.md) for the behaviour and its limits.

Field selectors: `spec.approved`, `status.phase`. To list all objects that wait for an approval, run
`kubectl get bt -A --field-selector status.phase=AwaitingApproval`.
"""


USE_OF_POLICIES = """
The column READY of `kubectl get bap` shows whether a policy applies; `-o wide` adds the reason. See
[security.md](security.md#who-can-do-what) for who should be able to read and write policies.
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of the API and its chapters.

    Args:
        of: Suffix of the chapter titles, which must differ on one page.
        use: Text after the head.
        stated: Name of an example without status.
        caption: Introduces the example `shown`.
        shown: Name of an example with status.
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
        "The status while it waits for the approval",
        "bulk-status-awaiting-approval",
    ),
    Kind(
        "batchaccesspolicies",
        " of a policy",
        USE_OF_POLICIES,
        "policy-team",
        "The status of a policy that applies",
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
    """Return the whole description as one cell, without a list of values that has its own table."""
    if name in CHAPTERS:
        return f"{prose(description)} See [{name}](#{name}{of.replace(' ', '-')})."
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
