"""One operator process: the rooms put together, started in order, and stopped without losing what is under way."""

import asyncio
import atexit
import gc
import os
import platform
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final, NoReturn

import structlog

from awsbatch_operator import __version__
from awsbatch_operator.aws.batch import AwsBatch
from awsbatch_operator.aws.clients import SettingsError, default_region
from awsbatch_operator.aws.sessions import Connector
from awsbatch_operator.config import Settings, flag
from awsbatch_operator.engine.book import Book
from awsbatch_operator.engine.engine import Engine
from awsbatch_operator.engine.outside import Ports, wall_clock
from awsbatch_operator.handlers.watch import Inbox, Watch, make_registry
from awsbatch_operator.kube import credentials
from awsbatch_operator.kube.access import AccessRules
from awsbatch_operator.kube.batchjobs import BatchJobs
from awsbatch_operator.kube.client import KubeClient
from awsbatch_operator.kube.events import EventPoster
from awsbatch_operator.kube.lease import Elector, LeaseError
from awsbatch_operator.kube.policies import PolicyStatuses
from awsbatch_operator.kube.preflight import PreflightError
from awsbatch_operator.observability import http
from awsbatch_operator.observability.metrics import Metrics

_HUNG_AFTER: Final = 30.0
_BATCH_SILENT_AFTER: Final = 120.0
_BLIND_AFTER: Final = 60.0
_PREPARED_WITHIN: Final = 1.0
"""Seconds that credentials may take to be found before the watch starts without them."""
_FINISH_WITHIN: Final = 6.0
"""Seconds after SIGTERM for calls under way and their writes; Kubernetes kills after 30, we promise 10."""

log = structlog.get_logger(__name__)


class StartError(Exception):
    """The operator can't start; the message is the one line that its user needs."""


async def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT (0), or until a part of it ends by itself (1). Raises StartError."""
    region = await _region(settings)
    async with AsyncExitStack() as parts:
        metrics = Metrics()
        fence, book = _Fence(), Book(settings.access_policy, region, asyncio.get_running_loop().time)
        batch = await parts.enter_async_context(_batch(settings, metrics, fence, book))
        # A tenth of a second that passes while the Kubernetes API is asked; beside a first list it would be three.
        preparing = asyncio.create_task(batch.prepare(region))
        parts.callback(preparing.cancel)
        client = await parts.enter_async_context(KubeClient())
        events = await parts.enter_async_context(EventPoster(client, platform.node()))
        objects = BatchJobs(client, events, settings.namespace)
        ports = Ports(batch, objects, metrics, acting=fence)
        engine = Engine(ports, region=region, cadence=settings.cadence(), book=book)
        standings = partial(engine.standings, all_jobs=not settings.namespace)
        statuses = PolicyStatuses(client, standings, lambda: engine.leading and fence())
        rules = AccessRules(client, book, statuses, settings.access_policy)
        try:
            await asyncio.gather(objects.preflight(), rules.preflight())
        except PreflightError as error:
            raise StartError(str(error)) from error
        elector = fence.elector = await _elector(client, settings) if settings.leader_elect else None
        metrics.ask(engine.store.census, engine.depths)
        app = http.make_app(metrics.registry, *checks(engine))
        try:
            await parts.enter_async_context(http.serve(app, *settings.http_address))
        except http.ListenError as error:
            raise StartError(str(error)) from error
        await asyncio.wait({preparing}, timeout=_PREPARED_WITHIN)
        log.info("operator starts", version=__version__, region=region, namespaces=settings.namespace or "all")
        return await _work(engine, elector, metrics, settings, partial(_follow, rules, statuses))


async def _region(settings: Settings) -> str:
    try:
        region = settings.region or await asyncio.to_thread(default_region)
    except SettingsError as error:
        raise StartError(str(error)) from error
    if region is None:
        raise StartError(
            f"no AWS region for objects that name none: give {flag('region')}, or set AWS_REGION or a profile with one"
        )
    return region


async def _elector(client: KubeClient, settings: Settings) -> Elector:
    try:
        namespace = settings.lease_namespace or (await asyncio.to_thread(credentials.load)).namespace
        elector = Elector(client, namespace, settings.lease_name, f"{platform.node()}_{secrets.token_hex(4)}")
        await elector.check()
    except (credentials.NoClusterError, LeaseError) as error:
        raise StartError(str(error)) from error
    return elector


class _Fence:
    """Whether this process may act now."""

    elector: Elector | None = None

    def __call__(self) -> bool:
        return self.elector is None or self.elector.leading


@asynccontextmanager
async def _batch(
    settings: Settings, metrics: Metrics, acting: Callable[[], bool], book: Book
) -> AsyncIterator[AwsBatch]:
    connector = Connector(acting=acting)
    batch = AwsBatch(
        telemetry=metrics,
        describe_rate=settings.describe_rate,
        terminate_rate=settings.terminate_rate,
        cluster=settings.cluster_name,
        holds=lambda leave: book.holds(leave, wall_clock()),
        connect=connector,
        identify=connector.account,
    )
    try:
        yield batch
    finally:
        await batch.close(within=1.0)


async def _work(
    engine: Engine, elector: Elector | None, metrics: Metrics, settings: Settings, rules: Callable[[], Awaitable[None]]
) -> int:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, _resolve, stop)
    watch = Watch(make_registry(credentials.load, Inbox(loop, engine)), settings.namespace)
    engine_ends, lag = asyncio.ensure_future(engine.run()), asyncio.ensure_future(metrics.sample_loop_lag())
    rules_end = asyncio.ensure_future(rules())
    watch_ends, election = watch.start(), asyncio.ensure_future(_elect(elector, engine))
    parts = {
        engine_ends: "the engine",
        watch_ends: "the watch",
        rules_end: "the watch of access policies",
        election: "the election",
    }
    ended, _ = await asyncio.wait({*parts, stop}, return_when=asyncio.FIRST_COMPLETED)
    for part in ended & parts.keys():
        log.error("operator ends, since a part of it did", part=parts[part], exc_info=part.exception())
    log.info("operator stops")
    watch.stop()
    finished = await _finish(engine, engine_ends)
    election.cancel()
    await asyncio.wait({election})
    if elector is not None and finished:
        await elector.release()
    lag.cancel()
    rules_end.cancel()
    await asyncio.wait({engine_ends, watch_ends, rules_end, lag}, timeout=1.0)
    return 0 if ended == {stop} else 1


async def _follow(rules: AccessRules, statuses: PolicyStatuses) -> None:
    """Tell the engine what access policies say, and the policies where they stand."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(rules.run())
        tasks.create_task(statuses.run())


