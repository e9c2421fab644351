"""`stop --queue`: a BatchTermination is created, counted, shown, approved and followed to its end."""

from __future__ import annotations

import sys

from kubectl_awsbatch import output
from kubectl_awsbatch.errors import FAILED, INTERRUPTED, NOT_APPROVED, OK, STALLED, TIMED_OUT
from kubectl_awsbatch.explain import remedy_for
from kubectl_awsbatch.following import ObjectFollower, Timer
from kubectl_awsbatch.kubectl import TERMINATIONS, UNANSWERED_AFTER, KubectlError
from kubectl_awsbatch.output import clean, quoted
from kubectl_awsbatch.states import attention, condition, holds, key, now, observed, status
from kubectl_awsbatch.waiting import NO_ANSWER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from kubectl_awsbatch.bulk_selection import BulkSelection
    from kubectl_awsbatch.kubectl import Kubectl

    Object = dict[str, Any]

_TRIES = 8


class _BulkStop:
    """One BatchTermination from its creation to its end."""

    def __init__(self, kubectl: Kubectl, bulk: BulkSelection, timer: Timer, *, as_json: bool) -> None:
        self._kubectl, self._bulk, self._timer, self._as_json = kubectl, bulk, timer, as_json
        self.body: Object = {}
        self.approval_sent = self.approved = False

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    def create(self) -> None:
        """The time limit of the jobs is the API server's time, which a dry run tells, for it checks the object too."""
        tried = self._kubectl.create(self._bulk.body(_utc()), dry_run=True)
        clock = tried["metadata"].get("creationTimestamp") or _utc()
        self.body = self._kubectl.create(self._bulk.body(clock))
        output.note(f"batchtermination/{self.name} created; it counts jobs, and terminates none until it is approved")

    def follow(self, decided: Callable[[Object], bool], line: Callable[[Object], str]) -> bool:
        """Follow the object until `decided`; False at the timeout. Sets `body`; {} once it is deleted."""
        one, began, notified = key(self.body), now(), False
        for objects in ObjectFollower(self._kubectl, TERMINATIONS, [one], self._timer):
            found = objects.get(one)
            if found is None or found["metadata"]["uid"] != self.body["metadata"]["uid"]:
                output.progress("")
                self.body = {}
                return True
            self.body = found
            if decided(found):
                output.progress("")
                return True
            output.progress(line(found))
            if not notified and not observed(found) and (now() - began).total_seconds() > UNANSWERED_AFTER:
                notified = True
                output.note(NO_ANSWER)
        output.progress("")
        return False

    def approve(self) -> bool:
        """Approve what was counted, unless meanwhile more jobs match; False if they do, or the object is gone."""
        counted = int(status(self.body).get("matched") or 0)
        for _ in range(_TRIES):
            self.approval_sent = True
            try:
                self.body = self._kubectl.patch(TERMINATIONS, self.body, {"spec": {"approved": True}})
            except KubectlError as error:
                if error.kind not in ("conflict", "not found"):
                    raise
                uid = self.body["metadata"]["uid"]
                found = self._kubectl.get(TERMINATIONS, [self.name])
                self.body = found[0] if found and found[0]["metadata"]["uid"] == uid else {}
                if not self.body or int(status(self.body).get("matched") or 0) > counted:
                    return False
                continue
            self.approved = True
            output.note(f"batchtermination/{self.name} approved")
            return True
        return False

    def remove(self, why: str) -> None:
        """Delete the object; say how if that fails."""
        if not self.body:
            return
        try:
            self._kubectl.delete(TERMINATIONS, self.name)
        except KubectlError as error:
            output.note(f"{why}; batchtermination/{self.name} could not be deleted: {error.message}")
            output.note(f"It terminates nothing until it is approved. To delete it: {self.delete_command()}")
        else:
            outcome = "no further terminations are sent" if self.approval_sent else "nothing was terminated"
            output.note(f"{why}; batchtermination/{self.name} deleted, {outcome}")

    def may_be_approved(self) -> bool:
        """Read again what an interrupted approval became; True if that cannot be read."""
        if self.approval_sent and not self.approved:
            try:
                found = self._kubectl.get(TERMINATIONS, [self.name])
            except KubectlError:
                return True
            self.approved = bool(found) and bool(found[0]["spec"].get("approved"))
        return self.approved or bool(self.body["spec"].get("approved"))

    def say_what_is_left(self) -> None:
        """After an error: another person, or this one later, can approve or delete the object."""
        if not self.body:
            return
        if self.may_be_approved():
            output.note(f"batchtermination/{self.name} continues. To stop it: {self.withdraw_command()}")
        else:
            output.note(
                f"batchtermination/{self.name} still exists and is not approved. To approve it: "
                f"{self.approve_command()}"
            )
            output.note(f"To delete it: {self.delete_command()}")

    def delete_command(self) -> str:
        return self._kubectl.command("delete", TERMINATIONS, self.name)

    def withdraw_command(self) -> str:
        """It keeps the object, which shows what was terminated."""
        patch = '{"spec":{"approved":false}}'
        return self._kubectl.command("patch", TERMINATIONS, self.name, "--type=merge", "-p", patch)

    def approve_command(self) -> str:
        """It names the uid, so that it approves only the object that was counted."""
        patch = f'{{"metadata":{{"uid":"{self.body["metadata"]["uid"]}"}},"spec":{{"approved":true}}}}'
        return self._kubectl.command("patch", TERMINATIONS, self.name, "--type=merge", "-p", patch)


