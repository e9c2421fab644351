"""`kubectl awsbatch` with the real kubectl, an API server and the operator as a process."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.controlplane import Embedded
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.plugin import Plugin, plugin_in
from integration.scenario import SOON, phase, reasons_sent

pytestmark = pytest.mark.usefixtures("operator")

REASON = "INC-4711: runaway cost"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def plugin(world: World, cluster: Cluster, tmp_path: Path) -> Plugin:
    return plugin_in(world, cluster, tmp_path)


@pytest.fixture
def refusing(world: World) -> Iterator[None]:
    """AWS denies TerminateJob, so what is stated waits."""
    world.batch.deny("TerminateJob")
    yield
    world.batch.clear_denials()


def seed(world: World, cluster: Cluster, name: str, **job: object) -> str:
    job_id = world.batch.seed(name=name, **job)
    cluster.create(name, job_id)
    cluster.wait_for(name, lambda status: "jobStatus" in status, timeout=SOON)
    return job_id


# -- stop --------------------------------------------------------------------------------------------------------------


def test_stop_terminates_with_the_very_reason_and_waits(world: World, cluster: Cluster, plugin: Plugin) -> None:
    job_id = seed(world, cluster, "train")
    done = plugin("stop", "train", "--reason", REASON, "--wait")
    assert done.code == 0
    stated, ended = done.out.splitlines()
    assert stated == f'batchjob/train: termination requested, reason "{REASON}"; phase Running'
    assert ended.startswith("batchjob/train: terminated (JobTerminated), exit code 137")
    assert reasons_sent(world, job_id) == [REASON]
    # Where it acts, and nothing else: no progress in a pipe.
    (line,) = done.err.splitlines()
    assert line.startswith("context ")
    assert f"namespace {cluster.namespace}, server https://127.0.0.1:" in line


def test_stop_tries_all_and_says_of_each_what_happened(world: World, cluster: Cluster, plugin: Plugin) -> None:
    ids = [seed(world, cluster, name) for name in ("one", "two")]
    seed(world, cluster, "done", status="SUCCEEDED")
    cluster.wait_for("done", phase("Succeeded"), timeout=SOON)
    done = plugin("stop", "one", "nosuch", "done", "two", "one", "--reason", REASON)
    assert done.code == 3
    assert [line.partition(";")[0] for line in done.out.splitlines()] == [
        f'batchjob/one: termination requested, reason "{REASON}"',
        "batchjob/nosuch: there is no such BatchJob",
        "batchjob/done: already finished (JobSucceeded)",
        f'batchjob/two: termination requested, reason "{REASON}"',
    ]
    sent = [[REASON], [REASON]]
    wait_for(lambda: [reasons_sent(world, one) for one in ids] == sent, timeout=SOON, what="both are terminated")


def test_stop_by_label_prints_json(world: World, cluster: Cluster, plugin: Plugin) -> None:
    for name in ("one", "two", "other"):
        seed(world, cluster, name)
    cluster.kubectl("label", "bj", "one", "two", "run=42")
    done = plugin("stop", "-l", "run=42", "--reason", REASON, "--wait", "-o", "json")
    assert done.code == 0, done
    shown = json.loads(done.out)
    assert [(one["name"], one["action"], one["done"], one["outcome"]) for one in shown] == [
        ("one", "stated", True, "terminated"),
        ("two", "stated", True, "terminated"),
    ]
    assert "terminate" not in cluster.get("other")["spec"]
    missed = plugin("stop", "-l", "run=43", "--reason", REASON)
    assert (missed.code, missed.out) == (3, "")
    assert 'no BatchJob matches the selector "run=43"' in missed.err


@pytest.mark.usefixtures("refusing")
def test_a_requested_reason_is_kept_without_overwrite(world: World, cluster: Cluster, plugin: Plugin) -> None:
    seed(world, cluster, "train")
    cluster.terminate("train", "\x1b[31mtheirs")
    kept = plugin("stop", "train", "--reason", REASON)
    assert kept.code == 0
    assert 'a termination is already requested, with the reason "\\x1b[31mtheirs", and is kept' in kept.out
    assert cluster.get("train")["spec"]["terminate"]["reason"] == "\x1b[31mtheirs"
    again = plugin("stop", "train", "--reason", REASON, "--overwrite")
    assert f'termination requested, reason "{REASON}" instead of "\\x1b[31mtheirs"' in again.out
    assert cluster.get("train")["spec"]["terminate"] == {"reason": REASON}
    assert "the termination is already requested" in plugin("stop", "train", "--reason", REASON).out


def test_an_accepted_reason_does_not_change(world: World, cluster: Cluster, plugin: Plugin) -> None:
    seed(world, cluster, "train", stuck=True)
    cluster.terminate("train", "theirs")
    cluster.wait_for("train", lambda status: "acceptedAt" in status.get("termination", {}), timeout=SOON)
    done = plugin("stop", "train", "--reason", REASON, "--overwrite")
    assert done.code == 0
    accepted = 'AWS already accepted its termination with the reason "theirs"'
    assert f'{accepted}; your reason "{REASON}" is too late' in done.out
    assert cluster.get("train")["spec"]["terminate"]["reason"] == "theirs"


def test_a_dry_run_is_checked_by_the_api_server_and_changes_nothing(
    world: World, cluster: Cluster, plugin: Plugin
) -> None:
    seed(world, cluster, "train")
    done = plugin("stop", "train", "--reason", REASON, "--dry-run", "--wait")
    assert (done.code, done.out.partition(";")[0]) == (
        0,
        f'batchjob/train: termination would be requested, reason "{REASON}"',
    )
    assert "dry run" in done.err
    assert plugin("stop", "--job-id", "abc", "--reason", REASON, "--dry-run").code == 0
    assert [one["spec"].get("terminate") for one in cluster.objects()] == [None]


def test_changes_of_other_writers_meanwhile_are_not_lost(
    world: World, cluster: Cluster, plugin: Plugin, tmp_path: Path
) -> None:
    """Between the read and the patch, another person states a reason: the slow kubectl makes time for that."""
    seed(world, cluster, "train", stuck=True)
    with plugin.start("stop", "train", "--reason", REASON, path=slow(plugin, tmp_path, "patch")) as process:
        wait_for((tmp_path / "seen").exists, timeout=SOON, what="the plugin patches")
        cluster.terminate("train", "theirs")
        (tmp_path / "go").touch()
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "theirs" in out
    assert cluster.get("train")["spec"]["terminate"]["reason"] == "theirs"


def slow(plugin: Plugin, directory: Path, command: str) -> str:
    """A PATH with a kubectl that waits once before the command, until the file `go` exists; then `seen` does."""
    seen, go = directory / "seen", directory / "go"
    return plugin.wrapped_kubectl(
        f'if [ "$1" = {command} ] && [ ! -e {seen} ]; then touch {seen}; until [ -e {go} ]; do sleep 0.05; done; fi'
    )


def many(cluster: Cluster) -> list[str]:
    """More BatchJobs than get a kubectl each, with the label run=42."""
    names = [f"job-{i}" for i in range(8)]
    for name in names:
        cluster.create(name, UNKNOWN)
    cluster.kubectl("label", "bj", "--all", "run=42")
    for name in names:  # after which the operator writes no more
        cluster.wait_for(name, phase("Missing"), timeout=SOON)
    return names


def test_many_objects_share_one_kubectl_with_the_same_guards(cluster: Cluster, plugin: Plugin, tmp_path: Path) -> None:
    names = many(cluster)
    path = slow(plugin, tmp_path, "proxy")
    words = ("stop", "-l", "run=42", "--reason", REASON, "-o", "json")
    with plugin.start(*words, path=path) as process:
        wait_for((tmp_path / "seen").exists, timeout=SOON, what="the objects are read")
        cluster.terminate("job-1", "theirs")
        for name in ("job-2", "job-3"):
            cluster.delete(name)
        cluster.create("job-3", UNKNOWN)
        cluster.kubectl("label", "bj", "job-4", "changed=meanwhile")
        (tmp_path / "go").touch()
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err.count("\n")) == (3, 1)
    actions = {one["name"]: one["action"] for one in json.loads(out)}
    unlike = {"job-1": "kept", "job-2": "missing", "job-3": "missing"}
    assert actions == dict.fromkeys(names, "stated") | unlike
    stated = {one["metadata"]["name"]: one["spec"].get("terminate") for one in cluster.objects()}
    assert stated.pop("job-1") == {"reason": "theirs"}
    assert stated.pop("job-3") is None
    assert stated == {name: {"reason": REASON} for name in names if name not in unlike}
    assert cluster.get("job-4")["metadata"]["labels"]["changed"] == "meanwhile"


@pytest.mark.parametrize("works", [True, False])
def test_a_proxy_is_used_for_many_objects_if_it_works(
    cluster: Cluster, plugin: Plugin, tmp_path: Path, works: bool
) -> None:
    names = many(cluster)
    path = plugin.wrapped_kubectl(f'echo "$1" >> {tmp_path}/calls\n[ "$1" = proxy ] && {"true" if works else "exit 1"}')
    done = plugin("stop", *names, "--reason", REASON, path=path)
    assert done.code == 0
    assert done.out.count("termination requested") == len(names)
    assert (tmp_path / "calls").read_text().split().count("patch") == (0 if works else len(names))


# -- adopt -------------------------------------------------------------------------------------------------------------


def test_a_job_without_an_object_is_adopted_with_its_termination(
    world: World, cluster: Cluster, plugin: Plugin
) -> None:
    job_id = world.batch.seed(name="orphan")
    done = plugin("stop", "--job-id", job_id, "--reason", REASON, "--wait")
    assert done.code == 0
    assert done.out.startswith(f"batchjob/{job_id}: created for job {job_id}, termination requested")
    assert reasons_sent(world, job_id) == [REASON]
    again = plugin("stop", "--job-id", job_id, "--reason", REASON)
    assert "already finished (JobTerminated)" in again.out
    assert [one["metadata"]["name"] for one in cluster.objects()] == [job_id]


def test_adopt_reports_an_object_that_names_the_job_already(world: World, cluster: Cluster, plugin: Plugin) -> None:
    job_id = seed(world, cluster, "train")
    assert plugin("adopt", job_id).out.startswith(f"batchjob/train: exists already for job {job_id}; phase Running")
    other = world.batch.seed(name="other")
    assert plugin("adopt", other, "--name", "mine").out == f"batchjob/mine: created for job {other}\n"
    taken = plugin("adopt", world.batch.seed(), "--name", "mine")
    assert taken.code == 1
    assert "the name mine is taken by a BatchJob of another job or region" in taken.err
    assert [one["metadata"]["name"] for one in cluster.objects()] == ["mine", "train"]


@pytest.mark.parametrize("tail", [":3", "#1"])
def test_children_and_nodes_are_adopted_by_valid_names(cluster: Cluster, plugin: Plugin, tail: str) -> None:
    done = plugin("adopt", UNKNOWN + tail, "--region", "eu-west-1")
    assert done.code == 0, done
    (body,) = cluster.objects()
    assert body["spec"] == {"jobId": UNKNOWN + tail, "region": "eu-west-1"}


# -- wait --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "ended"),
    [
        ({"status": "SUCCEEDED"}, (0, "succeeded")),
        ({"status": "FAILED"}, (1, "failed")),
        ({}, (124, "timed out")),
        (None, (3, "missing")),
    ],
)
def test_the_exit_code_of_wait_says_how_the_job_ended(
    world: World, cluster: Cluster, plugin: Plugin, job: dict[str, str] | None, ended: tuple[int, str]
) -> None:
    if job is None:
        cluster.create("train", UNKNOWN)
    else:
        seed(world, cluster, "train", **job)
    done = plugin("wait", "train", "--timeout", "3s" if ended[0] == 124 else "30s")
    assert (done.code, done.out.partition(" (")[0].strip(), done.err) == (ended[0], f"batchjob/train: {ended[1]}", "")
    assert plugin("wait", "train", "--timeout", "0").code == ended[0]  # as `kubectl wait`: what is decided by now


def test_wait_returns_when_the_last_has_ended_with_the_worst_code(
    world: World, cluster: Cluster, plugin: Plugin
) -> None:
    for name in ("first", "second"):
        seed(world, cluster, name)
    cluster.kubectl("label", "bj", "--all", "run=42")
    (first, _) = json.loads(plugin("wait", "-l", "run=42", "-o", "json", "--timeout", "2s").out)
    assert (first["outcome"], first["phase"]) == ("timed out", "Running")
    with plugin.start("wait", "-l", "run=42", "-o", "json") as process:
        cluster.terminate("first", REASON)
        cluster.wait_for("first", phase("Terminated"), timeout=SOON)
        time.sleep(0.3)
        assert process.poll() is None
        world.batch.move(cluster.get("second")["spec"]["jobId"], "FAILED")
        out, err = process.communicate(timeout=SOON)
    assert (process.returncode, err) == (1, "")
    shown = [(one["name"], one["outcome"], one["exitCode"], one["reason"]) for one in json.loads(out)]
    assert shown == [("first", "terminated", 2, "JobTerminated"), ("second", "failed", 1, "JobFailed")]


def test_wait_survives_an_outage_of_the_api_server(world: World, cluster: Cluster, plugin: Plugin) -> None:
    if not world.control_plane.can_go_away:
        pytest.skip("this API server cannot be stopped")
    job_id = seed(world, cluster, "train")
    with plugin.start("wait", "train") as process:
        wait_for(lambda: watched(process), timeout=SOON, what="the plugin watches")
        with world.api_server_away(2.0):
            world.batch.move(job_id, "SUCCEEDED")
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "batchjob/train: succeeded (JobSucceeded)\n")
    assert "Traceback" not in err


def watched(process: subprocess.Popen[str]) -> bool:
    """Whether a child of the plugin watches."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    with suppress(OSError):  # one that has ended since
        return any(b"--watch" in Path(f"/proc/{child}/cmdline").read_bytes() for child in children)
    return False


