"""`python -m bench.soak`, or `make soak`: checks for growth while objects are created and deleted for a long time."""

import asyncio
import json
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import ProcessError
from bench import process
from bench.command import control_plane_option, measured, progress_writer
from bench.harness import Harness
from bench.leak_check import Sample, kept_up, outcomes
from bench.measures import mass, stated
from bench.rounds import settle
from bench.scenarios import Progress, Scenario, harness_of
from bench.subjects import launched, status_writes, tracked

STORM: Final = 50
"""Terminations at once, each with a reason of its own."""
SAMPLE_EVERY: Final = 10.0
LINGER: Final = 45.0
"""Seconds from the end of a job to the deletion of its object: by then the operator has polled (30 s, ±10 %)."""
RETENTION: Final = 120.0
"""Seconds after which Batch drops an ended job; the real week would be a leak of the sandbox here."""


@click.command()
@click.option("--minutes", default=40.0, show_default=True, type=click.FloatRange(min=1))
@click.option("--objects", default=2000, show_default=True, type=click.IntRange(min=100))
@click.option("--rate", default=10, show_default=True, help="Jobs that end, and objects that are replaced, a second.")
@control_plane_option
@click.option("--json", "file", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write samples.")
def main(minutes: float, objects: int, rate: int, control_plane: str, file: Path | None) -> None:
    """Churn objects for so long and check that memory, files and threads of the operator grow by at most 5 %."""
    if rate * LINGER > 0.9 * objects:
        raise click.BadParameter(f"{rate} a second linger for {LINGER:.0f} s: too many for {objects} objects")
    samples = measured(_soak(Scenario(objects, control_plane), minutes, rate, progress_writer(objects)))
    found = outcomes(samples)
    if file is not None:
        saved = {"machine": process.machine(), "minutes": minutes, "objects": objects, "rate": rate}
        saved |= {"outcomes": [asdict(one) for one in found], "samples": [asdict(one) for one in samples]}
        file.write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")
    click.echo("\n".join(map(str, found)))
    last = samples[-1]
    if not kept_up(last, lingering=rate * LINGER):
        raise click.ClickException(
            f"{last.writes:,} writes for {last.ended:,} jobs: the operator fell behind, so the result is invalid"
        )
    if not all(one.flat for one in found):
        raise SystemExit(1)


class Churn:
    """Each step ends `rate` jobs, oldest first; after a while their objects are deleted and as many new ones made.

    One in ten is terminated, one in ten fails, the others succeed.
    """

    def __init__(self, harness: Harness, rate: int) -> None:
        self._lab, self._rate = harness, rate
        self._lingering: deque[tuple[float, dict[str, str]]] = deque()
        self.ended = 0

    async def step(self) -> None:
        now = time.monotonic()
        ending = self._lab.fleet.oldest(self._rate)
        for name, job_id in ending.items():
            await self._end(name, job_id)
        self._lingering.append((now + LINGER, ending))
        while self._lingering[0][0] <= now:
            await self._lab.fleet.replace(self._lingering.popleft()[1])

    async def _end(self, name: str, job_id: str) -> None:
        batch = self._lab.world.batch
        kind = self.ended % 10
        self.ended += 1
        if kind == 0:
            reason = "budget is spent" if self.ended % 20 == 1 else f"{name} is not needed"
            await self._lab.kube.patch(name, stated(reason))
        elif kind == 1:
            batch.move(job_id, "FAILED", exit_code=137, container_reason="OutOfMemoryError: container killed")
        else:
            batch.move(job_id, "SUCCEEDED")


async def _soak(scenario: Scenario, minutes: float, rate: int, progress: Progress) -> list[Sample]:
    async with harness_of(scenario, progress) as (harness, _):
        operator = harness.operator()
        harness.world.batch.settings(retention=RETENTION)
        harness.world.batch.clear_calls()
        with launched(operator):
            await settle(harness, seconds=5)
            # Many terminations first: pools of threads and connections fill up on demand, which is no leak.
            await mass(harness, count=STORM, same_reason=False)
            await harness.fleet.renew()
            return await _churned(harness, operator, Churn(harness, rate), 60 * minutes, progress)


async def _churned(
    harness: Harness, operator: OperatorProcess, churn: Churn, seconds: float, progress: Progress
) -> list[Sample]:
    samples: list[Sample] = []
    began = time.monotonic()
    step = 0
    while (passed := time.monotonic() - began) < seconds:
        await churn.step()
        if passed >= len(samples) * SAMPLE_EVERY:
            samples.append(_sample(operator, passed, churn.ended))
            if len(samples) % round(60 / SAMPLE_EVERY) == 1:
                harness.world.batch.clear_calls()  # its record of calls would grow without limit
                progress(f"{_words(samples[-1])}; {_others(operator)}")
        step += 1
        await asyncio.sleep(began + step - time.monotonic())
    samples.append(_sample(operator, seconds, churn.ended))
    return samples


def _sample(operator: OperatorProcess, at: float, ended: int) -> Sample:
    if not operator.running:
        raise ProcessError(f"the operator ended by itself:\n{operator.last_words()}")
    pid = operator.pid
    memory = process.memory(pid)
    files, threads = process.files(pid), process.threads(pid)
    known, writes = round(tracked(operator)), round(status_writes(operator))
    return Sample(at, memory.resident, memory.proportional, files, threads, known, writes, ended)


def _words(sample: Sample) -> str:
    return (
        f"{sample.ended:,} jobs ended, {sample.writes:,} writes; {sample.resident:.1f} MiB resident, "
        f"{sample.proportional:.1f} proportional, {sample.files} files, {sample.threads} threads, "
        f"{sample.tracked:,} objects"
    )


def _others(operator: OperatorProcess) -> str:
    """Memory of the sandbox itself: it must not leak either."""
    resident = {name: process.memory(pid).resident for name, pid in process.children().items() if pid != operator.pid}
    return ", ".join(f"{name.removeprefix('awsbatch_sandbox.')} {size:.0f} MiB" for name, size in resident.items())


if __name__ == "__main__":
    main()
