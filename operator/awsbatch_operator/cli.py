"""The command line."""

import atexit
import gc
import importlib
import os
import platform
import signal
import sys
from importlib import metadata
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from awsbatch_operator import __version__

if TYPE_CHECKING:
    from awsbatch_operator.config import Settings

_EXTRA: Final = "pip install '.[sandbox]' in a clone of the repository"
_FORWARD_ARGUMENTS: Final[dict[str, Any]] = {
    "context_settings": {"ignore_unknown_options": True},
    "add_help_option": False,
}


@click.group(name="awsbatch-operator", context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Mirrors AWS Batch jobs into Kubernetes objects and terminates them on request."""


# Every option is a string here: config.py validates flags and variables together and reports all faults at once.
@main.command(
    short_help="Run the operator on a cluster.",
    epilog="Every flag can be set by an environment variable: AWSBATCH_OPERATOR_POLL_RUNNING sets "
    "--poll-running. A flag overrides its variable. Write TIME as 500ms, 30s, 2m or 1h. AWS "
    "credentials come from the standard AWS variables and profiles.",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.option("-n", "--namespace", multiple=True, metavar="NS", help="Namespace to watch; repeatable. [default: all]")
@click.option(
    "--kubeconfig",
    metavar="FILE",
    help="Kubeconfig of the cluster. [default: KUBECONFIG, else the pod's service account, else ~/.kube/config]",
)
@click.option("--context", metavar="NAME", help="Context of the kubeconfig. [default: its current context]")
@click.option(
    "--region",
    metavar="R",
    help="AWS region of objects without spec.region. [default: AWS_REGION or the region of the AWS profile]",
)
@click.option(
    "--allow-region",
    multiple=True,
    metavar="R",
    help="AWS region that botocore does not list; repeatable. [default: none]",
)
@click.option(
    "--access-policy",
    metavar="MODE",
    help="optional: without a BatchAccessPolicy, a namespace uses the operator's own credentials. required: "
    "without a BatchAccessPolicy, a namespace can use no job. disabled: the operator does not read "
    "BatchAccessPolicies and needs no cluster-wide permission. [default: optional]",
)
@click.option(
    "--cluster-name", metavar="N", help="Name of the cluster in ExternalIds and session tags. [default: kubernetes]"
)
@click.option("--http-address", metavar="HOST:PORT", help="Address of the probes and metrics. [default: 0.0.0.0:8080]")
@click.option(
    "--leader-elect/--no-leader-elect",
    default=None,
    help="Work only while holding a Lease. If neither flag is set outside a cluster, the operator does not "
    "start while another operator holds a Lease. [default: on inside a cluster]",
)
@click.option("--lease-name", metavar="N", help="Name of that Lease. [default: awsbatch-operator]")
@click.option("--lease-namespace", metavar="NS", help="Namespace of that Lease. [default: that of the pod]")
@click.option("--poll-running", metavar="TIME", help="Interval between two polls of a running job. [default: 30s]")
@click.option("--poll-pending", metavar="TIME", help="Interval between two polls of a pending job. [default: 60s]")
@click.option(
    "--missing-grace",
    metavar="TIME",
    help="Time after which a job that AWS Batch does not know becomes Missing; a restart resets it. [default: 2m]",
)
@click.option(
    "--resend-after", metavar="TIME", help="Time after which a termination without effect is sent again. [default: 60s]"
)
@click.option(
    "--describe-rate",
    metavar="RATE",
    help="Highest rate of DescribeJobs requests per second for each account and region. [default: 5]",
)
@click.option(
    "--terminate-rate",
    metavar="RATE",
    help="Highest rate of terminations per second for each account and region. [default: 40]",
)
@click.option(
    "--on-delete",
    metavar="MODE",
    help="enabled: deleting a BatchJob with spec.onDelete terminates its job; the operator then needs "
    "permission to patch batchjobs and to get their CRD. disabled: deleting a BatchJob does not affect "
    "the job. [default: disabled]",
)
@click.option(
    "--on-delete-timeout",
    metavar="TIME",
    help="Time after which the operator releases a deleted BatchJob even if it could not terminate the job. "
    "[default: 1h]",
)
@click.option(
    "--unattended-limit",
    metavar="N",
    help="Highest number of terminations by deadlines and deletions in 10 minutes for each account, region "
    "and role; a fifth of it for each namespace. [default: 500]",
)
@click.option(
    "--events-queue",
    multiple=True,
    metavar="URL",
    help="SQS queue that receives the AWS Batch events of its account and region; repeatable. [default: none]",
)
@click.option(
    "--poll-with-events",
    metavar="TIME",
    help="Interval between two polls of a job while events arrive for its account and region. [default: 5m]",
)
@click.option(
    "--list-polls/--no-list-polls",
    default=None,
    help="Poll with ListJobs where it needs fewer requests than DescribeJobs. [default: on]",
)
@click.option(
    "--metrics-role-label/--no-metrics-role-label",
    default=None,
    help="Label metrics with the role of the policy. If off, the roles of an account share their time "
    "series. [default: on]",
)
@click.option("--log-format", metavar="FORMAT", help="Log format: json or console. [default: json]")
@click.option(
    "--log-level", metavar="LEVEL", help="Lowest level of log lines: debug, info, warning or error. [default: info]"
)
@click.pass_context
def run(ctx: click.Context, /, **flags: Any) -> NoReturn:
    """Run the operator on the cluster of --kubeconfig or KUBECONFIG, else on the one that it is in."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Until the operator handles them itself: the kernel discards signals without a handler to process 1.
        signal.signal(number, _end_at_once)
    gc.disable()  # the imports leave no garbage, and searching for it takes a tenth of their time
    from awsbatch_operator import config  # noqa: PLC0415 (half a second that --help and the sandbox do not need)

    try:
        settings = config.load(flags, [argument for argument in ctx.args if argument.startswith("-")] or ctx.args)
    except config.SettingsError as error:
        click.echo(f"awsbatch-operator: {error}", err=True)
        sys.exit(2)
    _end(_run(settings))


@main.command(short_help="Remove the operator's finalizer from all BatchJobs.")
@click.option("-n", "--namespace", multiple=True, metavar="NS", help="Namespace; repeatable. [default: all]")
@click.option("--kubeconfig", metavar="FILE", help="Kubeconfig of the cluster. [default: as for run]")
@click.option("--context", metavar="NAME", help="Context of the kubeconfig. [default: its current context]")
@click.option("--force", is_flag=True, help="Do not check whether an operator holds its Lease.")
@click.option(
    "--scale-down",
    metavar="DEPLOYMENT",
    help="First scale this Deployment of the operator to 0 and wait, up to 4 minutes, until its Lease is free.",
)
@click.option("--lease-name", metavar="N", default="awsbatch-operator", show_default=True, help="Name of that Lease.")
@click.option(
    "--lease-namespace", metavar="NS", help="Namespace of the Deployment and its Lease. [default: as for run]"
)
def release_finalizers(
    *,
    namespace: tuple[str, ...],
    kubeconfig: str | None,
    context: str | None,
    force: bool,
    scale_down: str | None,
    lease_name: str,
    lease_namespace: str | None,
) -> None:
    """Remove the finalizer of spec.onDelete from all BatchJobs, before an uninstallation. No job is terminated."""
    import asyncio  # noqa: PLC0415 (as above)

    from awsbatch_operator.kube import release_finalizers as releasing  # noqa: PLC0415 (as above)
    from awsbatch_operator.kube.client import ApiError  # noqa: PLC0415 (as above)
    from awsbatch_operator.kube.credentials import Login, NoClusterError  # noqa: PLC0415 (as above)
    from awsbatch_operator.kube.stop_operator import NotStoppedError, stop_with_login  # noqa: PLC0415 (as above)

    try:
        login = Login(kubeconfig, context)
        if scale_down is not None:
            where = lease_namespace or login.namespace
            asyncio.run(stop_with_login(login, where, scale_down, lease_name))
        result = asyncio.run(releasing.release_all(login, namespace, force=force or scale_down is not None))
    except (NoClusterError, NotStoppedError, releasing.OperatorActsError) as error:
        click.echo(f"awsbatch-operator: {error}", err=True)
        sys.exit(2)
    except ApiError as error:
        click.echo(f"awsbatch-operator: cannot list BatchJobs: {error.message}", err=True)
        sys.exit(1)
    click.echo(f"{result.released} finalizers removed; {result.objects} BatchJobs in the last list")
    for name, why in result.kept.items():
        click.echo(f"awsbatch-operator: {name} keeps its finalizer: {why}", err=True)
    sys.exit(1 if result.kept else 0)


@main.command(short_help="Serve a Kubernetes API, an AWS Batch and the operator.", **_FORWARD_ARGUMENTS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def sandbox(ctx: click.Context, arguments: tuple[str, ...]) -> Any:
    """Serve a Kubernetes API, a simulated AWS Batch and the operator on this machine."""
    return _run_sandbox_command(ctx, "sandbox", arguments)


@main.command(short_help="Show how kubectl patch terminates a job.", **_FORWARD_ARGUMENTS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def demo(ctx: click.Context, arguments: tuple[str, ...]) -> Any:
    """Show in a sandbox how kubectl patch terminates a running Batch job."""
    return _run_sandbox_command(ctx, "demo", arguments)


@main.command(short_help="Show two teams, each with its own AWS account.", **_FORWARD_ARGUMENTS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def demo_teams(ctx: click.Context, arguments: tuple[str, ...]) -> Any:
    """Show two teams, each with its own AWS account: one names a job of the other and is denied."""
    return _run_sandbox_command(ctx, "demo-teams", arguments)


@main.command(short_help="Show how one approval terminates 200 jobs.", **_FORWARD_ARGUMENTS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def demo_bulk(ctx: click.Context, arguments: tuple[str, ...]) -> Any:
    """Show in a sandbox how a BatchTermination counts 200 of 300 jobs and, once approved, terminates them."""
    return _run_sandbox_command(ctx, "demo-bulk", arguments)


@main.command(short_help="Print versions.")
def version() -> None:
    """Print the versions of the operator, its main dependencies and Python."""
    click.echo(f"awsbatch-operator {__version__}")
    for package in ("kopf", "boto3"):
        click.echo(f"{package} {metadata.version(package)}")
    click.echo(f"python {platform.python_version()}")


def _run_sandbox_command(ctx: click.Context, name: str, arguments: tuple[str, ...]) -> Any:
    try:
        command: click.Command = getattr(importlib.import_module("awsbatch_sandbox.cli"), name.replace("-", "_"))
    except ImportError as error:
        raise click.ClickException(f"{name} needs the extra 'sandbox' ({error}): {_EXTRA}") from error
    with command.make_context(name, list(arguments), parent=ctx.parent) as inner:
        return command.invoke(inner)


def _end_at_once(_signum: int, _frame: FrameType | None) -> NoReturn:
    _end(0)


def _end(code: int) -> NoReturn:
    """End the process. A normal exit would wait for threads, which may hang in a call."""
    # Libraries tidy up here, and exec plugins are killed; there is no public way without joining the threads.
    atexit._run_exitfuncs()  # noqa: SLF001
    os._exit(code)


def _run(settings: "Settings") -> int:
    from awsbatch_operator import manager  # noqa: PLC0415 (as above)
    from awsbatch_operator.observability import logging  # noqa: PLC0415 (as above)

    logging.setup(settings.log_format, settings.log_level)
    try:
        return manager.run(settings)
    except manager.StartError as error:
        click.echo(f"awsbatch-operator: {error}", err=True)
        return error.exit_code