def test_a_deleted_object_is_missing(world: World, cluster: Cluster, plugin: Plugin) -> None:
    seed(world, cluster, "train")
    with plugin.start("wait", "train") as process:
        wait_for(lambda: watched(process), timeout=SOON, what="the plugin watches")
        cluster.delete("train")
        out, _ = process.communicate(timeout=SOON)
    assert (process.returncode, out) == (3, "batchjob/train: missing (NotFound): the BatchJob was deleted\n")


def test_on_a_terminal_wait_shows_progress(world: World, cluster: Cluster, plugin: Plugin) -> None:
    job_id = seed(world, cluster, "train")
    with plugin.on_a_terminal("wait", "train") as terminal:
        terminal.shows("waiting for train: Running")
        world.batch.move(job_id, "SUCCEEDED")
        assert terminal.ends() == 0
    assert "batchjob/train: succeeded" in terminal.shown


def test_ctrl_c_ends_a_wait_with_130(world: World, cluster: Cluster, plugin: Plugin) -> None:
    seed(world, cluster, "train")
    with plugin.on_a_terminal("wait", "train") as terminal:
        terminal.shows("waiting for train")
        os.killpg(terminal.process.pid, 2)
        assert terminal.ends() == 130
    assert "Traceback" not in terminal.shown


