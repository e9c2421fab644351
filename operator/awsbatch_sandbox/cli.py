"""The commands `sandbox`, `demo`, `demo-bulk` and `demo-teams`."""

import fcntl
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from awsbatch_sandbox import demo_bulk as bulk
from awsbatch_sandbox import demo_teams as teams
from awsbatch_sandbox.cluster import KubectlError, kubectl_environment, kubectl_program
from awsbatch_sandbox.controlplane import CHOICES, ControlPlaneError, crd_file
from awsbatch_sandbox.demo import GRACE, REASON, DemoError, patch_for, play
from awsbatch_sandbox.faults import clear, deny, slow, throttle
from awsbatch_sandbox.fixtures import populate, populate_teams
from awsbatch_sandbox.kubeconfig import write_private
from awsbatch_sandbox.operator_process import sandbox_aws
from awsbatch_sandbox.processes import ProcessError
from awsbatch_sandbox.teams import role
from awsbatch_sandbox.world import BY_EVENTS, QUICK, World

CLUSTER_NAME: Final = "sandbox"
FIRST_RESTART: Final = 1.0
LAST_RESTART: Final = 10.0
"""Seconds between an exit of the operator and its next start."""
STABLE: Final = 60.0
"""Seconds after which a start counts as successful: the next wait is the first again."""

_control_plane = click.option(
    "--control-plane",
    type=click.Choice(CHOICES),
    default="auto",
    show_default=True,
    help="embedded needs nothing else; envtest runs the kube-apiserver and etcd in KUBEBUILDER_ASSETS; "
    "auto uses envtest when that variable is set.",
)


@click.command()
@_control_plane
def demo(control_plane: str) -> None:
    """Run a demo in a sandbox: kubectl patch terminates a running Batch job. Leaves nothing behind."""
    with _faults_in_one_message():
        play(control_plane)


@click.command()
@_control_plane
def demo_teams(control_plane: str) -> None:
    """Run a demo of two teams with an AWS account each: one names a job of the other. Leaves nothing behind."""
    with _faults_in_one_message():
        teams.play(control_plane)


@click.command()
@_control_plane
def demo_bulk(control_plane: str) -> None:
    """Run a demo of bulk termination: one approval terminates 200 of 300 jobs. Leaves nothing behind."""
    with _faults_in_one_message():
        bulk.play(control_plane)


@click.group(invoke_without_command=True, subcommand_metavar="[COMMAND]")
@click.option(
    "--dir",
    "directory",
    default=".sandbox",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the files kubeconfig and env, which exist while the sandbox runs.",
)
@_control_plane
@click.option(
    "--jobs", default=12, show_default=True, type=click.IntRange(1, 1000), help="Number of jobs at the start."
)
@click.option("--operator/--no-operator", "with_operator", default=True, help="Run the operator too.  [default: yes]")
@click.option(
    "--roles",
    is_flag=True,
    help="Add the namespaces team-a and team-b, each with a policy that names a role in an account of its own.",
)
@click.option(
    "--on-delete",
    type=click.Choice(("disabled", "enabled")),
    default="disabled",
    show_default=True,
    help="enabled: deleting a BatchJob with spec.onDelete terminates its job, as with the operator's own flag.",
)
@click.option(
    "--polls",
    type=click.Choice(("quick", "default")),
    default="quick",
    show_default=True,
    help="quick: poll every 0.5 s. default: poll every 30 s or more, the operator's default; events still "
    "show a change at once.",
)
@click.pass_context
def sandbox(  # noqa: PLR0917  click passes them by name
    ctx: click.Context,
    directory: Path,
    control_plane: str,
    jobs: int,
    with_operator: bool,
    roles: bool,
    on_delete: str,
    polls: str,
) -> None:
    """Serve a Kubernetes API, a simulated AWS Batch and the operator on this machine, until Ctrl-C.

    The commands change how the simulated AWS Batch of a running sandbox answers; run them in another terminal.
    Suspend terminations as on a cluster: by spec.suspend of a BatchAccessPolicy, or an annotation of a Lease.
    """
    if ctx.invoked_subcommand is not None:
        return
    flags = [*(QUICK if polls == "quick" else BY_EVENTS), f"--on-delete={on_delete}"]
    if roles:
        flags.append(f"--cluster-name={CLUSTER_NAME}")
    with (
        _faults_in_one_message(),
        _reserved(directory),
        World(control_plane, grace=GRACE, flags=flags, roles=roles, events=True) as world,
    ):
        names = populate(world, jobs)
        if roles:
            populate_teams(world, CLUSTER_NAME)
        if with_operator:
            world.operator.start()
        with _files(world, directory):
            click.echo(_welcome(world, directory, names, with_operator=with_operator, roles=roles))
            _stay(world, with_operator=with_operator)
    click.echo("\nAll stopped.")


for _command in (deny, throttle, slow, clear):
    sandbox.add_command(_command)


