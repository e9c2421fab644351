"""`kubectl awsbatch stop --queue`: what it creates, asks, approves and says. Only the last test has an operator."""

import datetime as dt
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.policies import Policies
from awsbatch_sandbox.world import World
from integration.plugin import Body, Bulk, Plugin, plugin_in
from integration.scenario import SOON, reasons_sent

REASON = "INC-4711: runaway cost"
STOP = ("stop", "--queue", "gpu", "--name", "train-*", "--max", "200", "--reason", REASON, "--region", "eu-west-1")
EXAMPLES = [{"jobId": "id-1", "jobName": "train-\x1b[31m1"}, {"jobId": "id-2", "jobName": "train-2"}]
COUNTED: Body = {"matched": 37, "requested": 0, "ending": 0, "failed": 0, "examples": EXAMPLES}
REFUSED = {"Stalled": "True/TooManyJobs/201 jobs match, and spec.maxJobs is 200"}


@pytest.fixture(scope="module")
def still_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Without an operator: the tests write what it would."""
    with World(request.config.getoption("--control-plane"), grace=0.2) as world:
        yield world


@pytest.fixture
def plugin(still_world: World, tmp_path: Path) -> Iterator[Plugin]:
    cluster = still_world.cluster.within(f"bulk-{os.urandom(4).hex()}")
    cluster.create_namespace()
    yield plugin_in(still_world, cluster, tmp_path)
    cluster.delete_namespace()
    cluster.close()


@pytest.fixture
def bulk(still_world: World, plugin: Plugin) -> Iterator[Bulk]:
    bulk = Bulk(still_world, plugin.cluster.namespace)
    yield bulk
    bulk.close()


def approved(body: dict[str, object]) -> bool:
    spec = body["spec"]
    assert isinstance(spec, dict)
    return bool(spec["approved"])


def test_the_count_is_shown_then_approved_after_a_yes_and_followed(plugin: Plugin, bulk: Bulk) -> None:
    with plugin.on_a_terminal(*STOP, "--tag", "run=42") as terminal:
        created = bulk.one()
        terminal.shows("counting")
        # The API server's clock in whole seconds, which a dry run showed just before.
        times = [created["spec"].pop("createdBefore"), created["metadata"]["creationTimestamp"]]
        began, ended = map(dt.datetime.fromisoformat, times)
        assert dt.timedelta(0) <= ended - began <= dt.timedelta(seconds=5)
        assert created["spec"] == {
            "region": "eu-west-1",
            "select": {"queues": ["gpu"], "jobNames": ["train-*"], "tags": {"run": "42"}},
            "reason": REASON,
            "maxJobs": 200,
            "approved": False,
        }
        bulk.says("AwaitingApproval", **COUNTED)
        terminal.shows("Terminate these 37 jobs? Type yes: ")
        assert not approved(bulk.one())
        terminal.type("yes\n")
        bulk.one(approved)
        bulk.says("Terminating", conditions={"Reconciling": "True/TerminationInProgress/"}, matched=17, requested=20)
        terminal.shows("20 terminations accepted, 17 not requested yet")
        bulk.says("Finished", matched=0, requested=37, conditions={"Reconciling": "False/Done/"})
        assert terminal.ends() == 0
    for words in (
        "37 active jobs match (at most 200): queues gpu, names train-*, tags run=42",
        "id-1  train-\\x1b[31m1",
    ):
        assert words in terminal.shown
    assert "finished: 37 terminations accepted" in terminal.shown
    assert terminal.shown.startswith("context ")


@pytest.mark.parametrize("answer", ["no\n", "\n", "y\n", "\x04", "\x03"])
def test_any_other_answer_deletes_the_object(plugin: Plugin, bulk: Bulk, answer: str) -> None:
    with plugin.on_a_terminal(*STOP) as terminal:
        bulk.says("AwaitingApproval", **COUNTED)
        terminal.shows("Type yes: ")
        if answer == "\x03":
            os.killpg(terminal.process.pid, signal.SIGINT)
        else:
            terminal.type(answer)
        assert terminal.ends() == (130 if answer == "\x03" else 4)
    assert "deleted, nothing was terminated" in terminal.shown
    lines = terminal.shown.replace("\r", "").split("\n")
    assert [line for line in lines if line.startswith(("not approved; batchterm", "interrupted; batchterm"))]
    assert bulk.all() == []


def test_ctrl_c_while_it_counts_deletes_the_object(plugin: Plugin, bulk: Bulk) -> None:
    with plugin.on_a_terminal(*STOP) as terminal:
        bulk.one()
        terminal.shows("counting")
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.ends() == 130
    assert bulk.all() == []


def test_ctrl_c_after_the_approval_says_that_it_goes_on_and_how_to_stop_it(plugin: Plugin, bulk: Bulk) -> None:
    with plugin.on_a_terminal(*STOP, "--yes") as terminal:
        name = bulk.says("AwaitingApproval", **COUNTED)["metadata"]["name"]
        terminal.shows(f"{name} approved")
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.ends() == 130
    assert "continues without this command. To stop it: kubectl patch batchterminations" in terminal.shown
    assert approved(bulk.one())
    run_stop_command(terminal.shown, plugin, bulk)


def run_stop_command(shown: str, plugin: Plugin, bulk: Bulk) -> None:
    """Run the command that was printed; the object is kept, as it shows what was terminated."""
    command = shown.partition("To stop it: ")[2].strip()
    subprocess.run(["bash", "-c", command], env=plugin.environment, check=True, timeout=30, capture_output=True)
    assert not approved(bulk.one())


def test_ctrl_c_amid_the_approval_tells_the_truth(plugin: Plugin, bulk: Bulk) -> None:
    """The API server has accepted the approval, and the plugin does not know it yet."""
    slow = plugin.wrapped_kubectl('if [ "$1" = patch ]; then "$KUBECTL" "$@"; exec sleep 60; fi')
    with plugin.on_a_terminal(*STOP, "--yes", path=slow) as terminal:
        bulk.says("AwaitingApproval", **COUNTED)
        bulk.one(approved)
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.ends() == 130
    assert "continues without this command" in terminal.shown
    assert approved(bulk.one())


def test_without_a_terminal_it_is_not_approved_and_the_printed_command_approves_it(plugin: Plugin, bulk: Bulk) -> None:
    with plugin.start(*STOP) as process:
        bulk.says("AwaitingApproval", **COUNTED)
        command, err = process.communicate(timeout=SOON)
    assert process.returncode == 4
    assert "Without a terminal or --yes, this command does not approve it" in err
    assert not approved(bulk.one())
    assert bulk.one()["metadata"]["uid"] in command
    subprocess.run(["bash", "-c", command], env=plugin.environment, check=True, timeout=30, capture_output=True)
    assert approved(bulk.one())


def test_a_refusal_is_shown_with_its_remedy(plugin: Plugin, bulk: Bulk) -> None:
    with plugin.start(*STOP, "--yes", "-o", "json") as process:
        name = bulk.says("Refused", conditions=REFUSED)["metadata"]["name"]
        out, err = process.communicate(timeout=SOON)
    assert process.returncode == 3
    assert "refused: TooManyJobs: 201 jobs match, and spec.maxJobs is 200\n`kubectl awsbatch stop --queue` does" in err
    assert json.loads(out)["metadata"]["name"] == name
    assert f"refused; batchtermination/{name} deleted, nothing was terminated" in err
    assert bulk.all() == []


def test_refused_terminations_are_listed_at_the_end(plugin: Plugin, bulk: Bulk) -> None:
    with plugin.start(*STOP, "--yes") as process:
        bulk.says("AwaitingApproval", **COUNTED)
        bulk.one(approved)
        failed = [{"jobId": "id-1", "jobName": "train-1", "message": "not \x07 authorized"}]
        bulk.says("Finished", matched=1, requested=36, failed=1, examples=failed)
        _, err = process.communicate(timeout=SOON)
    assert process.returncode == 1
    assert "36 terminations accepted, 1 not requested yet, 1 refused by AWS" in err
    assert "id-1  not \\x07 authorized" in err


def test_a_dry_run_counts_and_deletes(plugin: Plugin, bulk: Bulk) -> None:
    with plugin.start(*STOP, "--dry-run", "--yes") as process:
        bulk.says("AwaitingApproval", **COUNTED)
        _, err = process.communicate(timeout=SOON)
    assert process.returncode == 0
    assert "37 active jobs match" in err
    assert bulk.all() == []


def test_one_job_is_written_in_the_singular(plugin: Plugin, bulk: Bulk) -> None:
    with plugin.on_a_terminal(*STOP) as terminal:
        bulk.says("AwaitingApproval", **{**COUNTED, "matched": 1, "examples": EXAMPLES[:1]})
        terminal.shows("1 active job matches (at most 200)")
        terminal.shows("Terminate this job? Type yes: ")
        terminal.type("yes\n")
        bulk.one(approved)
        bulk.says("Finished", matched=0, requested=1, conditions={"Reconciling": "False/Done/"})
        terminal.shows("finished: 1 termination accepted")


def test_without_a_match_there_is_nothing_to_approve(plugin: Plugin, bulk: Bulk) -> None:
    with plugin.start(*STOP, "--yes") as process:
        bulk.says("AwaitingApproval", **{**COUNTED, "matched": 0, "examples": []})
        _, err = process.communicate(timeout=SOON)
    assert process.returncode == 0
    assert "no active job matches" in err
    assert bulk.all() == []


def test_a_time_out_before_the_count_deletes_and_a_later_one_says_that_it_goes_on(plugin: Plugin, bulk: Bulk) -> None:
    done = plugin(*STOP, "--yes", "--timeout", "1s")
    assert (done.code, bulk.all()) == (124, [])
    assert "not counted in time" in done.err
    with plugin.start(*STOP, "--yes", "--timeout", "4s") as process:
        bulk.says("AwaitingApproval", **COUNTED)
        _, err = process.communicate(timeout=SOON)
    assert process.returncode == 124
    assert approved(bulk.one())
    run_stop_command(err, plugin, bulk)


def test_more_matches_than_were_shown_are_not_approved_without_another_question(plugin: Plugin, bulk: Bulk) -> None:
    with plugin.on_a_terminal(*STOP) as terminal:
        bulk.says("AwaitingApproval", **COUNTED)
        terminal.shows("Terminate these 37 jobs?")
        # A sweep that finds less is no reason to ask again, one that finds more is.
        bulk.says("AwaitingApproval", **{**COUNTED, "matched": 38})
        terminal.type("yes\n")
        terminal.shows("Terminate these 38 jobs?")
        assert not approved(bulk.one())
        bulk.says("AwaitingApproval", **{**COUNTED, "matched": 36})
        terminal.type("yes\n")
        bulk.one(approved)


@pytest.mark.parametrize("change", ["deleted the BatchTermination", "withdrew the approval"])
def test_a_stop_by_somebody_else_is_reported(plugin: Plugin, bulk: Bulk, change: str) -> None:
    with plugin.start(*STOP, "--yes") as process:
        bulk.says("AwaitingApproval", **COUNTED)
        bulk.one(approved)
        if change.startswith("deleted"):
            bulk.delete()
        else:
            bulk.approve(approved=False)
        _, err = process.communicate(timeout=SOON)
    assert process.returncode == 3
    assert f"somebody else {change}: no further terminations are sent" in err


def test_the_api_server_checks_it_before_it_exists(plugin: Plugin, bulk: Bulk) -> None:
    done = plugin(*STOP, *(f"--name=train-{i}" for i in range(50)))
    assert (done.code, bulk.all()) == (1, [])
    assert "spec.select.jobNames: Too many: 51: must have at most 50 items" in done.err


def test_if_the_approval_is_refused_the_object_is_left_for_who_may_approve(plugin: Plugin, bulk: Bulk) -> None:
    script = '[ "$1" = patch ] && echo "Error from server (Forbidden): you may not approve" >&2 && exit 1'
    with plugin.start(*STOP, "--yes", path=plugin.wrapped_kubectl(script)) as process:
        bulk.says("AwaitingApproval", **COUNTED)
        _, err = process.communicate(timeout=SOON)
    assert process.returncode == 77
    assert "still exists and is not approved. To approve it: kubectl patch" in err
    assert "you may not approve" in err
    assert not approved(bulk.one())


def test_why_and_ls_know_it(plugin: Plugin, bulk: Bulk) -> None:
    with plugin.start(*STOP) as process:
        name = bulk.says("AwaitingApproval", **COUNTED)["metadata"]["name"]
        process.communicate(timeout=SOON)
    assert "It waits for approval." in plugin("why", f"bt/{name}").out
    assert "there is no BatchTermination train in namespace" in plugin("why", "bt/train").err
    header, row = plugin("ls").out.splitlines()
    assert header.split()[:5] == ["NAME", "PHASE", "APPROVED", "MATCHED", "MAX"]
    assert row.split()[:5] == [name, "AwaitingApproval", "false", "37", "200"]


def test_it_terminates_what_matches_and_nothing_else(
    world: World, operator: OperatorProcess, cluster: Cluster, tmp_path: Path
) -> None:
    """With the real operator, which sweeps every 10 s."""
    assert operator.running
    queue, name = f"queue-{os.urandom(4).hex()}", f"bulk-{os.urandom(4).hex()}"
    # A time of the API server has whole seconds: jobs of this second are not older than the object.
    earlier = int((time.time() - 60) * 1000)
    matching = world.batch.seed_many(5, name="train-x", queue=queue, created_at=earlier)
    others = [world.batch.seed(name="render", queue=queue), world.batch.seed(name="train-x", queue=f"{queue}-2")]
    cluster.label_namespace(bulk=name)
    plugin = plugin_in(world, cluster, tmp_path)
    words = ("stop", "--queue", queue, "--name", "train-*", "--reason", REASON, "--yes", "--region", "eu-west-1")
    allow = ["Observe", "List", "Terminate"]
    with Policies(world.control_plane.kubeconfig) as policies:
        policies.create(name, namespaceSelector={"matchLabels": {"bulk": name}}, jobs={"queues": [queue]}, allow=allow)
        try:
            refused = plugin(*words, "--max", "4")
            assert (refused.code, "refused: TooManyJobs" in refused.err) == (3, True)
            done = plugin(*words, "--max", "5")
            assert done.code == 0, done
        finally:
            policies.delete(name)
    assert [reasons_sent(world, one) for one in matching] == [[REASON]] * 5
    assert [world.batch.job(one)["status"] for one in others] == ["RUNNING"] * 2