# -- ls, why, logs, completion -----------------------------------------------------------------------------------------


def test_ls_shows_the_objects_of_the_namespace_or_of_all(world: World, cluster: Cluster, plugin: Plugin) -> None:
    empty = plugin("ls")
    assert (empty.code, empty.out) == (0, "")
    assert f"No BatchJobs and no BatchTerminations in namespace {cluster.namespace}." in empty.err
    seed(world, cluster, "train", queue="gpu")
    header, row = plugin("ls").out.splitlines()
    assert header.split() == ["NAME", "PHASE", "STATUS", "JOB", "QUEUE", "RAN", "TERMINATION", "ATTENTION", "AGE"]
    assert row.split()[:5] == ["train", "Running", "RUNNING", "train", "gpu"]
    everywhere = plugin("ls", "-A").out.splitlines()
    assert everywhere[0].startswith("NAMESPACE")
    assert any(line.startswith(f"{cluster.namespace} ") for line in everywhere)
    assert [one["metadata"]["name"] for one in json.loads(plugin("ls", "-o", "json").out)["items"]] == ["train"]
    assert plugin("ls", "-l", "run=42").out == ""


def test_why_says_what_a_person_can_do(world: World, cluster: Cluster, plugin: Plugin) -> None:
    cluster.create("typo", UNKNOWN)
    cluster.wait_for("typo", phase("Missing"), timeout=SOON)
    done = plugin("why", "typo")
    assert done.code == 0
    assert done.out.count("\n") == 1
    for words in (f"job {UNKNOWN}", "A person must act: JobNotFound", "kubectl awsbatch adopt ID", "ago: JobNotFound"):
        assert words in done.out
    shown = json.loads(plugin("why", "bj/typo", "-o", "json").out)
    assert shown["held"].startswith("A person must act: JobNotFound")
    unknown = plugin("why", "typo", namespace="elsewhere")
    assert unknown.code == 3
    assert f"A BatchJob with the name typo exists in the namespace {cluster.namespace}: use -n." in unknown.err


