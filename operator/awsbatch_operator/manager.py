"""One operator process: wires the packages together, starts them in order, and stops without losing calls under way."""

import asyncio
import ctypes
import gc
import os
import platform
import secrets
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from types import FrameType
from typing import Final

import structlog

from awsbatch_operator import __version__
from awsbatch_operator.aws.provider import AwsBatch
from awsbatch_operator.aws.regions import KnownRegions
from awsbatch_operator.aws.sdk_session import ClientFactory
from awsbatch_operator.config import Settings
from awsbatch_operator.controller.controller import Controller
from awsbatch_operator.controller.dependencies import Dependencies, wall_clock
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.handlers.watch import EventBuffer, Watch, WatchError, make_registry
from awsbatch_operator.kube import second_operator
from awsbatch_operator.kube.batchjobs import KubeBatchJobClient
from awsbatch_operator.kube.batchterminations import BatchTerminationInformer
from awsbatch_operator.kube.client import ApiError, KubeClient
from awsbatch_operator.kube.credentials import Login, NoClusterError
from awsbatch_operator.kube.events import EventPoster
from awsbatch_operator.kube.exec_plugin import kill_plugins
from awsbatch_operator.kube.lease import LeaderElector, LeaseError
from awsbatch_operator.kube.lease_reader import KNOWN_FOR, LeaseReader
from awsbatch_operator.kube.policy_informer import PolicyInformer
from awsbatch_operator.kube.policy_status import PolicyStatusWriter
from awsbatch_operator.kube.preflight import PreflightError
from awsbatch_operator.observability import http
from awsbatch_operator.observability.metrics import Metrics

_HUNG_AFTER: Final = 30.0
_BATCH_SILENT_AFTER: Final = 120.0
_LIST_FAILING_AFTER: Final = 60.0
_LOGIN_FAILING_AFTER: Final = 60.0
_WATCH_LAGS_AFTER: Final = 10.0
_PREPARED_WITHIN: Final = 1.0
"""Seconds that credentials may take to be found before the watch starts without them."""
_FINISH_WITHIN: Final = 6.0
"""Seconds after SIGTERM for calls under way and their writes; Kubernetes kills after 30, the operator promises 10."""
_END_WITHIN: Final = 9.0
"""Seconds after SIGTERM when the process ends, whatever hangs."""
_COLLECTIONS: Final = (10_000, 20, 20)
_NEVER: Final = 1_000_000
"""Thresholds of the garbage collector's generations; and of the oldest one until the first list is there."""
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""Parameters of mallopt(3)."""
_LARGE_BLOCK: Final = 128 * 1024
"""Bytes; glibc's default, which it would raise with each larger block that is freed."""

log = structlog.get_logger(__name__)


class StartError(Exception):
    """The operator can't start; the message is the one line that its user needs."""

    exit_code = 1


class SecondOperatorError(StartError):
    """Another operator acts on the cluster, and no flag says that this one may start."""

    exit_code = 2


