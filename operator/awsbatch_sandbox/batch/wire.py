"""A job as DescribeJobs shows it: JobDetail of the service model batch/2016-08-10, absent keys absent."""

import json
from typing import Any

from awsbatch_sandbox.batch.job_spec import ON_COMPUTE, RUNNING, STATUSES, JobSpec
from awsbatch_sandbox.batch.jobs import Attempt, Job

JSON = dict[str, Any]
CLUSTER = "sandbox"
POD_NAMESPACE = "batch-jobs"
FLAGS = ("isCancelled", "isTerminated")
INSTANCE_ID = "0123456789abcdef0"


def encode(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def rendered(job: Job) -> bytes:
    """JSON of the JobDetail, cached until the job changes: describing 100 jobs costs a join."""
    if job.rendered is None:
        job.rendered = encode(job_detail(job))
    return job.rendered


def job_detail(job: Job) -> JSON:
    seed = job.seed
    detail = _identity(job) | {
        "attempts": [_attempt(job, one) for one in job.attempts] if seed.kind != "eks" else [],
        "eksAttempts": [_eks_attempt(job, one) for one in job.attempts] if seed.kind == "eks" else [],
        "retryStrategy": {"attempts": seed.retry_attempts, "evaluateOnExit": []},
        "dependsOn": [{"jobId": one} for one in seed.depends_on],
        "parameters": dict(seed.parameters),
        "tags": job.tags,
        "propagateTags": False,
        "platformCapabilities": [seed.platform],
    }
    if seed.timeout is not None:
        detail["timeout"] = {"attemptDurationSeconds": seed.timeout}
    if seed.share_identifier is not None:
        detail["shareIdentifier"] = seed.share_identifier
    if seed.scheduling_priority is not None:
        detail["schedulingPriority"] = seed.scheduling_priority
    return detail | _state(job) | _work(job)


def _identity(job: Job) -> JSON:
    return {
        "jobArn": job.arn,
        "jobName": job.seed.name,
        "jobId": job.job_id,
        "jobQueue": queue_arn(job.seed),
        "jobDefinition": definition_arn(job.seed),
        "status": job.status,
        "createdAt": job.created_at,
    }


def queue_arn(seed: JobSpec) -> str:
    return _arn(seed, "job-queue", seed.queue)


def definition_arn(seed: JobSpec) -> str:
    """Return the ARN with a revision; without one, the latest applies, which is 1 here."""
    revision = "" if ":" in seed.definition.rpartition("/")[2] else ":1"
    return _arn(seed, "job-definition", seed.definition + revision)


def _arn(seed: JobSpec, kind: str, name: str) -> str:
    return name if name.startswith("arn:") else f"arn:aws:batch:{seed.region}:{seed.account}:{kind}/{name}"


def _state(job: Job) -> JSON:
    """The fields that change: keys that do not apply are absent, and flags that are false."""
    state: JSON = {
        "statusReason": job.status_reason,
        "startedAt": job.started_at,
        "stoppedAt": job.stopped_at,
        "isCancelled": job.is_cancelled or None,
        "isTerminated": job.is_terminated or None,
    }
    return _present(state)


def _present(keys: JSON) -> JSON:
    return {key: value for key, value in keys.items() if value is not None}


def _work(job: Job) -> JSON:
    """Return the container properties of the job, by its kind."""
    seed = job.seed
    if seed.kind == "eks":
        return {"eksProperties": _eks_properties(job)}
    if seed.kind == "ecs-multi":
        return {"container": {}, "ecsProperties": {"taskProperties": [_task(job)]}}
    if job.is_multinode:
        return {"nodeProperties": _node_properties(seed)}
    work: JSON = {"container": _container(job)}
    if seed.kind == "array":
        work["arrayProperties"] = array_properties(job)
    if seed.kind == "multinode":
        work["nodeDetails"] = {"nodeIndex": job.index, "isMainNode": job.index == seed.main_node}
    return work


def array_properties(job: Job) -> JSON:
    if job.index is not None:
        return {"statusSummary": {}, "index": job.index}
    return {
        "statusSummary": {status: job.summary[status] for status in STATUSES},
        "size": len(job.children),
        "statusSummaryLastUpdatedAt": job.summary_at,
    }


def _resources() -> list[JSON]:
    return [{"value": "1", "type": "VCPU"}, {"value": "512", "type": "MEMORY"}]


def _setup(seed: JobSpec) -> JSON:
    """The part of a container that comes from its definition; it contains data that must never be published."""
    return {
        "image": seed.image,
        "command": list(seed.command),
        "environment": [{"name": name, "value": value} for name, value in seed.environment.items()],
        "secrets": [{"name": name, "valueFrom": value} for name, value in seed.secrets.items()],
        "mountPoints": [],
        "resourceRequirements": _resources(),
    }


def _container(job: Job) -> JSON:
    setup = _setup(job.seed) | {"volumes": [], "ulimits": [], "networkInterfaces": []}
    if job.is_array:
        return setup
    return setup | _run(job) | _placement(job, job.task_id)


def _run(job: Job) -> JSON:
    started = job.status == RUNNING or job.started_at is not None
    return _present(
        {
            "exitCode": job.exit_code,
            "reason": job.container_reason,
            "logStreamName": _log_stream(job.seed, job.task_id) if started and job.task_id else None,
        }
    )


def _placement(job: Job, task_id: str) -> JSON:
    if not task_id or not (job.status in ON_COMPUTE or job.started_at is not None):
        return {}
    prefix = f"arn:aws:ecs:{job.seed.region}:{job.seed.account}"
    placement = {"taskArn": f"{prefix}:task/{CLUSTER}/{task_id}"}
    if job.seed.platform == "EC2":
        placement["containerInstanceArn"] = f"{prefix}:container-instance/{CLUSTER}/{INSTANCE_ID}"
    return placement


def _log_stream(seed: JobSpec, task_id: str) -> str:
    definition = seed.definition.rsplit("/", 1)[-1].split(":", 1)[0]
    return f"{definition}/default/{task_id}"


def _times(one: Attempt) -> JSON:
    return _present({"startedAt": one.started_at, "stoppedAt": one.stopped_at, "statusReason": one.status_reason})


def _attempt(job: Job, one: Attempt) -> JSON:
    ended = _present(
        {
            "exitCode": one.exit_code,
            "reason": one.container_reason,
            "logStreamName": _log_stream(job.seed, one.task_id) if one.started_at is not None else None,
        }
    )
    if job.seed.kind != "ecs-multi":
        container = ended | _placement(job, one.task_id) | {"networkInterfaces": []}
        return {"container": container} | _times(one)
    task = _placement(job, one.task_id) | {"containers": [{"name": "main"} | ended, {"name": "sidecar"}]}
    return {"container": {}, "taskProperties": [task]} | _times(one)


def _task(job: Job) -> JSON:
    main = _setup(job.seed) | {"name": "main", "essential": True} | _run(job)
    sidecar = {"name": "sidecar", "essential": False, "image": job.seed.image, "resourceRequirements": _resources()}
    return _placement(job, job.task_id) | {"containers": [main, sidecar], "volumes": []}


def _node_properties(seed: JobSpec) -> JSON:
    last = (seed.num_nodes or 1) - 1
    group = {"targetNodes": f"0:{last}", "container": _setup(seed)}
    return {"numNodes": seed.num_nodes, "mainNode": seed.main_node, "nodeRangeProperties": [group]}


def _eks_properties(job: Job) -> JSON:
    seed = job.seed
    container = {
        "name": "default",
        "image": seed.image,
        "command": list(seed.command),
        "env": [{"name": name, "value": value} for name, value in seed.environment.items()],
        "resources": {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "1", "memory": "512Mi"}},
    }
    container |= _present({"exitCode": job.exit_code, "reason": job.container_reason})
    pod: JSON = {"containers": [container], "metadata": {"namespace": POD_NAMESPACE}}
    return {"podProperties": pod | (_pod(job.task_id) if job.task_id else {})}


def _pod(task_id: str) -> JSON:
    return {"podName": f"aws-batch.{task_id}", "nodeName": "ip-10-0-0-1.ec2.internal"}


def _eks_attempt(job: Job, one: Attempt) -> JSON:
    ended = _present({"name": "default", "exitCode": one.exit_code, "reason": one.container_reason})
    cluster = f"arn:aws:eks:{job.seed.region}:{job.seed.account}:cluster/{CLUSTER}"
    placed = {"eksClusterArn": cluster, "podNamespace": POD_NAMESPACE} | _pod(one.task_id)
    return {"containers": [ended], "initContainers": []} | placed | _times(one)
