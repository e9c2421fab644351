"""The commands that make the AWS Batch of a running sandbox deny, throttle or delay calls."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import click

from awsbatch_sandbox.batch.remote import RemoteBatch
from awsbatch_sandbox.sts.remote import RemoteSts

_VARIABLE: Final = "AWS_ENDPOINT_URL_BATCH"
_STS_VARIABLE: Final = "AWS_ENDPOINT_URL_STS"
_operation = click.argument("operation", default="*")
_account = click.option("--account", metavar="ID", help="Only calls of this AWS account.")


@click.command()
@_operation
@_account
@click.option("--role", metavar="ARN", help="Only calls of this role.")
def deny(operation: str, account: str | None, role: str | None) -> None:
    """Deny an operation, such as TerminateJob, as IAM does (AccessDeniedException); without one, all operations.

    TerminateJobs needs the permission TerminateJob for each of its jobs: deny TerminateJob.
    """
    with _running(account) as batch:
        if role is not None:
            _check("role", role, _roles())
        batch.deny(operation, account=account, role=role)
    click.echo(f"{_what(operation)} denied{_whose(account, role)}, until: awsbatch-operator sandbox clear")


@click.command()
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    help="Calls per second that each account and region may make.",
)
@_account
def throttle(rate: float, account: str | None) -> None:
    """Throttle calls above a rate (TooManyRequestsException), all operations together.

    As on AWS, what was not used in the last second can be used at once: the first call passes.
    """
    with _running(account) as batch:
        batch.limit(rate, account=account)
    click.echo(
        f"Calls above {rate:g} per second are throttled{_whose(account)}, until: awsbatch-operator sandbox clear"
    )


@click.command()
@_operation
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), required=True, help="Duration of a response.")
@click.option("--times", type=click.IntRange(min=1), help="How many calls are slow.  [default: all]")
@_account
def slow(operation: str, seconds: float, times: int | None, account: str | None) -> None:
    """Delay the responses of an operation; without one, of all operations."""
    with _running(account) as batch:
        batch.fault(operation, kind="slow", seconds=seconds, times=times, account=account)
    calls = "" if times is None else f" for the next {times}"
    click.echo(
        f"{_what(operation)} slow, {seconds:g} s{calls}{_whose(account)}, until: awsbatch-operator sandbox clear"
    )


@click.command()
def clear() -> None:
    """Undo deny, throttle and slow."""
    with _running() as batch:
        batch.clear_denials(but_by_tag=True)
        batch.clear_faults()
        batch.limit(None)
    click.echo(
        "No call is denied, throttled or slow any more. The operator repeats a denied call within 5 minutes,\n"
        "and at once after an edit of the object's spec. After a throttle, its rate of calls recovers within 4 minutes."
    )


@contextmanager
def _running(account: str | None = None) -> Iterator[RemoteBatch]:
    """The Batch of the sandbox whose `env` file the shell has read. `account`: one that it must have."""
    url = os.environ.get(_VARIABLE)
    if not url:
        raise click.ClickException(f"{_VARIABLE} is not set: source .sandbox/env, which the running sandbox wrote")
    try:
        with RemoteBatch(url) as batch:
            if account is not None:
                _check("account", account, batch.accounts())
            yield batch
    except ValueError as wrong:
        raise click.ClickException(str(wrong)) from wrong
    except OSError as gone:
        raise click.ClickException(f"no sandbox answers at {_VARIABLE}={url}: start one and source its env") from gone


def _roles() -> Sequence[str]:
    """The roles of the sandbox; none if it runs without --roles."""
    url = os.environ.get(_STS_VARIABLE)
    if not url or url == os.environ.get(_VARIABLE):
        return ()
    with RemoteSts(url) as sts:
        return sts.roles()


def _check(kind: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        remedy = f"give one of {', '.join(known)}" if known else "start it with --roles"
        raise click.ClickException(f"--{kind} {value}: the sandbox has no such {kind}; {remedy}")


def _what(operation: str) -> str:
    return "All operations are" if operation == "*" else f"{operation} is"


def _whose(account: str | None, role: str | None = None) -> str:
    return "".join(f" for {name} {value}" for name, value in (("account", account), ("role", role)) if value)