async def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT (0), or until a part of it ends by itself (1). Raises StartError."""
    region, login = settings.region, await _login(settings)
    async with AsyncExitStack() as parts:
        metrics = Metrics(role_label=settings.metrics_role_label)
        leadership = _Leadership() if settings.leader_elect else None
        policies = PolicyCache(settings.policy_mode(), region, asyncio.get_running_loop().time, wall_clock)
        regions = KnownRegions((region, *settings.allow_region), policies.regions)
        provider = await parts.enter_async_context(_provider(settings, regions, metrics, leadership))
        # A tenth of a second that passes while the Kubernetes API answers; beside a first list it would be three.
        preparing = asyncio.create_task(provider.prepare(region))
        parts.callback(preparing.cancel)
        kube = await parts.enter_async_context(KubeClient(login))
        events = await parts.enter_async_context(EventPoster(kube, platform.node()))
        client = KubeBatchJobClient(kube, events, settings.namespace, on_delete=settings.on_delete == "enabled")
        dependencies = Dependencies(provider, client, metrics, provider.events, is_leader=leadership)
        controller = Controller(
            dependencies,
            region=region,
            intervals=settings.poll_intervals(),
            policies=policies,
            unattended_limit=settings.unattended_limit,
            events_queues=settings.events_queue,
            list_polls=settings.list_polls,
        )
        policy_statuses = partial(controller.policy_statuses, all_jobs=not settings.namespace)
        statuses = PolicyStatusWriter(kube, policy_statuses, controller.leadership.may_act)
        informer = PolicyInformer(kube, policies, statuses, settings.policy_mode())
        read_policies = settings.access_policy != "disabled"
        try:
            await asyncio.gather(client.preflight(), *([informer.preflight()] if read_policies else []))
        except PreflightError as error:
            raise StartError(str(error)) from error
        if leadership is None and not settings.leader_elect_given():
            await _check_alone(kube)
        lease_namespace = settings.lease_namespace or login.namespace
        lease: LeaderElector | LeaseReader = LeaseReader(kube, lease_namespace, settings.lease_name)
        if leadership is not None:
            lease = leadership.elector = await _elector(kube, lease_namespace, settings.lease_name)
        metrics.observe(controller.cache.count_by_key, controller.depths)
        metrics.observe_terminations(controller.bulk.count)
        metrics.observe_polls(controller.events.alive, controller.lists.listed)
        metrics.observe_holds(controller.holds.count_by_cause, controller.holds.suspended_by)
        await _serve_http(parts, metrics, checks(controller, login.pending_for), settings)
        await asyncio.wait({preparing}, timeout=_PREPARED_WITHIN)
        log.info("operator starts", version=__version__, region=region, namespaces=settings.namespace or "all")
        terminations = BatchTerminationInformer(kube, controller.bulk, settings.namespace)
        controller.bulk.relist = terminations.relist
        watch_policies = partial(_watch_policies, informer, statuses) if read_policies else partial(_ignore, policies)
        buffer = EventBuffer(asyncio.get_running_loop(), controller.objects)
        watch = Watch(make_registry(login, buffer), settings.namespace)
        informers: dict[str, Callable[[], Awaitable[None]]] = {
            "watch of access policies": watch_policies,
            "watch of BatchTerminations": terminations.run,
        }
        return await _work(controller, lease, metrics, watch, informers)


async def _login(settings: Settings) -> Login:
    try:
        return await asyncio.to_thread(Login, settings.kubeconfig, settings.context)
    except NoClusterError as error:
        raise StartError(str(error)) from error


async def _serve_http(parts: AsyncExitStack, metrics: Metrics, probes: "Probes", settings: Settings) -> None:
    app = http.make_app(metrics.registry, *probes)
    try:
        await parts.enter_async_context(http.serve(app, *settings.http_address))
    except http.ListenError as error:
        raise StartError(str(error)) from error


async def _check_alone(client: KubeClient) -> None:
    """Raise SecondOperatorError if an operator holds a Lease in this cluster; warn if the Leases can't be listed."""
    try:
        held = await second_operator.held_leases(client)
    except ApiError as error:
        if error.status != 403:
            raise StartError(f"cannot tell whether another operator runs on this cluster: {error.message}") from error
        log.warning(
            "cannot list leases (RBAC), so the operator does not notice another operator on this cluster; "
            "grant list on leases (apiGroups: [coordination.k8s.io]) by a ClusterRole, or set --leader-elect "
            "or --no-leader-elect",
            error=error.message,
        )
        return
    if held:
        raise SecondOperatorError(second_operator.explain(held))


async def _elector(client: KubeClient, namespace: str, name: str) -> LeaderElector:
    elector = LeaderElector(client, namespace, name, f"{platform.node()}_{secrets.token_hex(4)}")
    try:
        await elector.check()
    except LeaseError as error:
        raise StartError(str(error)) from error
    return elector


class _Leadership:
    """Whether the elector says that this process may act now. For any thread. Not before there is an elector."""

    elector: LeaderElector | None = None

    def __call__(self) -> bool:
        return self.elector is not None and self.elector.is_leader


@asynccontextmanager
async def _provider(
    settings: Settings, regions: KnownRegions, metrics: Metrics, is_leader: Callable[[], bool] | None
) -> AsyncIterator[AwsBatch]:
    provider = AwsBatch(
        telemetry=metrics,
        make_client=ClientFactory(is_leader),
        cluster=settings.cluster_name,
        regions=regions,
        describe_rate=settings.describe_rate,
        terminate_rate=settings.terminate_rate,
    )
    try:
        yield provider
    finally:
        provider.close()


async def _work(
    controller: Controller,
    lease: LeaderElector | LeaseReader,
    metrics: Metrics,
    watch: Watch,
    informers: Mapping[str, Callable[[], Awaitable[None]]],
) -> int:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()
    _handle_signals(loop, stop)
    controller.resync.restart_watch = watch.restart
    control, lag = asyncio.ensure_future(controller.run()), asyncio.ensure_future(metrics.sample_loop_lag())
    freezing = asyncio.ensure_future(_freeze(controller.resync.synced))
    informing = {asyncio.ensure_future(run()): name for name, run in informers.items()}
    watching, election = watch.start(), asyncio.ensure_future(_elect(lease, controller))
    components = {
        control: "controller",
        watching: "watch of BatchJobs",
        election: "leader election",
    } | informing
    ended, _ = await asyncio.wait({*components, stop}, return_when=asyncio.FIRST_COMPLETED)
    for component in ended & components.keys():
        _log_end(components[component], component.exception())
    log.info("operator stops")
    watch.stop()
    finished = await _finish(controller, control)
    election.cancel()
    await asyncio.wait({election})
    if isinstance(lease, LeaderElector) and finished:
        await lease.release()
    for task in (lag, freezing, *informing):
        task.cancel()
    await asyncio.wait({control, watching, lag, *informing}, timeout=1.0)
    return 0 if ended == {stop} else 1


