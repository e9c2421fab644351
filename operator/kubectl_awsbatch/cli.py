"""The command line of `kubectl awsbatch`."""

from __future__ import annotations

import os
import sys

from kubectl_awsbatch import __version__, output
from kubectl_awsbatch.arguments import COMMANDS, EXIT_CODES, PROGRAM, find_command, kubectl_with, object_name, parser_of
from kubectl_awsbatch.errors import INTERNAL, INTERRUPTED, OK, USAGE, CommandError, UsageError
from kubectl_awsbatch.kubectl import JOBS, TERMINATIONS, Kubectl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence


def _run(words: Sequence[str]) -> int:
    command, rest = find_command(words)
    if command is None and ("--version" in rest):
        command, rest = "version", []
    if command in (None, "help") or (command not in COMMANDS and command != "__complete"):
        return _no_command(command, rest)
    assert command
    if command == "__complete":
        from kubectl_awsbatch import completion

        return completion.complete(words[1:])
    found = parser_of(command).parse_intermixed_args(rest)
    return _ACTIONS[command](found)


def _no_command(command: str | None, rest: Sequence[str]) -> int:
    if command == "help" and rest and rest[0] in COMMANDS:
        output.write(parser_of(rest[0]).format_help())
        return OK
    command = rest[0] if command == "help" and rest and not rest[0].startswith("-") else command
    lines = "".join(f"  {name:<12}{text}\n" for name, text in COMMANDS.items())
    usage = f"usage: {PROGRAM} COMMAND [flags]\n\n{lines}\n{PROGRAM} COMMAND --help shows the flags.\n\n{EXIT_CODES}\n"
    if command == "help" or (command is None and (not rest or {"-h", "--help"} & {*rest})):
        output.write(usage)
        return OK if command == "help" or rest else USAGE
    raise UsageError(
        f"{output.quoted(command)} is not a command" if command else "a command is missing",
        f"Commands: {', '.join(COMMANDS)}.",
    )


def _ls(found: Namespace) -> int:
    from kubectl_awsbatch.listing import ls

    return ls(kubectl_with(found), found.selector, as_json=bool(found.output))


def _stop(found: Namespace) -> int:
    from kubectl_awsbatch import adoption, jobs, waiting

    _one_way(found)
    timeout = None if found.timeout is None else waiting.seconds_of(found.timeout)
    reason, kubectl = jobs.check_reason(found.reason), kubectl_with(found)
    if found.queue:
        from kubectl_awsbatch import terminations
        from kubectl_awsbatch.bulk_selection import BulkSelection

        bulk = BulkSelection(
            found.queue, names=found.name, tags=found.tag, region=found.region, reason=reason, jobs_at_most=found.max
        )
        return terminations.stop_queue(
            kubectl, bulk, timeout, yes=found.yes, dry_run=found.dry_run, as_json=bool(found.output)
        )
    options = jobs.StopOptions(
        reason,
        region=found.region,
        overwrite=found.overwrite,
        dry_run=found.dry_run,
        wait=found.wait,
        timeout=timeout,
        as_json=bool(found.output),
    )
    names = [object_name(word)[0] for word in found.names]
    selection = jobs.Selection(names, found.selector, [adoption.check_id(one) for one in found.job_id])
    return jobs.stop(kubectl, selection, options)


def _one_way(found: Namespace) -> None:
    """Raise UsageError unless exactly one way to choose jobs is given, with the flags that belong to it."""
    ways = [bool(found.names), bool(found.selector), bool(found.job_id), bool(found.queue)]
    if sum(ways) != 1:
        raise UsageError(
            "stop needs exactly one of NAME..., -l, --job-id and --queue" if any(ways) else "stop names no job",
            f"See `{PROGRAM} stop --help`.",
        )
    bulk = {"--name": found.name, "--tag": found.tag, "--max": found.max is not None, "--yes": found.yes}
    if not found.queue and (alone := [flag for flag, given in bulk.items() if given]):
        raise UsageError(f"{', '.join(alone)} can be used only with --queue")
    if found.queue and found.overwrite:
        raise UsageError("--overwrite cannot be used with --queue")
    if found.queue and (found.max is None or found.max < 1):
        raise UsageError("--queue needs --max N, at least 1: if more jobs match, none is terminated")
    if found.region and not (found.queue or found.job_id):
        raise UsageError("--region can be used only with --job-id or --queue")
    if found.all_namespaces and not found.selector:
        raise UsageError("-A can be used only with -l")


def _wait(found: Namespace) -> int:
    from kubectl_awsbatch import waiting

    if bool(found.names) == bool(found.selector):
        raise UsageError("wait needs either NAME... or -l", f"See `{PROGRAM} wait --help`.")
    if found.all_namespaces and not found.selector:
        raise UsageError("-A can be used only with -l")
    timeout = None if found.timeout is None else waiting.seconds_of(found.timeout)
    names = [object_name(word)[0] for word in found.names]
    return waiting.wait(kubectl_with(found), names, found.selector, timeout, as_json=bool(found.output))


def _why(found: Namespace) -> int:
    from kubectl_awsbatch.explain import why

    name, kind = object_name(found.name, (JOBS, TERMINATIONS))
    return why(kubectl_with(found), name, kind, as_json=bool(found.output))


def _logs(found: Namespace) -> int:
    from kubectl_awsbatch.logs import logs

    return logs(kubectl_with(found), object_name(found.name)[0], follow=found.follow)


def _adopt(found: Namespace) -> int:
    from kubectl_awsbatch import adoption

    name = object_name(found.name)[0] if found.name is not None else None
    return adoption.adopt(kubectl_with(found), adoption.check_id(found.id), name, found.region, dry_run=found.dry_run)


def _completion(found: Namespace) -> int:
    from kubectl_awsbatch import completion

    return completion.script(found.shell)


def _version(_found: Namespace) -> int:
    output.write(f"kubectl-awsbatch {__version__}\npython {sys.version.split()[0]}\n")
    output.write(Kubectl().run("version", "--client"))
    return OK


_ACTIONS: dict[str, Callable[[Namespace], int]] = {
    "ls": _ls,
    "stop": _stop,
    "wait": _wait,
    "why": _why,
    "logs": _logs,
    "adopt": _adopt,
    "completion": _completion,
    "version": _version,
}


def main() -> int:
    """Entry point of `kubectl-awsbatch`."""
    output.set_up()
    if os.path.basename(sys.argv[0]).startswith("kubectl_complete-"):
        from kubectl_awsbatch import completion

        return completion.main()
    try:
        return _run(sys.argv[1:])
    except CommandError as error:
        output.note(f"{PROGRAM}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        output.note("interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 (a person gets one line, not a traceback)
        output.note(f"kubectl awsbatch: internal error, please report it: {_where(error)}")
        return INTERNAL


def _where(error: Exception) -> str:
    at, place = error.__traceback__, ""
    while at:
        place = f"{at.tb_frame.f_code.co_name}:{at.tb_lineno}"
        at = at.tb_next
    return f"{type(error).__name__}: {output.clean(error)} in {place} of version {__version__}"
