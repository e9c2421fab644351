"""The command line."""

import gc
import importlib
import platform
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from awsbatch_operator import __version__

if TYPE_CHECKING:
    from awsbatch_operator.config import Settings

_EXTRA: Final = "pip install 'awsbatch-operator[sandbox]'"
_PASSED_ON: Final[dict[str, Any]] = {"context_settings": {"ignore_unknown_options": True}, "add_help_option": False}


@click.group(name="awsbatch-operator", context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Mirrors AWS Batch jobs into Kubernetes objects, and ends them when their object says so."""


# Every option is a text here: config.py checks them together with the variables, and tells all faults at once.
@main.command(
    short_help="Run the operator on a cluster.",
    epilog="Every flag is a variable too: --look-running is AWSBATCH_OPERATOR_LOOK_RUNNING. Flags win. Durations are "
    "written 500ms, 30s, 2m or 1h. AWS settings are AWS's own variables and profiles.",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.option("-n", "--namespace", multiple=True, metavar="NS", help="Namespace to watch; repeatable. [default: all]")
@click.option("--region", metavar="R", help="AWS region of objects that name none. [default: as AWS's variables say]")
@click.option(
    "--access-policy", metavar="MODE", help="optional, or required: no job without a policy. [default: optional]"
)
@click.option("--cluster-name", metavar="N", help="Stands in ExternalIds and session tags. [default: kubernetes]")
@click.option("--http-address", metavar="HOST:PORT", help="Probes and metrics. [default: 0.0.0.0:8080]")
@click.option(
    "--leader-elect/--no-leader-elect", default=None, help="Act only as holder of a Lease. [default: inside a cluster]"
)
@click.option("--lease-name", metavar="N", help="Name of that Lease. [default: awsbatch-operator]")
@click.option("--lease-namespace", metavar="NS", help="Namespace of that Lease. [default: the pod's own]")
@click.option("--look-running", metavar="TIME", help="Between two looks at a running job. [default: 30s]")
@click.option("--look-pending", metavar="TIME", help="Between two looks at a job that waits. [default: 60s]")
@click.option("--absence-grace", metavar="TIME", help="Until an unknown job counts as missing. [default: 2m]")
@click.option("--resend-after", metavar="TIME", help="Until an unheeded termination is sent again. [default: 60s]")
@click.option(
    "--describe-rate", metavar="RATE", help="DescribeJobs calls a second, an account and region. [default: 5]"
)
@click.option("--terminate-rate", metavar="RATE", help="TerminateJob calls a second, the same. [default: 10]")
@click.option("--log-format", metavar="FORMAT", help="json or console. [default: json]")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error. [default: info]")
@click.pass_context
def run(ctx: click.Context, /, **flags: Any) -> NoReturn:
    """Run the operator on the cluster that it is in, else that of KUBECONFIG."""
    gc.disable()  # for the imports: they leave nothing to collect, and looking for it takes a tenth of their time
    from awsbatch_operator import config  # noqa: PLC0415 (half a second that --help and the sandbox need not wait)

    try:
        settings = config.load(flags, [argument for argument in ctx.args if argument.startswith("-")] or ctx.args)
    except config.SettingsError as error:
        click.echo(f"awsbatch-operator: {error}", err=True)
        sys.exit(2)
    sys.exit(_run(settings))


@main.command(short_help="Serve a whole world on this machine.", **_PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def sandbox(ctx: click.Context, arguments: tuple[str, ...]) -> Any:
    """Serve a whole world on this machine: a Kubernetes API, an AWS Batch, the operator."""
    return _of_the_sandbox(ctx, "sandbox", arguments)


@main.command(short_help="Play the main job in such a world.", **_PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def demo(ctx: click.Context, arguments: tuple[str, ...]) -> Any:
    """Play the main job in such a world: a running Batch job is ended by kubectl patch."""
    return _of_the_sandbox(ctx, "demo", arguments)


@main.command(short_help="Play two teams with an AWS account each.", **_PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def demo_teams(ctx: click.Context, arguments: tuple[str, ...]) -> Any:
    """Play two teams with an AWS account each: one names a job of the other and is refused."""
    return _of_the_sandbox(ctx, "demo-teams", arguments)


@main.command(short_help="Print versions.")
def version() -> None:
    """Print the versions of the operator and of what decides its behaviour."""
    click.echo(f"awsbatch-operator {__version__}")
    for package in ("kopf", "boto3", "kubernetes"):
        click.echo(f"{package} {metadata.version(package)}")
    click.echo(f"python {platform.python_version()}")


def _of_the_sandbox(ctx: click.Context, name: str, arguments: tuple[str, ...]) -> Any:
    try:
        command: click.Command = getattr(importlib.import_module("awsbatch_sandbox.cli"), name.replace("-", "_"))
    except ImportError as error:
        raise click.ClickException(f"{name} needs the extra 'sandbox' ({error}): {_EXTRA}") from error
    with command.make_context(name, list(arguments), parent=ctx.parent) as inner:
        return command.invoke(inner)


def _run(settings: "Settings") -> int:
    from awsbatch_operator import process  # noqa: PLC0415 (as above)
    from awsbatch_operator.observability import logging  # noqa: PLC0415 (as above)

    logging.setup(settings.log_format, settings.log_level)
    try:
        process.run(settings)
    except process.StartError as error:
        click.echo(f"awsbatch-operator: {error}", err=True)
        return 1
