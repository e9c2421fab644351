"""The words of the command line: commands, flags, names."""

from __future__ import annotations

import argparse
import re

from kubectl_awsbatch import output
from kubectl_awsbatch.errors import UsageError
from kubectl_awsbatch.kubectl import JOBS, TERMINATIONS, Kubectl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

PROGRAM = "kubectl awsbatch"
COMMANDS = {
    "ls": "list BatchJobs and BatchTerminations",
    "stop": "terminate jobs: by object, by job id, or all matching jobs of queues",
    "wait": "wait until jobs have finished; the exit code shows the result",
    "why": "explain the state of an object, what delays it, and what to do",
    "logs": "print the log of a job, with your own AWS credentials",
    "adopt": "create the BatchJob of an existing job",
    "completion": "print the completion script for a shell",
    "version": "print versions",
}
EXIT_CODES = """\
exit codes: 0 done, 1 at least one object failed, 3 a person must act (stalled, missing, refused), 4 not approved,
  64 wrong usage, 69 no kubectl, no cluster or not installed, 77 no permission, 124 timeout, 130 interrupted
  wait: 0 succeeded, 1 failed, 2 terminated, 3 stalled or missing, 124 timeout; of several jobs the worst, in the
  order 3, 124, 1, 2, 0"""
REGION = "[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}"
"""The same pattern as in the custom resource definitions."""
_PASSED_ON = ("kubeconfig", "context", "as", "as-group")
_KINDS = {
    **dict.fromkeys(("bj", "batchjob", "batchjobs", JOBS), JOBS),
    **dict.fromkeys(("bt", "batchtermination", "batchterminations", TERMINATIONS), TERMINATIONS),
}


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"See `{self.prog} --help`.")


def _place_flags(parser: Parser, *, everywhere: bool = False) -> None:
    group = parser.add_argument_group("cluster and namespace, as for kubectl")
    group.add_argument("-n", "--namespace", metavar="NS")
    group.add_argument("--context", metavar="NAME")
    group.add_argument("--kubeconfig", metavar="FILE")
    group.add_argument("--as", dest="as_", metavar="USER")
    group.add_argument("--as-group", metavar="GROUP", action="append")
    if everywhere:
        group.add_argument("-A", "--all-namespaces", action="store_true")


def _json_flag(parser: Parser) -> None:
    parser.add_argument("-o", "--output", choices=("json",), help="print JSON")