AWS = """#!/bin/bash
printf '%s\\n' "$*" >> {calls}
case "$*" in
  *--next-token*) echo '{{"events": [], "nextForwardToken": "end"}}' ;;
  *) echo '{{"events": [{{"message": "epoch 1{escape}[31m"}}, {{"message": "a{tab}b"}}], "nextForwardToken": "end"}}' ;;
esac
"""


def fake_aws(directory: Path) -> None:
    """There is no CloudWatch in the sandbox."""
    text = AWS.format(calls=directory / "calls", escape="\\u001b", tab="\\t")
    (directory / "aws").write_text(text.replace("echo '", "printf '%s' '"))
    (directory / "aws").chmod(0o755)


def test_logs_are_read_by_the_callers_own_aws(world: World, cluster: Cluster, plugin: Plugin, tmp_path: Path) -> None:
    seed(world, cluster, "train")
    fake_aws(tmp_path)
    done = plugin("logs", "train")
    assert (done.code, done.out) == (0, "epoch 1\x1b[31m\na\tb\n")
    status = cluster.get("train")["status"]
    expected = (
        f"logs get-log-events --log-group-name {status['logGroupName']} --log-stream-name {status['logStreamName']} "
        f"--start-from-head --region {status['region']} --output json"
    )
    assert (tmp_path / "calls").read_text().splitlines() == [expected, f"{expected} --next-token end"]
    with plugin.on_a_terminal("logs", "train") as terminal:
        assert terminal.ends() == 0
    assert "epoch 1\\x1b[31m" in terminal.shown
    assert "\x1b[31m" not in terminal.shown


