"""`python -m bench.competing_client`: an account at its limit, shared with another program, in some five minutes.

In the first minute the operator measures the remaining rate. In the second and third its calls are judged, while
terminations with different reasons arrive. Then the competing client stops and the limit is removed.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import click

from awsbatch_sandbox.cluster import Cluster, condition
from awsbatch_sandbox.competing_client import CompetingClient, is_competing
from awsbatch_sandbox.controlplane import CHOICES, ControlPlaneError
from awsbatch_sandbox.processes import ProcessError, wait_for
from awsbatch_sandbox.world import World

LIMIT: Final = 5.0
"""Calls a second that the account grants, saving up as many."""
TERMINATED: Final = 30
SETTLES: Final = 60.0
JUDGED: Final = 120.0
TERMINATIONS_AT: Final = 20.0
"""Seconds into the judged ones."""
_WINDOW: Final = 5.0
_SHAPES: Final = {"steady": (3.0, 1), "heavy": (4.5, 1), "bursts": (3.0, 6)}
"""The competing client's calls a second, and how many of them at once."""

Call = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """The record of so many seconds."""

    calls: list[Call]
    seconds: float

    @property
    def ours(self) -> list[Call]:
        return [call for call in self.calls if not is_competing(call)]

    @property
    def its(self) -> list[Call]:
        return [call for call in self.calls if is_competing(call)]

    def __str__(self) -> str:
        return f"ours {_rate(self.ours, self.seconds)}; competing {_rate(self.its, self.seconds)}"


def _rate(calls: list[Call], seconds: float) -> str:
    throttled = sum(call["http_status"] == 429 for call in calls)
    share = throttled / len(calls) if calls else 0.0
    return f"{(len(calls) - throttled) / seconds:.2f}/s granted, {throttled} of {len(calls)} throttled ({share:.1%})"


@click.command()
@click.option("--objects", default=1000, show_default=True, type=click.IntRange(min=100), help="Number of live jobs.")
@click.option(
    "--shape",
    default="steady",
    show_default=True,
    type=click.Choice(list(_SHAPES)),
    help="Calls of the competing client.",
)
@click.option("--control-plane", type=click.Choice(CHOICES), default="auto", show_default=True)
def main(objects: int, shape: str, control_plane: str) -> None:
    """Share an account that grants 5 calls a second with a competing client, and print the calls of each."""
    # So often that polls need more than any remaining rate.
    flags = (f"--poll-running={max(objects // 100 * 200, 200)}ms",)
    try:
        with World(control_plane, grace=1.0, flags=flags) as world:
            _measure(world, objects, shape)
    except (ControlPlaneError, ProcessError, TimeoutError) as error:
        raise click.ClickException(str(error)) from error


def _measure(world: World, objects: int, shape: str) -> None:
    names = [f"job-{number:05}" for number in range(objects)]
    for name, job_id in zip(names, world.batch.seed_many(objects), strict=True):
        world.cluster.create(name, job_id)
    world.operator.start()
    wait_for(lambda: _phases(world.cluster)["Running"] == objects, timeout=120, what="all jobs are seen", every=1.0)
    with _span(world) as before:
        time.sleep(2 * _WINDOW)
    click.echo(f"{objects} jobs, before              {before()}")
    rate, at_once = _SHAPES[shape]
    writes = _writes(world)
    world.batch.limit(LIMIT)
    with CompetingClient(world.batch.url, rate=rate, at_once=at_once):
        with _span(world) as first:
            time.sleep(SETTLES)
        click.echo(f"limit {LIMIT:g}/s, {shape} client {first()}  <- first minute")
        with _span(world) as judged:
            _terminate_meanwhile(world, names[:TERMINATED])
        click.echo(f"the two minutes after         {judged()}")
        click.echo(f"status writes in all three    {_writes(world) - writes:.0f}")
        click.echo(f"objects that are throttled    {_throttled(world.cluster)}")
    _recover(world, _granted(before()))


def _terminate_meanwhile(world: World, names: list[str]) -> None:
    ends = time.time() + JUDGED
    time.sleep(TERMINATIONS_AT)
    began = time.time()
    for name in names:
        world.cluster.terminate(name, f"reason of {name}")
    patched = time.time() - began
    time.sleep(max(ends - time.time(), 0))
    sent = world.batch.terminate_requests()
    at = sorted(one["at"] - began for one in sent)
    reasons = {one["reason"] for one in sent}
    click.echo(
        f"{len(names)} terminations               patched in {patched:.1f} s, {len(at)} arrived with {len(reasons)} "
        f"reasons: first {at[0]:.2f} s, median {at[len(at) // 2]:.1f} s, last {at[-1]:.1f} s"
    )


def _recover(world: World, before: float) -> None:
    """Wait until polls have nine tenths of the earlier rate, and until no object shows throttling."""
    world.batch.limit(None)
    began = time.monotonic()
    calm = None
    while time.monotonic() - began < 300:
        with _span(world) as span:
            time.sleep(_WINDOW)
        if calm is None and not _throttled(world.cluster):
            calm = time.monotonic() - began
            click.echo(f"client and limit gone         no object is throttled after {calm:.0f} s")
        if _granted(span()) >= 0.9 * before and calm is not None:
            click.echo(f"client and limit gone         polls at their old rate after {time.monotonic() - began:.0f} s")
            return
    raise TimeoutError("polls are not back at their old rate within 300 s")


@contextmanager
def _span(world: World) -> Iterator[Callable[[], Span]]:
    """The records inside the block, available after it."""
    world.batch.clear_calls()
    began, found = time.monotonic(), list[Span]()
    yield lambda: found[0]
    found.append(Span(world.batch.calls(), time.monotonic() - began))


def _granted(span: Span) -> float:
    return len([call for call in span.ours if call["http_status"] == 200]) / span.seconds


def _phases(cluster: Cluster) -> Counter[str]:
    return Counter(body.get("status", {}).get("phase") for body in cluster.objects())


def _throttled(cluster: Cluster) -> int:
    conditions = (condition(body["status"], "Reconciling") for body in cluster.objects())
    return sum(one.get("reason") == "Throttled" for one in conditions)


def _writes(world: World) -> float:
    return sum(value for _, value in world.operator.metrics()["awsbatch_operator_status_writes_total"])


if __name__ == "__main__":
    main()
