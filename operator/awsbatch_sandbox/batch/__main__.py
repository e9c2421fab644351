"""`python -m awsbatch_sandbox.batch`: serve a simulated AWS Batch until SIGTERM or Ctrl-C."""

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import click

from awsbatch_sandbox.batch.server import serve
from awsbatch_sandbox.batch.simulator import BatchSimulator
from awsbatch_sandbox.sts import server as sts_server
from awsbatch_sandbox.sts.simulator import StsSimulator


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--announce", type=click.Path(dir_okay=False, path_type=Path), help="File that gets the URL, once ready.")
@click.option(
    "--sts-announce",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Serve AWS STS too, whose credentials this Batch knows: file that gets its URL, before the other one.",
)
@click.option("--region", default="eu-west-1", show_default=True, help="Region of seeded jobs that name none.")
@click.option(
    "--grace", default=30.0, show_default=True, help="Seconds from TerminateJob until a RUNNING job has finished."
)
def main(*, host: str, port: int, announce: Path | None, sts_announce: Path | None, region: str, grace: float) -> None:
    """A simulated AWS Batch on loopback."""
    asyncio.run(_run(host, port, announce, sts_announce, BatchSimulator(region=region, grace=grace)))


async def _run(
    host: str, port: int, announce: Path | None, sts_announce: Path | None, simulator: BatchSimulator
) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with AsyncExitStack() as served:
        if sts_announce is not None:
            _announce(sts_announce, await _serve_sts(served, simulator, host))
        url = await served.enter_async_context(serve(simulator, host=host, port=port))
        if announce is not None:
            _announce(announce, url)
        sys.stdout.write(f"AWS Batch sandbox at {url}\n")
        sys.stdout.flush()
        await ended.wait()


async def _serve_sts(served: AsyncExitStack, simulator: BatchSimulator, host: str) -> str:
    sts = StsSimulator(simulator.credentials, simulator.aws_time)
    return await served.enter_async_context(sts_server.serve(sts, host=host))


def _announce(path: Path, url: str) -> None:
    """Written aside and renamed: a reader never sees half a URL."""
    part = path.with_name(path.name + ".part")
    part.write_text(url + "\n", encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main()