def stop_queue(
    kubectl: Kubectl, bulk: BulkSelection, timeout: float | None, *, yes: bool, dry_run: bool, as_json: bool
) -> int:
    """The command `stop --queue`."""
    output.note(f"{kubectl.cluster_context()}, region {clean(bulk.region)}{bulk.region_source}")
    stop = _BulkStop(kubectl, bulk, Timer(timeout), as_json=as_json)
    try:
        stop.create()
        code = _count_and_approve(stop, yes=yes, dry_run=dry_run)
        if code is None:
            code = _follow_to_the_end(stop)
    except KeyboardInterrupt:
        output.progress("")
        code = _interrupted(stop)
    except KubectlError:
        stop.say_what_is_left()
        raise
    if as_json and stop.body:
        output.write_json(stop.body)
    return code


def _count_and_approve(stop: _BulkStop, *, yes: bool, dry_run: bool) -> int | None:
    """The exit code; None once it is approved."""
    while True:
        if not stop.follow(_counted, _counting_line):
            stop.remove("not counted in time")
            return TIMED_OUT
        if not stop.body:
            output.note("somebody else deleted the BatchTermination; nothing was terminated")
            return STALLED
        if holds(stop.body, "Stalled"):
            return _refused(stop)
        if stop.body["spec"].get("approved"):
            stop.approved = True
            output.note("somebody else approved it")
            return None
        matched = int(status(stop.body).get("matched") or 0)
        _show_count(stop, matched)
        if dry_run or not matched:
            stop.remove("dry run" if dry_run else "no active job matches")
            return OK
        if not yes and not _terminal():
            output.note("Without a terminal or --yes, this command does not approve it. To approve it:")
            output.write(f"{stop.approve_command()}\n")
            output.note(f"To delete it: {stop.delete_command()}")
            return NOT_APPROVED
        if not yes and not _ask(matched):
            stop.remove("not approved")
            return NOT_APPROVED
        if stop.approve():
            return None
        output.note("more jobs match now than were shown" if stop.body else "it was deleted in the meantime")
        if not stop.body:
            return STALLED


def _counted(body: Object) -> bool:
    if not observed(body):
        return False
    return holds(body, "Stalled") or status(body).get("phase") in ("AwaitingApproval", "Terminating", "Finished")


def _counting_line(body: Object) -> str:
    held = attention(body)
    return f"counting{f': {clean(held)}' if held and held != 'Counting' else ''}"


