"""`ls`, `stop` and `adopt`: BatchJobs by name, by label or by the id of their job."""

from __future__ import annotations

from kubectl_awsbatch import output
from kubectl_awsbatch.adoption import DRY_RUN, adoption, create, find_id, name_for
from kubectl_awsbatch.errors import FAILED, INTERRUPTED, OK, STALLED, TIMED_OUT, CommandError, UsageError
from kubectl_awsbatch.kubectl import JOBS, TERMINATIONS, KubectlError
from kubectl_awsbatch.output import clean, quoted
from kubectl_awsbatch.states import accepted_reason, condition, holds, key, phase_text, stated_reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from kubectl_awsbatch.kubectl import Kubectl

    Object = dict[str, Any]
    Key = tuple[str, str]

_TRIES = 8
"""Patches of one object that other writers changed meanwhile, such as the operator its status."""
_AT_ONCE = 6
"""Objects that are changed at the same time. Each takes a kubectl; more objects share a `kubectl proxy`."""
LONGEST_REASON = 1024


class Selection:
    """The BatchJobs that `stop` is for: by name, by label, or by the id of their job; one of the three."""

    __slots__ = ("ids", "names", "selector")

    def __init__(self, names: Sequence[str] = (), selector: str = "", ids: Sequence[str] = ()) -> None:
        self.names, self.selector, self.ids = names, selector, ids


class StopOptions:
    """Options of `stop`. `region` is that of job ids, `timeout` in seconds."""

    __slots__ = ("as_json", "dry_run", "overwrite", "reason", "region", "timeout", "wait")

    def __init__(
        self,
        reason: str,
        *,
        region: str | None = None,
        overwrite: bool = False,
        dry_run: bool = False,
        wait: bool = False,
        timeout: float | None = None,
        as_json: bool = False,
    ) -> None:
        self.reason, self.region, self.overwrite, self.dry_run = reason, region, overwrite, dry_run
        self.wait, self.timeout, self.as_json = wait, timeout, as_json


class Result:
    """The result for one object. `code` is its exit code: not 0 if the termination could not be requested."""

    __slots__ = ("action", "body", "code", "key", "message")

    def __init__(self, one: Key, action: str, message: str, body: Object | None = None, *, code: int = OK) -> None:
        self.key, self.action, self.message, self.body, self.code = one, action, message, body, code

    @property
    def done(self) -> bool:
        return self.code == OK


def check_reason(reason: str) -> str:
    """Return the reason. Raises UsageError for one that AWS Batch or the API server would refuse."""
    example = 'Say why to terminate the jobs, for example --reason "INC-4711: runaway cost".'
    if not any(one.isprintable() and not one.isspace() for one in reason):
        raise UsageError("--reason is blank", example)
    if len(reason) > LONGEST_REASON:
        raise UsageError(f"--reason has {len(reason)} characters; AWS Batch accepts {LONGEST_REASON}", "Shorten it.")
    try:
        reason.encode()
    except UnicodeEncodeError:
        raise UsageError("--reason is not valid UTF-8", "Check the encoding of the terminal or script.") from None
    return reason


def stop(kubectl: Kubectl, selection: Selection, options: StopOptions) -> int:
    """The command `stop` for BatchJobs. All objects are tried.

    If objects could not be stopped, the exit code is that of their cause, and 1 if they have different ones.
    """
    output.note(f"{kubectl.cluster_context()}{DRY_RUN if options.dry_run else ''}")
    work = _work(kubectl, selection, options)
    results: list[Result] = []
    try:
        return _stop_each(kubectl, work, options, results)
    except KeyboardInterrupt:
        if len(results) < len(work):
            output.note(
                "interrupted; objects without a line above may or may not have been changed: run the command again"
            )
        else:
            output.note("interrupted; requested terminations continue")
        return INTERRUPTED