def test_logs_follow_until_the_job_has_ended(world: World, cluster: Cluster, plugin: Plugin, tmp_path: Path) -> None:
    job_id = seed(world, cluster, "train")
    fake_aws(tmp_path)
    with plugin.start("logs", "train", "-f") as process:
        wait_for((tmp_path / "calls").exists, timeout=SOON, what="the log is read")
        world.batch.move(job_id, "SUCCEEDED")
        assert process.wait(SOON) == 0


def test_without_aws_logs_prints_the_command_and_the_link(
    world: World, cluster: Cluster, plugin: Plugin, tmp_path: Path
) -> None:
    seed(world, cluster, "train")
    without = tmp_path / "without"
    without.mkdir()
    kubectl = next(
        Path(one, "kubectl") for one in plugin.environment["PATH"].split(":") if Path(one, "kubectl").exists()
    )
    (without / "kubectl").symlink_to(kubectl)
    done = plugin("logs", "train", path=str(without))
    command, link = done.out.splitlines()
    assert done.code == 69
    assert command.startswith("aws logs get-log-events --log-group-name /aws/batch/job --log-stream-name ")
    assert "#logsV2:log-groups/log-group/$252Faws$252Fbatch$252Fjob/log-events/" in link
    waiting = world.batch.seed(name="waiting", status="RUNNABLE")
    cluster.create("waiting", waiting)
    cluster.wait_for("waiting", phase("Pending"), timeout=SOON)
    assert "has not started (phase Pending); it has no log yet" in plugin("logs", "waiting").err
    cluster.create("typo", UNKNOWN)
    cluster.wait_for("typo", phase("Missing"), timeout=SOON)
    assert "no log of typo is known (phase Missing). See `kubectl awsbatch why typo`." in plugin("logs", "typo").err


