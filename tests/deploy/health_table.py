"""Writes the table of docs/gitops.md, the health of every status that an object can show; `make docs` runs it."""

from collections import defaultdict
from typing import Any, Final

from deploy.places import ROOT
from deploy.reachable import KIN, current
from deploy.readers import Flux, Object, argo_cd, kstatus

PAGE: Final = ROOT / "docs" / "gitops.md"
BEGIN: Final = "<!-- the table begins; tests/deploy/health_table.py writes it -->\n"
END: Final = "<!-- the table ends -->\n"
HEAD: Final = (
    "| Ready | Reconciling or Stalled | Succeeded | phase | kstatus, Flux | Argo CD | with `wait-for: job` |\n"
    "|---|---|---|---|---|---|---|\n"
)
WAITING: Final = {"awsbatch.dev/wait-for": "job"}
ALSO: Final = {one: f"{one} or {other}" for other, one in (KIN | {"JobCancelled": "JobTerminated"}).items()}
"""Reasons with the same health; the walk visits one of them."""


def waiting(body: Object) -> Object:
    return body | {"metadata": body["metadata"] | {"annotations": WAITING}}


def reason(body: Object, type_: str) -> str:
    """Such as `True, Observed`; for Reconciling and Stalled, type and reason."""
    for condition in body["status"].get("conditions", []):
        if condition["type"] == type_:
            word = KIN.get(condition["reason"], condition["reason"])
            return f"{type_}, {word}" if type_ in ("Reconciling", "Stalled") else f"{condition['status']}, {word}"
    return ""


def table() -> str:
    flux = Flux()
    rows: dict[tuple[str, ...], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for body in current():
        ready, at_work = reason(body, "Ready"), reason(body, "Reconciling") or reason(body, "Stalled")
        final = reason(body, "Succeeded") if ready.startswith("True") and not at_work else ""
        read = (kstatus(body), argo_cd(body)[0], f"{argo_cd(waiting(body))[0]}, {flux(waiting(body))}")
        row = rows[ready, at_work, final, *read]
        row["phase"].add(body["status"]["phase"])
    return HEAD + "".join(sorted(_line(key, row["phase"]) for key, row in rows.items()))


def _line(key: tuple[str, ...], phases: set[str]) -> str:
    ready, at_work, final, *read = key
    for word, both in ALSO.items():
        ready, at_work, final = (text.replace(word, both) for text in (ready, at_work, final))
    return f"| {' | '.join((ready, at_work, final, ', '.join(sorted(phases)), *read))} |\n"


def page_with(table_: str, page: str) -> str:
    before, rest = page.split(BEGIN)
    return before + BEGIN + table_ + END + rest.split(END)[1]


def main() -> Any:
    PAGE.write_text(page_with(table(), PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