def _stop_each(
    kubectl: Kubectl, work: Sequence[Callable[[], Result]], options: StopOptions, results: list[Result]
) -> int:
    for result in _each(kubectl, work):
        results.append(result)
        if not options.as_json:
            output.write(f"{_named(result.key, kubectl)}: {result.message}\n")
    failed, ended = _common_code(results), OK
    waited: dict[Key, Object] = {}
    if options.wait and not options.dry_run:
        ended, waited = _wait(kubectl, [one.key for one in results if one.done], options)
    if options.as_json:
        output.write_json([_summary(one, waited.get(one.key)) for one in results])
    return STALLED if STALLED in (failed, ended) else ended or failed


def _common_code(results: Sequence[Result]) -> int:
    codes = {one.code for one in results if not one.done}
    return FAILED if len(codes) > 1 else next(iter(codes), OK)


def _work(kubectl: Kubectl, selection: Selection, options: StopOptions) -> list[Callable[[], Result]]:
    """One function for each object."""
    if selection.ids:
        return [lambda job_id=one: _stop_id(kubectl, job_id, options) for one in dict.fromkeys(selection.ids)]  # type: ignore[misc]
    if selection.selector:
        found = kubectl.get(JOBS, selector=selection.selector)
        if not found:
            raise CommandError(f"no BatchJob matches the selector {quoted(selection.selector)}", exit_code=STALLED)
        return [lambda body=one: _stop_found(kubectl, body, options) for one in found]  # type: ignore[misc]
    wanted = list(dict.fromkeys(selection.names))
    known = {key(body)[1]: body for body in kubectl.get(JOBS, wanted)}

    def one_of(name: str) -> Result:
        if name in known:
            return _stop_found(kubectl, known[name], options)
        hint = where_else(kubectl, name)
        message = f"there is no such BatchJob{f'. {hint}' if hint else ''}"
        return Result((kubectl.cluster_context().namespace, name), "missing", message, code=STALLED)

    return [lambda name=name: one_of(name) for name in wanted]  # type: ignore[misc]


def _each(kubectl: Kubectl, work: Sequence[Callable[[], Result]]) -> Iterator[Result]:
    if len(work) == 1:
        yield work[0]()
        return
    if len(work) > _AT_ONCE and not kubectl.proxy:
        from kubectl_awsbatch.proxy import Proxy

        with Proxy(kubectl) as kubectl.proxy:
            yield from _each(kubectl, work)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = [pool.submit(one) for one in work]
        try:
            for one in running:
                yield one.result()
        finally:
            # After an error or Ctrl-C, what has not begun is not begun.
            pool.shutdown(cancel_futures=True)


def _stop_found(kubectl: Kubectl, body: Object, options: StopOptions) -> Result:
    """State the termination, unless there is nothing to do; errors become results."""
    try:
        return _state(kubectl, body, options)
    except KubectlError as error:
        return Result(key(body), "failed", f"error: {error}", body, code=error.exit_code)


def _state(kubectl: Kubectl, body: Object, options: StopOptions) -> Result:
    uid = body["metadata"]["uid"]
    for _ in range(_TRIES):
        if settled := why_unneeded(body, options):
            return Result(key(body), *settled, body)
        before = stated_reason(body)
        try:
            changed = kubectl.patch(
                JOBS, body, {"spec": {"terminate": {"reason": options.reason}}}, dry_run=options.dry_run
            )
        except KubectlError as error:
            if error.kind not in ("conflict", "not found"):
                raise
            found = kubectl.get(JOBS, [key(body)[1]], namespace=key(body)[0])
            if not found or found[0]["metadata"]["uid"] != uid:
                return Result(key(body), "missing", "the object was deleted in the meantime", code=STALLED)
            body = found[0]
            continue
        return Result(key(body), "stated", _stated(changed, before, options), changed)
    message = "error: other writers kept changing it; run the command again"
    return Result(key(body), "failed", message, body, code=FAILED)


