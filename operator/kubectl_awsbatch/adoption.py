"""`adopt`: the BatchJob of a job that has none, and its name."""

from __future__ import annotations

from kubectl_awsbatch import output
from kubectl_awsbatch.errors import OK, CommandError, UsageError
from kubectl_awsbatch.kubectl import API_VERSION, JOBS, KubectlError
from kubectl_awsbatch.output import quoted
from kubectl_awsbatch.states import key, phase_text, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kubectl_awsbatch.kubectl import Kubectl

    Object = dict[str, Any]


DRY_RUN = "; dry run: the API server checks the changes but does not make them"
_LIKE_AN_ID = "ids such as 91e42a4e-9a62-4bb7-a5aa-55a305b9462f"


def check_id(job_id: str) -> str:
    """Return the id; warn if it could be the name of a job. Raises UsageError if it can be no id."""
    import re

    if re.fullmatch(r"[A-Za-z0-9_-]{1,128}(:\d{1,5}|#\d{1,5})?", job_id):
        if not re.match(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![\w-])", job_id):
            output.note(f"warning: {quoted(job_id)} does not look like a job id: SubmitJob returns {_LIKE_AN_ID}")
        return job_id
    arn = re.fullmatch(r"arn:[\w-]+:batch:([\w-]+):\d*:job/([A-Za-z0-9_:#-]+)", job_id)
    remedy = f"Use {arn[2]} and --region {arn[1]}." if arn else (
        "Use the id that SubmitJob returned; child 3 of an array job is <id>:3, node 1 of a multi-node job "
        "is <id>#1."
    )  # fmt: skip
    raise UsageError(f"{quoted(job_id)} is not a job id", remedy)


def name_for(job_id: str) -> str:
    """A name for the object of a job: the id itself, but for its tail. Different ids have different names."""
    import re

    base, mark, index = re.fullmatch(r"([^:#]*)([:#]?)(\d*)", job_id).groups()  # type: ignore[union-attr]
    tail = {":": f".child-{index}", "#": f".node-{index}", "": ""}[mark]
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", base):
        import hashlib

        plain = re.sub(r"[^a-z0-9]+", "-", base.lower()).strip("-")
        base = f"job-{plain}-".replace("--", "-") + hashlib.sha256(base.encode()).hexdigest()[:8]
    return base + tail


def find_id(kubectl: Kubectl, job_id: str, region: str | None) -> list[Object]:
    """The BatchJobs of the namespace that name the job, those that are not being deleted and the oldest first."""
    found = kubectl.get(JOBS, fields=f"spec.jobId={job_id}")
    if region:
        found = [one for one in found if (one["spec"].get("region") or status(one).get("region") or region) == region]
    regions = {one["spec"].get("region") or status(one).get("region") or "" for one in found}
    if len(regions) > 1:
        names = ", ".join(key(one)[1] for one in found)
        raise CommandError(f"the BatchJobs {names} name this id in different regions", "Give --region.")
    return sorted(found, key=lambda one: (bool(one["metadata"].get("deletionTimestamp")), _age(one)))


def _age(body: Object) -> tuple[str, str]:
    return str(body["metadata"].get("creationTimestamp")), key(body)[1]


def adoption(job_id: str, region: str | None, name: str, reason: str | None = None) -> Object:
    """The BatchJob of a job that has none, with the termination if a reason is given."""
    spec: Object = {"jobId": job_id}
    spec |= {"region": region} if region else {}
    spec |= {"terminate": {"reason": reason}} if reason is not None else {}
    return {"apiVersion": API_VERSION, "kind": "BatchJob", "metadata": {"name": name}, "spec": spec}


def create(kubectl: Kubectl, body: Object, *, dry_run: bool) -> tuple[Object, bool]:
    """The object, and whether it is new: another writer may have adopted the job meanwhile."""
    try:
        return kubectl.create(body, dry_run=dry_run), True
    except KubectlError as error:
        if error.kind != "exists":
            raise
    name, spec = body["metadata"]["name"], body["spec"]
    found = kubectl.get(JOBS, [name])
    if found and found[0]["spec"]["jobId"] == spec["jobId"] and found[0]["spec"].get("region") == spec.get("region"):
        return found[0], False
    raise CommandError(
        f"the name {name} is taken by a BatchJob of another job or region",
        f"Adopt it with another name: kubectl awsbatch adopt '{spec['jobId']}' --name NAME",
    )


def adopt(kubectl: Kubectl, job_id: str, name: str | None, region: str | None, *, dry_run: bool) -> int:
    """The command `adopt`. A job that a BatchJob of the namespace names already is reported, not adopted again."""
    output.note(f"{kubectl.cluster_context()}{DRY_RUN if dry_run else ''}")
    if found := find_id(kubectl, job_id, region):
        body, is_new = found[0], False
    else:
        body, is_new = create(kubectl, adoption(job_id, region, name or name_for(job_id)), dry_run=dry_run)
    made = "would be created" if dry_run else "created"
    outcome = f"{made} for job {job_id}" if is_new else f"exists already for job {job_id}; {phase_text(body)}"
    output.write(f"batchjob/{key(body)[1]}: {outcome}\n")
    return OK
