"""`python -m bench.soak`, or `make soak`: whether anything grows while objects come and go for a long time."""

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
from bench.command import control_plane_option, measured, teller
from bench.contenders import launched, status_writes, tracked
from bench.course import Course, Tell, lab_of
from bench.flatness import Sample, kept_up, verdicts
from bench.lab import Lab
from bench.measures import mass, stated
from bench.rounds import settle

STORM: Final = 50
"""Terminations at once, each with a reason of its own."""
SAMPLE_EVERY: Final = 10.0
LINGER: Final = 45.0
"""Seconds from the end of a job to the deletion of its object: by then the operator has looked (30 s, ±10 %)."""
RETENTION: Final = 120.0
"""Seconds after which Batch forgets a job that ended; a week, as in real life, would be a leak of the sandbox here."""


@click.command()
@click.option("--minutes", default=40.0, show_default=True, type=click.FloatRange(min=1))
@click.option("--objects", default=2000, show_default=True, type=click.IntRange(min=100))
@click.option("--rate", default=10, show_default=True, help="Jobs that end, and objects that are replaced, a second.")
@control_plane_option
@click.option("--json", "file", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write samples.")
def main(minutes: float, objects: int, rate: int, control_plane: str, file: Path | None) -> None:
    """Churn objects for so long and tell whether memory, files and threads of the operator stay flat within 5 %."""
    if rate * LINGER > 0.9 * objects:
        raise click.BadParameter(f"{rate} a second linger for {LINGER:.0f} s: too many for {objects} objects")
    samples = measured(_soak(Course(objects, control_plane), minutes, rate, teller(objects)))
    found = verdicts(samples)
    if file is not None:
        saved = {"machine": process.machine(), "minutes": minutes, "objects": objects, "rate": rate}
        saved |= {"verdicts": [asdict(one) for one in found], "samples": [asdict(one) for one in samples]}
        file.write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")
    click.echo("\n".join(map(str, found)))
    last = samples[-1]
    if not kept_up(last, lingering=rate * LINGER):
        raise click.ClickException(f"{last.writes:,} writes for {last.ended:,} jobs: it fell behind, nothing is shown")
    if not all(one.flat for one in found):
        raise SystemExit(1)


class Churn:
    """Each step ends `rate` jobs, oldest first; after a while their objects are deleted and as many new ones made.

    One in ten is terminated, one in ten fails, the others succeed.
    """

    def __init__(self, lab: Lab, rate: int) -> None:
        self._lab, self._rate = lab, rate
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


async def _soak(course: Course, minutes: float, rate: int, tell: Tell) -> list[Sample]:
    async with lab_of(course, tell) as (lab, _):
        operator = lab.operator()
        lab.world.batch.settings(retention=RETENTION)
        lab.world.batch.clear_calls()
        with launched(operator):
            await settle(lab, seconds=5)
            # A storm first: pools of threads and connections fill up as they are needed, and that is no leak.
            await mass(lab, count=STORM, same_reason=False)
            await lab.fleet.renew()
            return await _churned(lab, operator, Churn(lab, rate), 60 * minutes, tell)


async def _churned(lab: Lab, operator: OperatorProcess, churn: Churn, seconds: float, tell: Tell) -> list[Sample]:
    samples: list[Sample] = []
    began = time.monotonic()
    step = 0
    while (passed := time.monotonic() - began) < seconds:
        await churn.step()
        if passed >= len(samples) * SAMPLE_EVERY:
            samples.append(_sample(operator, passed, churn.ended))
            if len(samples) % round(60 / SAMPLE_EVERY) == 1:
                lab.world.batch.clear_calls()  # its record of calls is for tests, and would grow for ever
                tell(f"{_words(samples[-1])}; {_others(operator)}")
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
    """What the sandbox itself takes: it must bear the soak as well."""
    resident = {name: process.memory(pid).resident for name, pid in process.children().items() if pid != operator.pid}
    return ", ".join(f"{name.removeprefix('awsbatch_sandbox.')} {size:.0f} MiB" for name, size in resident.items())


if __name__ == "__main__":
    main()