def _show_count(stop: _BulkStop, matched: int) -> None:
    spec = stop.body["spec"]
    select = spec["select"]
    names = f", names {clean(' '.join(select['jobNames']))}" if select.get("jobNames") else ""
    tags = f", tags {clean(' '.join(f'{k}={v}' for k, v in select['tags'].items()))}" if select.get("tags") else ""
    output.note(
        f"{output.counted(matched, 'active job')} match{'es' if matched == 1 else ''} (at most "
        f"{spec['maxJobs']}): queues {clean(' '.join(select['queues']))}{names}{tags}, submitted before "
        f"{clean(spec['createdBefore'])}; reason {quoted(spec['reason'])}"
    )
    examples = status(stop.body).get("examples") or []
    for one in examples:
        output.note(f"  {clean(one.get('jobId', ''))}  {clean(one.get('jobName', ''))}")
    if matched > len(examples) > 0:
        output.note(f"  ... (examples; {matched} in all, including array children)")


def _terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(matched: int) -> bool:
    jobs = "this job" if matched == 1 else f"these {matched} jobs"
    sys.stderr.write(f"Terminate {jobs}? Type yes: ")
    sys.stderr.flush()
    answer = ""
    try:
        answer = sys.stdin.readline()
    finally:
        if not answer.endswith("\n"):  # after Ctrl-C and Ctrl-D the cursor still stands behind the question
            output.note("")
    return answer.strip().lower() == "yes"


def _refused(stop: _BulkStop) -> int:
    stalled = condition(stop.body, "Stalled")
    reason = str(stalled.get("reason", ""))
    output.note(f"refused: {clean(reason)}: {clean(stalled.get('message', ''))}")
    if remedy := remedy_for(reason):
        output.note(remedy)
    if stop.body["spec"].get("approved"):
        output.note(
            f"It stays approved, and continues when the cause is resolved. To stop it: {stop.withdraw_command()}"
        )
    else:
        stop.remove("refused")  # else each try leaves an object that fires the alert on refused ones
    return STALLED


def _follow_to_the_end(stop: _BulkStop) -> int:
    if not stop.follow(_ended, progress_line):
        output.note(
            f"not finished in time; batchtermination/{stop.name} continues. To stop it: {stop.withdraw_command()}"
        )
        return TIMED_OUT
    if not stop.body:
        output.note("somebody else deleted the BatchTermination: no further terminations are sent")
        return STALLED
    if holds(stop.body, "Stalled"):
        return _refused(stop)
    if not stop.body["spec"].get("approved"):
        output.note("somebody else withdrew the approval: no further terminations are sent")
        return STALLED
    shown = status(stop.body)
    failed = int(shown.get("failed") or 0)
    output.note(f"finished: {progress_line(stop.body)}")
    for one in shown.get("examples") or []:
        if one.get("message"):
            output.note(f"  {clean(one.get('jobId', ''))}  {clean(one['message'])}")
    return FAILED if failed else OK


def _ended(body: Object) -> bool:
    if not body["spec"].get("approved"):
        return True
    return observed(body) and (holds(body, "Stalled") or status(body).get("phase") == "Finished")


def progress_line(body: Object) -> str:
    """The progress of a BatchTermination."""
    shown = status(body)
    parts = [f"{output.counted(int(shown.get('requested') or 0), 'termination')} accepted"]
    parts += [f"{int(shown[name])} {word}" for name, word in _COUNTS if shown.get(name)]
    held = attention(body)
    return ", ".join(parts) + (f" ({clean(held)})" if held and held != "TerminationInProgress" else "")


_COUNTS = (("matched", "not requested yet"), ("ending", "still ending"), ("failed", "refused by AWS"))


def _interrupted(stop: _BulkStop) -> int:
    if not stop.body:
        return INTERRUPTED
    if stop.may_be_approved():
        output.note(
            f"batchtermination/{stop.name} continues without this command. To stop it: {stop.withdraw_command()}"
        )
    else:
        stop.remove("interrupted")
    return INTERRUPTED


def _utc() -> str:
    return now().strftime("%Y-%m-%dT%H:%M:%SZ")