async def _elect(elector: Elector | None, engine: Engine) -> None:
    if elector is None:
        await engine.lead()
        await asyncio.Event().wait()
    else:
        # Who leads acts at once, on all that it knows: a replica that knows nothing yet is not fit to.
        await engine.sweep.synced.wait()
        await engine.book.complete.wait()
        await elector.run(engine.lead, engine.follow)


async def _finish(engine: Engine, engine_ends: asyncio.Future[None]) -> bool:
    """Whether every call under way came to its end: only then may another replica take over without waiting."""
    engine.stop()
    _, late = await asyncio.wait({engine_ends}, timeout=_FINISH_WITHIN)
    if late:
        log.warning("calls under way were cut off", seconds=_FINISH_WITHIN)
        engine_ends.cancel()
    return not late and engine_ends.exception() is None


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def checks(engine: Engine) -> tuple[Mapping[str, http.Check], Mapping[str, http.Check]]:
    def synced() -> str | None:
        since = engine.sweep.blind_since
        blind = 0.0 if since is None else asyncio.get_running_loop().time() - since
        if blind > _BLIND_AFTER:
            return f"the objects can't be listed for {blind:.0f} s"
        if not engine.sweep.synced.is_set():
            return "the objects are not all known yet"
        return None if engine.book.complete.is_set() else "the access policies are not known yet"

    def batch_answers() -> str | None:
        silent = engine.silent_for()
        return f"no usable answer for {silent:.0f} s" if silent > _BATCH_SILENT_AFTER else None

    live = {"engine": http.fresh(lambda: engine.beat_at, _HUNG_AFTER)}
    return live, {"synced": synced, "batch": batch_answers}


def run(settings: Settings) -> NoReturn:
    """`serve` in a loop of its own. Does not return once it served: it ends the process with its exit code."""
    # What the imports made lives as long as the process, and an answer of DescribeJobs is thousands of short-lived
    # dicts without a cycle: the collector's defaults would walk through both all the time, for a fifth of all CPU.
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()
    code = asyncio.run(serve(settings))
    # Libraries tidy up here; above all, the keys of a kubeconfig are files in the temporary directory until then.
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way to run them without joining threads
    # A thread may still sit in a call to AWS that nobody waits for any more; leaving by the front door would.
    os._exit(code)
