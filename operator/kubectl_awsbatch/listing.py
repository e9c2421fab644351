"""The command `ls`."""

from __future__ import annotations

from kubectl_awsbatch import output, states
from kubectl_awsbatch.errors import OK
from kubectl_awsbatch.kubectl import JOBS, TERMINATIONS, KubectlError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from kubectl_awsbatch.kubectl import Kubectl

    Object = dict[str, Any]

_JOBS = ("NAME", "PHASE", "STATUS", "JOB", "QUEUE", "RAN", "TERMINATION", "ATTENTION", "AGE")
_TERMINATIONS = (
    "NAME",
    "PHASE",
    "APPROVED",
    "MATCHED",
    "MAX",
    "REQUESTED",
    "ENDING",
    "FAILED",
    "ATTENTION",
    "REASON",
    "AGE",
)


def ls(kubectl: Kubectl, selector: str, *, as_json: bool) -> int:
    """List BatchJobs and BatchTerminations of the namespace."""
    found = _both(kubectl, selector)
    if as_json:
        output.write_json({"apiVersion": "v1", "kind": "List", "items": found, "metadata": {}})
        return OK
    jobs = [one for one in found if one.get("kind") == "BatchJob"]
    bulk = [one for one in found if one.get("kind") == "BatchTermination"]
    now = states.now()
    if jobs:
        output.write(_table(kubectl, _JOBS, jobs, lambda one: job_row(one, now)))
    if bulk:
        output.write(
            ("\n" if jobs else "") + _table(kubectl, _TERMINATIONS, bulk, lambda one: termination_row(one, now))
        )
    if not found:
        where = (
            "any namespace" if kubectl.everywhere else f"namespace {output.clean(kubectl.cluster_context().namespace)}"
        )
        matching = f" with the labels {output.quoted(selector)}" if selector else ""
        output.note(f"No BatchJobs and no BatchTerminations in {where}{matching}.")
    return OK


def _both(kubectl: Kubectl, selector: str) -> list[Object]:
    """BatchJobs, and BatchTerminations where they are installed and the caller may list them."""
    try:
        return kubectl.get(f"{JOBS},{TERMINATIONS}", selector=selector)
    except KubectlError as error:
        if error.kind not in ("not installed", "forbidden"):
            raise
    jobs = kubectl.get(JOBS, selector=selector)
    try:
        return jobs + kubectl.get(TERMINATIONS, selector=selector)
    except KubectlError as error:
        output.note(f"BatchTerminations are not shown: {error.message}")
        return jobs


def _table(kubectl: Kubectl, header: tuple[str, ...], bodies: list[Object], row: Any) -> str:
    if not kubectl.everywhere:
        return output.table(header, (row(one) for one in bodies))
    return output.table(("NAMESPACE", *header), ((states.key(one)[0], *row(one)) for one in bodies))


def job_row(body: Object, now: datetime) -> tuple[object, ...]:
    shown = states.status(body)
    ran = states.seconds_between(shown.get("startedAt"), shown.get("stoppedAt"), now)
    return (
        states.key(body)[1],
        shown.get("phase", ""),
        shown.get("jobStatus", ""),
        shown.get("jobName", ""),
        states.queue(body),
        "" if ran is None else output.duration(ran),
        states.termination(body),
        states.attention(body),
        _age(body, now),
    )


def termination_row(body: Object, now: datetime) -> tuple[object, ...]:
    shown, spec = states.status(body), body["spec"]
    return (
        states.key(body)[1],
        shown.get("phase", ""),
        "true" if spec.get("approved") else "false",
        *(part.get(name, "") for part, name in ((shown, "matched"), (spec, "maxJobs"))),
        *(shown.get(name, "") for name in ("requested", "ending", "failed")),
        states.attention(body),
        spec.get("reason", ""),
        _age(body, now),
    )


def _age(body: Object, now: datetime) -> str:
    age = states.seconds_between(body["metadata"].get("creationTimestamp"), None, now)
    return "" if age is None else output.duration(age)
