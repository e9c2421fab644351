"""Shell completion: the scripts, and what they and kubectl ask for (`kubectl_complete-awsbatch`)."""

from __future__ import annotations

import sys

from kubectl_awsbatch import arguments, output
from kubectl_awsbatch.errors import OK, CommandError
from kubectl_awsbatch.kubectl import JOBS, TERMINATIONS, Kubectl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

SHELLS = ("bash", "zsh", "fish")
_NO_FILES, _FILES = ":4", ":0"
"""Directives of kubectl's completion: do not offer files, or do."""
_ASK = "kubectl-awsbatch __complete"

_SCRIPTS = {
    "bash": """\
# source <(kubectl-awsbatch completion bash)
_kubectl_awsbatch() {{
  local word
  COMPREPLY=()
  while IFS= read -r word; do
    case $word in :*) ;; *) COMPREPLY+=("$word") ;; esac
  done < <({ask} "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null)
}}
complete -F _kubectl_awsbatch kubectl-awsbatch
""",
    "zsh": """\
#compdef kubectl-awsbatch
# source <(kubectl-awsbatch completion zsh)
_kubectl_awsbatch() {{
  local -a found
  found=("${{(@f)$({ask} "${{(@)words[2,CURRENT]}}" 2>/dev/null)}}")
  compadd -- "${{(@)found:#:*}}"
}}
compdef _kubectl_awsbatch kubectl-awsbatch
""",
    "fish": """\
# kubectl-awsbatch completion fish | source
function __kubectl_awsbatch
  set -l words (commandline -opc) (commandline -ct)
  {ask} $words[2..-1] 2>/dev/null | string match -v ':*'
end
complete -c kubectl-awsbatch -f -a '(__kubectl_awsbatch)'
""",
}


def script(shell: str) -> int:
    """Print the script that completes `kubectl-awsbatch`; `kubectl awsbatch` is completed by kubectl itself."""
    output.write(_SCRIPTS[shell].format(ask=_ASK))
    output.note(
        "kubectl itself completes `kubectl awsbatch` if the executable kubectl_complete-awsbatch is on PATH. "
        'With krew: ln -s "$(command -v kubectl-awsbatch)" ~/.local/bin/kubectl_complete-awsbatch'
    )
    return OK


def complete(words: Sequence[str]) -> int:
    """Print the candidates for the last word, which may be empty, and the directive. Never fails."""
    found, directive = candidates(list(words) or [""])
    output.write("".join(f"{one}\n" for one in found) + f"{directive}\n")
    return OK


def candidates(words: Sequence[str]) -> tuple[list[str], str]:
    """Return the candidates for the last word, after the others."""
    *before, last = words
    command, flags = arguments.find_command(before)
    flag, mark, value = last.partition("=")
    if last.startswith("--") and mark:
        found, directive = _values(flag, before)
        return [f"{flag}={one}" for one in found if one.startswith(value)], directive
    if before and before[-1] in arguments.flags_with_value(command):
        found, directive = _values(before[-1], before[:-1])
    elif command is None:
        found, directive = [*arguments.COMMANDS], _NO_FILES
        found += [*flags] if last.startswith("-") else []
    elif last.startswith("-"):
        found, directive = arguments.flags_of(command), _NO_FILES
    elif command == "completion":
        found, directive = list(SHELLS), _NO_FILES
    elif command in ("stop", "wait", "why", "logs"):
        kinds = (JOBS, TERMINATIONS) if command == "why" else (JOBS,)
        named = _quietly(lambda: [one for kind in kinds for one in _names(before, kind)])
        found, directive = [one for one in named if one not in before], _NO_FILES
    else:
        found, directive = [], _NO_FILES
    return [one for one in found if one.startswith(last)], directive


def _values(flag: str, before: Sequence[str]) -> tuple[list[str], str]:
    sources: dict[str, Callable[[], list[str]]] = {
        "-n": lambda: _printed(before, "get", "namespaces"),
        "--namespace": lambda: _printed(before, "get", "namespaces"),
        "--context": lambda: _printed((), "config", "get-contexts"),
        "--queue": lambda: queues(before),
        "-o": lambda: ["json"],
        "--output": lambda: ["json"],
    }
    if flag == "--kubeconfig":
        return [], _FILES
    return (_quietly(sources[flag]) if flag in sources else []), _NO_FILES


def _kubectl(before: Sequence[str]) -> Kubectl:
    return arguments.kubectl_of(before)


def _printed(before: Sequence[str], *arguments: str) -> list[str]:
    lines = _kubectl(before).run(*arguments, "-o", "name").split()
    return [line.removeprefix("namespace/") for line in lines]


def _names(before: Sequence[str], kind: str) -> list[str]:
    kubectl = _kubectl(before)
    return [line.partition("/")[2] for line in kubectl.run("get", kind, "-o", "name", *kubectl.scope()).split()]


def queues(before: Sequence[str]) -> list[str]:
    """Names of queues that objects of the namespace mention."""
    from kubectl_awsbatch import states

    kubectl = _kubectl(before)
    found = {states.queue(one) for one in _quietly(lambda: kubectl.get(JOBS))}
    for one in _quietly(lambda: kubectl.get(TERMINATIONS)):
        found.update(one["spec"]["select"]["queues"])
    return sorted(one for one in found if one and one.isprintable())


def _quietly(ask: Callable[[], list[Any]]) -> list[Any]:
    try:
        return ask()
    except CommandError:
        return []


def main() -> int:
    """Entry point of `kubectl_complete-awsbatch`, which kubectl's own completion runs."""
    output.set_up()
    try:
        return complete(sys.argv[1:])
    except (Exception, KeyboardInterrupt):  # noqa: BLE001 (a completion must not disturb the line that is typed)
        output.write(f"{_NO_FILES}\n")
        return OK
