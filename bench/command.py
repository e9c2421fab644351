"""Shared parts of the command lines of the bench."""

import asyncio
import signal
import sys
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import click

from awsbatch_sandbox.controlplane import CHOICES, ControlPlaneError
from awsbatch_sandbox.processes import ProcessError
from bench.scenarios import Progress

T = TypeVar("T")

control_plane_option: Final = click.option(
    "--control-plane",
    type=click.Choice(CHOICES),
    default="auto",
    show_default=True,
    help="auto: envtest when KUBEBUILDER_ASSETS is set, else embedded.",
)


def sizes_of(_context: click.Context, _option: click.Parameter, value: str) -> list[int]:
    try:
        sizes = [int(one) for one in value.split(",")]
    except ValueError:
        raise click.BadParameter("give whole numbers, such as 1000,10000") from None
    if min(sizes) < 10:
        raise click.BadParameter("give numbers from 10 on")
    return sizes


def measured(scenario: Coroutine[Any, Any, T]) -> T:
    """Run and return the result; report errors without a traceback. Ctrl-C and SIGTERM shut it down in order."""
    if sys.platform != "linux":
        raise click.ClickException("the figures come from /proc: run it on Linux")

    async def until_sigterm() -> T:
        task = asyncio.current_task()
        assert task is not None
        # Its processes and files are removed in every case.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await scenario

    try:
        return asyncio.run(until_sigterm())
    except (ControlPlaneError, ProcessError, TimeoutError) as error:
        raise click.ClickException(str(error)) from error
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise click.Abort from None


def progress_writer(objects: int) -> Progress:
    began = time.monotonic()
    return lambda text: click.echo(f"{time.monotonic() - began:6.1f} s  N={objects:,}  {text}", err=True)