def _log_end(component: str, error: BaseException | None) -> None:
    # An API server that ends the watch is no fault of the operator: the traceback would hide the remedy.
    reason = {"error": str(error)} if isinstance(error, WatchError) else {"exc_info": error}
    log.error("exiting: a component stopped", component=component, **reason)


async def _watch_policies(informer: PolicyInformer, statuses: PolicyStatusWriter) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(informer.run())
        tasks.create_task(statuses.run())


async def _ignore(policies: PolicyCache) -> None:
    """Act as if there were no policy, until cancelled."""
    log.warning("access policies are not read: every BatchJob uses the operator's own credentials")
    policies.on_policies({})
    policies.on_namespaces({})
    await asyncio.Event().wait()


async def _elect(lease: LeaderElector | LeaseReader, controller: Controller) -> None:
    on_annotations = partial(controller.holds.on_lease, lease.title)
    if isinstance(lease, LeaseReader):
        async with asyncio.TaskGroup() as tasks:
            known_for_a_while = partial(on_annotations, known_for=KNOWN_FOR)
            tasks.create_task(lease.run(known_for_a_while, controller.doubt))
            # What was stated before may be suspended.
            await lease.known.wait()
            await controller.on_started_leading()
    else:
        # A leader acts at once on all that it knows: a replica that knows nothing yet must not become leader.
        await controller.resync.synced.wait()
        await controller.policies.complete.wait()
        await lease.run(controller.on_started_leading, controller.on_stopped_leading, controller.doubt, on_annotations)


async def _finish(controller: Controller, control: asyncio.Future[None]) -> bool:
    """Whether every call under way came to its end: only then may another replica take over without waiting."""
    controller.stop()
    _, late = await asyncio.wait({control}, timeout=_FINISH_WITHIN)
    if late:
        log.warning("requests in flight were cancelled", seconds=_FINISH_WITHIN)
        control.cancel()
    return not late and control.exception() is None


def _handle_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Future[None]) -> None:
    """Resolve `stop` at a signal, and end the process in any case: the loop, too, may hang, in a write to stdout."""

    def end() -> None:
        kill_plugins()
        os._exit(0)

    def resolve() -> None:
        if not stop.done():
            stop.set_result(None)

    def handle(_signum: int, _frame: FrameType | None) -> None:
        timer = threading.Timer(_END_WITHIN, end)
        timer.daemon = True
        timer.start()
        loop.call_soon_threadsafe(resolve)

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, handle)


Probes = tuple[Mapping[str, http.Check], Mapping[str, http.Check]]
"""The checks of /livez and of /readyz."""


def checks(controller: Controller, login_pending_for: Callable[[], float]) -> Probes:
    """Return the probes. `login_pending_for`: seconds for which no login to Kubernetes has succeeded."""

    def since(at: float | None) -> float:
        return 0.0 if at is None else asyncio.get_running_loop().time() - at

    def synced() -> str | None:
        if not controller.resync.synced.is_set():
            return "not all BatchJobs are read yet"
        return None if controller.policies.complete.is_set() else "the access policies are not read yet"

    def listed() -> str | None:
        seconds = since(controller.resync.list_failed_since)
        return f"listing BatchJobs has failed for {seconds:.0f} s" if seconds > _LIST_FAILING_AFTER else None

    def watched() -> str | None:
        seconds = since(controller.resync.watch_lags_since)
        return f"the watch of BatchJobs has lagged for {seconds:.0f} s" if seconds > _WATCH_LAGS_AFTER else None

    def logged_in() -> str | None:
        seconds = login_pending_for()
        return f"no login to Kubernetes for {seconds:.0f} s" if seconds > _LOGIN_FAILING_AFTER else None

    def batch_answers() -> str | None:
        seconds = controller.silent_for()
        return f"AWS Batch has given no usable response for {seconds:.0f} s" if seconds > _BATCH_SILENT_AFTER else None

    live = {"controller": http.fresh(lambda: controller.beat_at, _HUNG_AFTER)}
    return live, {"login": logged_in, "synced": synced, "list": listed, "watch": watched, "batch": batch_answers}


def run(settings: Settings) -> int:
    """Run `serve` in a loop of its own and return its exit code. Threads may still be in calls that were abandoned."""
    # What the imports made lives as long as the process, and an answer of DescribeJobs is thousands of short-lived
    # dicts without a cycle: the collector's defaults would walk through both all the time, for a fifth of all CPU.
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS[:2], _NEVER)
    gc.enable()
    _bound_malloc()
    # Not asyncio.run: it would wait for those threads.
    return asyncio.Runner().run(serve(settings))


async def _freeze(synced: asyncio.Event) -> None:
    """Let the collector pass over the objects of the first list, once they are there.

    They live long and are in no cycle; with 100,000, to walk through them takes 0.8 s, in which nothing else runs.
    """
    await synced.wait()
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)


def _bound_malloc() -> None:
    """Let all threads of the process share one heap, and give each large block back to the system when it is freed.

    By default glibc keeps a heap for each thread, and keeps freed answers of Kubernetes and AWS in it: 19 MiB with
    10,000 jobs and 300 roles. Other C libraries have no such settings.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