def test_kubectl_completes_names_and_queues(world: World, cluster: Cluster, plugin: Plugin) -> None:
    seed(world, cluster, "train", queue="gpu")

    def completed(*words: str) -> list[str]:
        command = ["kubectl", "__complete", "awsbatch", "-n", cluster.namespace, *words]
        shown = subprocess.run(command, env=plugin.environment, capture_output=True, text=True, check=True, timeout=30)
        return shown.stdout.split()

    assert completed("stop", "tr") == ["train", ":4"]
    assert completed("stop", "train", "") == [":4"]
    assert completed("stop", "--queue", "") == ["gpu", ":4"]
    assert cluster.namespace in completed("ls", "-n", "")


def test_bash_completes_the_executable_itself(world: World, cluster: Cluster, plugin: Plugin) -> None:
    seed(world, cluster, "train")
    words = f"kubectl-awsbatch -n {cluster.namespace} wait tr"
    given = f"source <(kubectl-awsbatch completion bash); COMP_WORDS=({words}); COMP_CWORD=4"
    command = ["bash", "-c", f'{given}; _kubectl_awsbatch; echo "${{COMPREPLY[@]}}"']
    shown = subprocess.run(command, env=plugin.environment, capture_output=True, text=True, check=True, timeout=30)
    assert shown.stdout == "train\n"


@pytest.mark.parametrize(
    "words",
    [
        *(["ls"], ["wait", "train"], ["why", "train"], ["logs", "train"], ["adopt", "abc"]),
        ["stop", "train", "--reason", REASON],
        ["stop", "--queue", "q", "--name", "*", "--max", "1", "--region", "eu-west-1", "--yes", "--reason", REASON],
    ],
)
def test_without_the_permission_it_is_named(world: World, plugin: Plugin, words: list[str]) -> None:
    if isinstance(world.control_plane, Embedded):
        pytest.skip("the embedded API server has no RBAC")
    done = plugin(*words, "--as", "nobody")
    assert (done.code, done.out) == (77, "")
    assert 'is forbidden: User "nobody" cannot ' in done.err
    assert "Ask the platform team for the permission" in done.err


def test_a_user_who_may_only_view_gets_the_same_code(world: World, cluster: Cluster, plugin: Plugin) -> None:
    if isinstance(world.control_plane, Embedded):
        pytest.skip("the embedded API server has no RBAC")
    seed(world, cluster, "train")
    cluster.kubectl("create", "role", "viewer", "--verb=get,list", "--resource=batchjobs.awsbatch.dev")
    cluster.kubectl("create", "rolebinding", "viewer", "--role=viewer", "--user=viewer")
    names = many(cluster)
    for words, verb in ((("train",), "patch"), (names, "patch"), (("--job-id", UNKNOWN + ":1"), "create")):
        done = plugin("stop", *words, "--reason", REASON, "--as", "viewer")
        assert done.code == 77
        assert f'is forbidden: User "viewer" cannot {verb}' in done.out


def test_the_cluster_is_named_even_where_nothing_is_found(plugin: Plugin, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    done = plugin("stop", "train", "--reason", REASON, KUBECONFIG=str(absent))
    assert (done.code, done.out) == (64, "")
    assert "Set KUBECONFIG, or use --kubeconfig and --context." in done.err
    assert plugin("ls", "--context", "nope").code == 64