def why_unneeded(body: Object, options: StopOptions) -> tuple[str, str] | None:
    """Why the object needs no patch, in one word and in a sentence; None if it does."""
    if holds(body, "Finished"):
        reason = clean(condition(body, "Finished").get("reason"))
        return "finished", f"already finished ({reason}); nothing to do"
    accepted = accepted_reason(body)
    if accepted is not None:
        other = "" if accepted == options.reason else f"; your reason {quoted(options.reason)} is too late"
        return "accepted", f"AWS already accepted its termination with the reason {quoted(accepted)}{other}"
    before = stated_reason(body)
    if before == options.reason:
        return "unchanged", f"the termination is already requested; {phase_text(body)}"
    if before is not None and not options.overwrite:
        return "kept", (
            f"a termination is already requested, with the reason {quoted(before)}, and is kept (--overwrite "
            f"replaces the reason until AWS accepts it); {phase_text(body)}"
        )
    return None


def _stated(body: Object, before: str | None, options: StopOptions) -> str:
    instead = f" instead of {quoted(before)}" if before is not None else ""
    would = "would be requested" if options.dry_run else "requested"
    return f"termination {would}, reason {quoted(options.reason)}{instead}; {phase_text(body)}"


def _stop_id(kubectl: Kubectl, job_id: str, options: StopOptions) -> Result:
    try:
        found = find_id(kubectl, job_id, options.region)
        if found:
            return _stop_found(kubectl, found[0], options)
        body = adoption(job_id, options.region, name_for(job_id), options.reason)
        created, is_new = create(kubectl, body, dry_run=options.dry_run)
        if not is_new:
            return _stop_found(kubectl, created, options)
    except CommandError as error:
        one = (kubectl.cluster_context().namespace, name_for(job_id))
        return Result(one, "failed", f"error: {error}", code=error.exit_code)
    would = "would be created" if options.dry_run else "created"
    message = f"{would} for job {job_id}, termination requested, reason {quoted(options.reason)}"
    return Result(key(created), "adopted", message, created)


def _wait(kubectl: Kubectl, keys: Sequence[Key], options: StopOptions) -> tuple[int, dict[Key, Object]]:
    """3 if one needs a person, 124 at the timeout, else 0: to have ended is what was asked for, however it ended."""
    from kubectl_awsbatch import following, waiting

    if not keys:
        return OK, {}
    show = waiting.show_nothing if options.as_json else waiting.show(everywhere=kubectl.everywhere)
    follower = following.ObjectFollower(kubectl, JOBS, keys, following.Timer(options.timeout))
    decided = waiting.wait_for_jobs(follower, keys, show)
    codes = {found.code for found, _ in decided.values()}
    code = STALLED if STALLED in codes else TIMED_OUT if TIMED_OUT in codes else OK
    return code, {one: waiting.summary(one, *pair) for one, pair in decided.items()}


def _named(one: Key, kubectl: Kubectl) -> str:
    return f"{one[0]}/batchjob/{one[1]}" if kubectl.everywhere else f"batchjob/{one[1]}"


def _summary(result: Result, waited: Object | None) -> Object:
    spec = (result.body or {}).get("spec", {})
    shown: Object = {
        "namespace": result.key[0],
        "name": result.key[1],
        "jobId": spec.get("jobId"),
        "action": result.action,
        "done": result.done,
        "message": result.message,
    }
    return shown if waited is None else {**shown, "outcome": waited["outcome"], "outcomeReason": waited["reason"]}


def where_else(kubectl: Kubectl, name: str, kind: str = JOBS) -> str:
    """A sentence that names the namespaces in which an object of that name exists; empty if none is known."""
    found = kubectl.get_everywhere(kind, f"metadata.name={name}")
    spaces = [key(body)[0] for body in found if key(body)[0] != kubectl.cluster_context().namespace]
    word = "BatchTermination" if kind == TERMINATIONS else "BatchJob"
    if not spaces:
        return ""
    others = f" and {len(spaces) - 5} more" if len(spaces) > 5 else ""
    return f"A {word} with the name {name} exists in the namespace {', '.join(spaces[:5])}{others}: use -n."