@contextmanager
def _faults_in_one_message() -> Iterator[None]:
    """Report failures without a traceback; SIGTERM and SIGHUP act like Ctrl-C."""
    # SIGINT too: started in the background by a script, a process inherits it as ignored. A nohup stays a nohup.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    except DemoError as broken:
        raise click.ClickException(f"the demo failed: {broken}") from broken
    except (ControlPlaneError, ProcessError, KubectlError, TimeoutError) as fault:
        raise click.ClickException(str(fault)) from fault


@contextmanager
def _reserved(directory: Path) -> Iterator[None]:
    """Lock the directory: a second sandbox would overwrite the files of the first, and remove them when it ends."""
    existed = directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException(
                f"a sandbox that uses {directory} is running: stop it, or give this one another --dir "
                f'(make sandbox ARGS="--dir {directory}2")'
            ) from None
        yield
    finally:
        os.close(descriptor)
        if not existed and not any(directory.iterdir()):
            directory.rmdir()


@contextmanager
def _files(world: World, directory: Path) -> Iterator[None]:
    """Remove the files that name the servers when the servers stop."""
    contents = {"kubeconfig": world.control_plane.kubeconfig.read_bytes(), "env": _env(world, directory).encode()}
    try:
        for name, content in contents.items():
            write_private(directory / name, content)
        yield
    finally:
        for name in contents:
            (directory / name).unlink(missing_ok=True)


def _env(world: World, directory: Path) -> str:
    """A file for `source`: variables that point kubectl, the AWS CLI and boto3 to this sandbox."""
    aws = {name: world.environment[name] for name in sandbox_aws(world.batch.url)}
    values = kubectl_environment((directory / "kubeconfig").resolve(), world.cache) | aws
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    beside = [Path(sys.executable).parent / name for name in ("kubectl-awsbatch", "awsbatch-operator")]
    for program in (Path(kubectl_program()), *beside):
        if program.exists():  # the shell that reads the file decides: its PATH may be another one
            add = f'export PATH="$PATH":{shlex.quote(str(program.parent))}'
            lines.append(f"command -v {program.name} >/dev/null || {add}")
    return "\n".join(("unset AWS_PROFILE AWS_SESSION_TOKEN", *lines, ""))


_TEAM_COMMANDS: Final = """
  kubectl get batchaccesspolicies
  kubectl -n team-a get batchjobs
  kubectl -n team-a patch batchjob train --type=merge -p {patch}
  kubectl -n team-b get batchjobs
  kubectl -n team-b describe batchjob theirs
  awsbatch-operator sandbox deny --role {role}
"""


def _welcome(world: World, directory: Path, names: list[str], *, with_operator: bool, roles: bool) -> str:
    name = names[0]
    job_id = world.cluster.get(name)["spec"]["jobId"]
    patch = shlex.quote(patch_for(REASON))
    python = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else sys.executable
    boto3 = f"import boto3; print(boto3.client('batch').describe_jobs(jobs=['{job_id}'])['jobs'])"
    operator = f"process {world.operator.pid}, log {world.directory}/operator.log" if with_operator else "not started"
    metrics = f"http://{world.operator.address}/metrics" if with_operator else "none without the operator"
    teams = "; the namespaces team-a and team-b, with a policy and a role each" if roles else ""
    for_teams = _TEAM_COMMANDS.format(patch=patch, role=role("team-a")) if roles else ""
    return f"""\
Kubernetes API  {world.control_plane.description}
AWS Batch       simulated, {world.batch.url}
Its events      {world.events_queue}
Operator        {operator}
Metrics         {metrics}
Objects         {len(names)} BatchJobs in namespace default{teams}
Files           {directory}/kubeconfig
                {directory}/env

In another terminal:

  source {directory}/env
  kubectl get batchjobs
  kubectl patch batchjob {name} --type=merge -p {patch}
  kubectl wait batchjob/{name} --for=condition=Finished --timeout=60s
  kubectl describe batchjob {name}
  kubectl awsbatch ls
  aws batch describe-jobs --jobs {job_id}
  {python} -c "{boto3}"

AWS Batch denies a call: patch another BatchJob, and describe it.

  awsbatch-operator sandbox deny TerminateJob
  awsbatch-operator sandbox clear
{for_teams}
Press Ctrl-C to stop."""


def _stay(world: World, *, with_operator: bool) -> None:
    """Run until Ctrl-C; start the operator again when it exits, with longer and longer waits, as a Deployment does."""
    wait, started = FIRST_RESTART, time.monotonic()
    try:
        while True:
            time.sleep(1)
            if not with_operator or world.operator.running:
                continue
            if time.monotonic() - started > STABLE:
                wait = FIRST_RESTART
            click.echo(_exited(world, wait))
            time.sleep(wait)
            wait = min(2 * wait, LAST_RESTART)
            world.operator.launch()
            started = time.monotonic()
    except KeyboardInterrupt:
        return


def _exited(world: World, wait: float) -> str:
    text = f"The operator exited with code {world.operator.exit_code}; starting it again in {wait:g} s."
    if not world.cluster.serves():
        text += f" BatchJobs are not served: kubectl apply -f {shlex.quote(str(crd_file()))}"
    return text