def parser_of(command: str) -> Parser:
    parser = Parser(
        prog=f"{PROGRAM} {command}",
        description=COMMANDS[command][0].upper() + COMMANDS[command][1:] + ".",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if command in ("completion", "version"):
        if command == "completion":
            parser.add_argument("shell", choices=("bash", "zsh", "fish"))
        return parser
    _FLAGS[command](parser)
    _place_flags(parser, everywhere=command in ("ls", "stop", "wait"))
    return parser


def _ls_flags(parser: Parser) -> None:
    parser.add_argument("-l", "--selector", default="", metavar="LABELS", help="only objects with these labels")
    _json_flag(parser)


def _stop_flags(parser: Parser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="name of a BatchJob")
    parser.add_argument("--reason", required=True, help="why to terminate, 1 to 1024 characters; sent to AWS unchanged")
    parser.add_argument("-l", "--selector", default="", metavar="LABELS", help="all BatchJobs with these labels")
    parser.add_argument(
        "--job-id",
        action="append",
        default=[],
        metavar="ID",
        help="id of a job in AWS Batch; creates its BatchJob if there is none",
    )
    parser.add_argument(
        "--region",
        type=check_region,
        help="region of --job-id or --queue [default: the operator's; --queue: AWS_REGION]",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a different reason that is already requested")
    parser.add_argument("--wait", action="store_true", help="wait until the jobs have finished (--queue always waits)")
    parser.add_argument("--timeout", metavar="TIME", help="longest wait, such as 90s, 5m or 1h [default: none]")
    parser.add_argument(
        "--dry-run", action="store_true", help="change nothing; --queue: count only, then delete the object"
    )
    _json_flag(parser)
    bulk = parser.add_argument_group("all jobs of queues, by a BatchTermination")
    bulk.add_argument("--queue", action="append", default=[], metavar="Q", help="name of a job queue; repeatable")
    bulk.add_argument(
        "--name", action="append", default=[], metavar="'N*'", help="job name, or prefix followed by *; repeatable"
    )
    bulk.add_argument(
        "--tag", action="append", default=[], metavar="K=V", help="tag that the jobs must have; repeatable"
    )
    bulk.add_argument("--max", type=int, metavar="N", help="if more jobs match, none is terminated")
    bulk.add_argument("--yes", action="store_true", help="approve without asking")


def _wait_flags(parser: Parser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="name of a BatchJob")
    parser.add_argument(
        "-l", "--selector", default="", metavar="LABELS", help="all BatchJobs that have these labels now"
    )
    parser.add_argument("--timeout", metavar="TIME", help="longest wait, such as 90s, 5m or 1h [default: none]")
    _json_flag(parser)


def _why_flags(parser: Parser) -> None:
    parser.add_argument(
        "name", metavar="NAME", help="name of a BatchJob or BatchTermination; bj/NAME and bt/NAME choose"
    )
    _json_flag(parser)


def _logs_flags(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of a BatchJob")
    parser.add_argument("-f", "--follow", action="store_true", help="follow the log until the job has finished")


def _adopt_flags(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID", help="id of the job; child 3 of an array job: <id>:3, node 1: <id>#1")
    parser.add_argument("--name", help="name of the BatchJob [default: the id]")
    parser.add_argument("--region", type=check_region, help="region of the job [default: the operator's]")
    parser.add_argument("--dry-run", action="store_true", help="only check whether the API server would accept it")


_FLAGS: dict[str, Callable[[Parser], None]] = {
    "ls": _ls_flags,
    "stop": _stop_flags,
    "wait": _wait_flags,
    "why": _why_flags,
    "logs": _logs_flags,
    "adopt": _adopt_flags,
}


def find_command(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The command among the words, and the words without it: flags of kubectl may stand before it."""
    skip = False
    for i, word in enumerate(words):
        if skip or word.startswith("-"):
            skip = not skip and word in _PLACE_VALUES
        else:
            return word, [*words[:i], *words[i + 1 :]]
    return None, list(words)


_PLACE_VALUES = ("-n", "--namespace", "--context", "--kubeconfig", "--as", "--as-group")


def flags_of(command: str) -> list[str]:
    """All flags of a command; none of an unknown one."""
    if command not in COMMANDS:
        return []
    return [flag for action in parser_of(command)._actions for flag in action.option_strings]  # noqa: SLF001 (no other way)


def flags_with_value(command: str | None) -> list[str]:
    """The flags after which a value stands."""
    if command not in COMMANDS:
        return list(_PLACE_VALUES)
    actions = parser_of(command)._actions  # noqa: SLF001 (as above)
    return [flag for action in actions if action.nargs is None for flag in action.option_strings]


def kubectl_of(words: Sequence[str]) -> Kubectl:
    """Kubectl with the flags for it among the words; others are ignored."""
    parser = Parser(add_help=False, allow_abbrev=False)
    _place_flags(parser, everywhere=True)
    return kubectl_with(parser.parse_known_args(list(words))[0])


def kubectl_with(found: argparse.Namespace) -> Kubectl:
    values = {"kubeconfig": found.kubeconfig, "context": found.context, "as": found.as_}
    flags = [f"--{name}={value}" for name, value in values.items() if value is not None]
    flags += [f"--as-group={group}" for group in found.as_group or []]
    everywhere = bool(getattr(found, "all_namespaces", False))
    if found.namespace == "":
        raise UsageError("--namespace is empty", "Name a namespace, or omit the flag.")
    return Kubectl(flags, found.namespace, everywhere=everywhere)


def object_name(word: str, kinds: Sequence[str] = (JOBS,)) -> tuple[str, str | None]:
    """The name, and the kind if it is stated. Raises UsageError: what is no name could be a flag of kubectl."""
    prefix, mark, name = word.rpartition("/")
    kind = _KINDS.get(prefix.lower())
    if mark and kind not in kinds:
        raise UsageError(f"{output.quoted(word)} does not name a BatchJob", "Use its name, or batchjob/NAME.")
    if not re.fullmatch(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?", name) or len(name) > 253:
        remedy = f"For a job id, use --job-id {name}." if re.fullmatch(r"[\w-]+[:#]\d+", name) else ""
        raise UsageError(f"{output.quoted(word)} is not the name of an object", remedy)
    return name, kind


def check_region(region: str, source: str = "--region") -> str:
    """Return the region. Raises UsageError for what the API server would refuse."""
    if not re.fullmatch(REGION, region):
        remedy = "Use the name of a region, such as eu-west-1 (eu-west-1a is a zone)."
        raise UsageError(f"{source} {output.quoted(region)} is not an AWS region", remedy)
    return region
