"""The command `logs`: the job's log stream, read with the caller's own AWS credentials through the `aws` CLI."""

from __future__ import annotations

import subprocess
import sys
import time

from kubectl_awsbatch import output
from kubectl_awsbatch.errors import FAILED, OK, STALLED, UNAVAILABLE, CommandError
from kubectl_awsbatch.kubectl import JOBS, KubectlError
from kubectl_awsbatch.output import clean
from kubectl_awsbatch.states import outcome, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kubectl_awsbatch.kubectl import Kubectl

    Object = dict[str, Any]

_PAUSE = 3.0
"""Seconds between two reads of a stream that has nothing new."""
_CONSOLES = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}


class Stream:
    """A CloudWatch log stream."""

    __slots__ = ("group", "name", "region")

    def __init__(self, region: str, group: str, name: str) -> None:
        self.region, self.group, self.name = region, group, name

    def arguments(self, token: str = "") -> list[str]:
        """Arguments of `aws` that read from the beginning, or from the token of an earlier answer on."""
        found = ["logs", "get-log-events", "--log-group-name", self.group, "--log-stream-name", self.name]
        found += ["--start-from-head", "--region", self.region, "--output", "json"]
        return [*found, "--next-token", token] if token else found

    def command(self, *, follow: bool) -> str:
        """The command that a person can paste; --follow needs version 2 of the AWS CLI."""
        import shlex

        if follow:
            arguments = ["logs", "tail", self.group, "--log-stream-names", self.name, "--since", "14d", "--follow"]
            return shlex.join(["aws", *map(clean, arguments), "--region", clean(self.region)])
        return shlex.join(["aws", *map(clean, self.arguments()[:-2]), "--output", "text"])

    def link(self) -> str:
        """Its page in the AWS console."""
        suffix = next(
            (host for start, host in _CONSOLES.items() if self.region.startswith(start)), "console.aws.amazon.com"
        )
        group, name = _twice_quoted(self.group), _twice_quoted(self.name)
        return (
            f"https://{self.region}.{suffix}/cloudwatch/home?region={self.region}"
            f"#logsV2:log-groups/log-group/{group}/log-events/{name}"
        )


def _twice_quoted(text: str) -> str:
    """Quote a name as the console does in its fragment: twice, with $ for the outer %."""
    from urllib.parse import quote

    return quote(quote(text, safe=""), safe="").replace("%", "$")


def stream_of(body: Object) -> Stream:
    """The log stream of the last attempt. Raises a CommandError that says why there is none."""
    shown, name = status(body), body["metadata"]["name"]
    if shown.get("logStreamName") and shown.get("logGroupName") and shown.get("region"):
        return Stream(shown["region"], shown["logGroupName"], shown["logStreamName"])
    if shown.get("array", {}).get("size") is not None:
        raise CommandError(f"{name} is the parent of an array job, which has no log of its own", _CHILDREN, STALLED)
    if shown.get("node", {}).get("numNodes") is not None:
        raise CommandError(f"{name} is a multi-node job, which has no log of its own", _NODES, STALLED)
    if shown.get("logStreamName"):
        raise CommandError(
            f"the job of {name} uses a log driver other than awslogs",
            "Read the log where that driver sends it.",
            STALLED,
        )
    if shown.get("startedAt"):
        raise CommandError(f"AWS Batch shows no log stream for the job of {name}", _NO_STREAM, STALLED)
    phase = clean(shown.get("phase") or "not observed yet")
    if phase in ("Missing", "Denied"):
        raise CommandError(f"no log of {name} is known (phase {phase})", f"See `kubectl awsbatch why {name}`.", STALLED)
    raise CommandError(f"the job of {name} has not started (phase {phase}); it has no log yet", "", STALLED)


_CHILDREN = "Adopt a child and read its log: kubectl awsbatch adopt '<id>:0'."
_NODES = "Adopt a node and read its log: kubectl awsbatch adopt '<id>#0'."
_NO_STREAM = "On EKS, and with log drivers other than awslogs, the logs are not in this CloudWatch log group."


def logs(kubectl: Kubectl, name: str, *, follow: bool) -> int:
    """Print the log of the job; with `follow` until the job has ended."""
    kubectl.cluster_context()
    found = kubectl.get(JOBS, [name])
    if not found:
        from kubectl_awsbatch.jobs import where_else

        raise CommandError(
            f"there is no BatchJob {name} in {kubectl.cluster_context()}", where_else(kubectl, name), STALLED
        )
    stream = stream_of(found[0])
    try:
        return _print_all(kubectl, name, stream, follow=follow)
    except FileNotFoundError:
        output.note("The aws CLI is not on PATH. To read the log with it and your own AWS credentials:")
        output.write(f"{stream.command(follow=follow)}\n{stream.link()}\n")
        return UNAVAILABLE


def _print_all(kubectl: Kubectl, name: str, stream: Stream, *, follow: bool) -> int:
    token, cleaned = "", sys.stdout.isatty()
    while True:
        answer = _read(stream, token)
        if answer is None:
            return FAILED
        for event in answer.get("events") or []:
            text = str(event.get("message", ""))
            output.write((output.clean_line(text) if cleaned else text) + "\n")
        following = str(answer.get("nextForwardToken") or "")
        if following != token and following:
            token = following
            continue
        # AWS repeats the token at the end of the stream.
        if not follow or _ended(kubectl, name):
            return OK
        time.sleep(_PAUSE)


def _read(stream: Stream, token: str) -> Object | None:
    """An answer of GetLogEvents; None when the CLI failed, which its own message explains."""
    import json

    done = subprocess.run(["aws", *stream.arguments(token)], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        message = " ".join(clean(done.stderr.decode(errors="replace")).split())
        output.note(f"aws logs failed with your own AWS credentials: {message}")
        output.note(f"The stream in the console: {stream.link()}")
        return None
    try:
        answer = json.loads(done.stdout or b"{}")
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        output.note(f"aws did not print a JSON object; try: {stream.command(follow=False)}")
        return None
    return answer


def _ended(kubectl: Kubectl, name: str) -> bool:
    try:
        found = kubectl.get(JOBS, [name])
    except KubectlError:
        return False
    return not found or outcome(found[0]) is not None
