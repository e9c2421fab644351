"""The answers of AWS Batch: what is decoded of them. Nothing else in a body becomes a Python object."""

from msgspec import Raw, Struct, field


class Object(Struct, rename="camel", gc=False):
    """A JSON object of AWS Batch. Each field may be missing or null."""


class LogOptions(Struct, gc=False):
    """The one option of a log configuration that is decoded: others can contain secrets."""

    group: str | None = field(name="awslogs-group", default=None)


class LogConfiguration(Object):
    log_driver: str | None = None
    options: LogOptions | None = None


class ContainerDetail(Object):
    exit_code: int | None = None
    reason: str | None = None
    log_stream_name: str | None = None
    log_configuration: LogConfiguration | None = None


class Task(Object):
    containers: list[ContainerDetail | None] | None = None


class EcsProperties(Object):
    task_properties: list[Task | None] | None = None


class EksProperties(Object):
    pod_properties: Task | None = None


class EksAttempt(Task):
    started_at: int | None = None


class Attempt(Object):
    started_at: int | None = None
    container: ContainerDetail | None = None
    task_properties: list[Task | None] | None = None


class ArrayProperties(Object):
    size: int | None = None
    index: int | None = None
    status_summary: dict[str, int | None] | None = None


class NodeProperties(Object):
    num_nodes: int | None = None


class NodeDetails(Object):
    node_index: int | None = None
    is_main_node: bool | None = None


class JobDetail(Object):
    """The decoded fields of a JobDetail: no environment, command, parameters, secrets or volumes."""

    job_id: str | None = None
    job_name: str | None = None
    job_arn: str | None = None
    job_queue: str | None = None
    job_definition: str | None = None
    status: str | None = None
    status_reason: str | None = None
    is_terminated: bool | None = None
    is_cancelled: bool | None = None
    created_at: int | None = None
    started_at: int | None = None
    stopped_at: int | None = None
    container: ContainerDetail | None = None
    ecs_properties: EcsProperties | None = None
    eks_properties: EksProperties | None = None
    attempts: list[Attempt | None] | None = None
    eks_attempts: list[EksAttempt | None] | None = None
    array_properties: ArrayProperties | None = None
    node_properties: NodeProperties | None = None
    node_details: NodeDetails | None = None
    depends_on: list[Raw] | None = None
    tags: Raw = Raw(b"null")


class DescribeJobsAnswer(Object):
    jobs: list[Raw] | None = None
    error_type: Raw = field(name="__type", default=Raw(b'""'))


class TypedDescribeJobsAnswer(Object):
    """The same where everything has the declared type."""

    jobs: list[JobDetail]
    error_type: str = field(name="__type", default="")


class ListedArray(Object):
    size: int | None = None
    index: int | None = None


class JobSummary(Object):
    """The decoded fields of a JobSummary of ListJobs."""

    job_id: str | None = None
    job_name: str | None = None
    job_arn: str | None = None
    status: str | None = None
    status_reason: str | None = None
    created_at: int | None = None
    started_at: int | None = None
    is_terminated: bool | None = None
    is_cancelled: bool | None = None
    array_properties: ListedArray | None = None


class ListJobsAnswer(Object):
    job_summary_list: list[Raw] | None = None
    next_token: Raw = Raw(b"null")
    error_type: Raw = field(name="__type", default=Raw(b'""'))


class TypedListJobsAnswer(Object):
    """The same where everything has the declared type."""

    job_summary_list: list[JobSummary]
    next_token: str | None = None
    error_type: str = field(name="__type", default="")


class JobError(Object):
    """Why TerminateJobs did not accept one job."""

    job: str | None = None
    code: str | None = None
    message: str | None = None


class TerminateJobsAnswer(Object):
    successful: list[str | None] | None = None
    errors: list[JobError | None] | None = None
