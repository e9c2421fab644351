import datetime as dt
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_awsbatch import adoption, jobs, listing, states, waiting
from kubectl_awsbatch.errors import CommandError, UsageError
from kubectl_awsbatch.following import ObjectFollower, Timer
from kubectl_awsbatch.kubectl import TERMINATIONS, Kubectl
from unit.plugin.bodies import Body, job, termination

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        (job(Finished="True/JobSucceeded"), 0, "succeeded"),
        (job(Finished="True/JobFailed"), 1, "failed"),
        (job(Finished="True/JobTerminated"), 2, "terminated"),
        (job(Finished="True/JobCancelled"), 2, "terminated"),
        (job(Finished="True/JobVanished", Stalled="True/JobVanished"), 3, "missing"),
        (job(Finished="True/SomethingNew"), 3, "ended"),
        (job(Finished="Unknown/JobNotFound", Stalled="True/JobNotFound"), 3, "missing"),
        (job(Finished="False/JobActive", Stalled="True/TerminationNotAllowed"), 3, "stalled"),
        # What ended has ended, whatever the spec says since.
        (job(Finished="True/JobFailed", Stalled="True/X", generation=3, observedGeneration=2), 1, "failed"),
    ],
)
def test_a_wait_ends_with_the_end_of_the_job_or_when_a_person_must_act(body: Body, code: int, word: str) -> None:
    found = states.outcome(body)
    assert found
    assert (found.code, found.word) == (code, word)


@pytest.mark.parametrize(
    "body",
    [
        job(Finished="False/JobActive"),
        job(Finished="False/JobActive", Reconciling="True/Throttled"),
        job(Finished="False/JobActive", Stalled="False/JobNotFound"),
        # The operator has not answered the change that may have resolved it.
        job(Finished="Unknown/JobNotAllowed", Stalled="True/JobNotAllowed", generation=2, observedGeneration=1),
        {"metadata": {"name": "new", "generation": 1}, "spec": {}, "status": {"observedGeneration": 0}},
        {"metadata": {"name": "new", "generation": 1}, "spec": {}},
    ],
)
def test_else_it_goes_on(body: Body) -> None:
    assert states.outcome(body) is None


@pytest.mark.parametrize(
    ("codes", "worst"), [([0, 0], 0), ([0, 2], 2), ([2, 1, 0], 1), ([1, 124], 124), ([124, 3, 0, 1, 2], 3), ([], 3)]
)
def test_the_worst_of_several_exit_codes_counts(codes: list[int], worst: int) -> None:
    assert waiting.worst(codes) == worst


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("0.5s", 0.5)])
def test_durations_are_read(text: str, seconds: float) -> None:
    assert waiting.seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 m", "-5s", "5d", "1m1h"])
def test_an_invalid_duration_is_rejected_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="90s, 5m or 1h30m"):
        waiting.seconds_of(text)


OPTIONS = jobs.StopOptions("mine")
STATED = {"terminate": {"reason": "theirs"}}


@pytest.mark.parametrize(
    ("body", "action", "words"),
    [
        (job(Finished="True/JobSucceeded"), "finished", "already finished (JobSucceeded)"),
        (job(spec={"terminate": {"reason": "mine"}}, phase="Running"), "unchanged", "already requested; phase Running"),
        (job(spec=STATED), "kept", 'with the reason "theirs", and is kept (--overwrite replaces the reason'),
        (job(termination={"acceptedAt": "t", "reason": "mine"}), "accepted", 'with the reason "mine"'),
        (job(spec=STATED, termination={"acceptedAt": "t", "reason": "theirs"}), "accepted", '"mine" is too late'),
        (job(termination={"requestedAt": "t", "reason": "mine"}), None, ""),
        (job(Finished="False/JobActive"), None, ""),
        (job(Stalled="True/JobNotAllowed"), None, ""),
    ],
)
def test_stop_changes_nothing_that_is_settled(body: Body, action: str | None, words: str) -> None:
    found = jobs.why_unneeded(body, OPTIONS)
    assert (found and found[0]) == action
    assert words in (found[1] if found else "")


def test_overwrite_replaces_what_is_stated_but_not_what_aws_accepted() -> None:
    options = jobs.StopOptions("mine", overwrite=True)
    assert jobs.why_unneeded(job(spec=STATED), options) is None
    sent = job(spec=STATED, termination={"acceptedAt": "t", "reason": "theirs"})
    assert (jobs.why_unneeded(sent, options) or ("",))[0] == "accepted"


def test_foreign_words_in_messages_are_cleaned() -> None:
    body = job(spec={"terminate": {"reason": "\x1b[2Jtheirs"}}, phase="\x07", Stalled="True/X/\x9b")
    found = jobs.why_unneeded(body, OPTIONS)
    assert found
    assert found[1].isprintable()


IDS = st.from_regex(
    r"[A-Za-z0-9_-]{1,128}(:[0-9]{1,5}|#[0-9]{1,5})?", fullmatch=True, alphabet=st.characters(codec="ascii")
)


@given(IDS)
def test_each_id_of_a_job_gives_a_valid_name(job_id: str) -> None:
    name = adoption.name_for(adoption.check_id(job_id))
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name)
    assert len(name) <= 253


@given(IDS, IDS)
def test_different_ids_give_different_names(one: str, other: str) -> None:
    assert (adoption.name_for(one) == adoption.name_for(other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [("a-1", "A-1"), ("a_1", "a-1"), ("a:1", "a#1"), ("a-", "a"), ("-", "_"), ("job-x", "Job-x")]
)
def test_similar_ids_give_different_names(one: str, other: str) -> None:
    assert adoption.name_for(one) != adoption.name_for(other)


def test_the_name_is_the_id_where_that_is_valid() -> None:
    uuid = "61e743ed-35e4-48da-b2de-5c8333821c84"
    assert [adoption.name_for(uuid + tail) for tail in ("", ":3", "#1")] == [uuid, f"{uuid}.child-3", f"{uuid}.node-1"]


@pytest.mark.parametrize("job_id", ["", "a b", "a,b", "a:", "a:x", "a:1:2", "x" * 129, "a/b", "ä", "a\n"])
def test_an_invalid_job_id_is_rejected(job_id: str) -> None:
    with pytest.raises(UsageError, match="child 3 of an array job is <id>:3"):
        adoption.check_id(job_id)


def test_an_arn_is_answered_with_its_id_and_region() -> None:
    with pytest.raises(UsageError, match=r"Use abc:3 and --region us-gov-west-1\."):
        adoption.check_id("arn:aws-us-gov:batch:us-gov-west-1:123456789012:job/abc:3")


@pytest.mark.parametrize("reason", ["", "  ", "\n\t", "\u200b", "x" * 1025, "half \ud800"])
def test_reasons_that_would_be_refused_are_refused_at_once(reason: str) -> None:
    with pytest.raises(CommandError) as error:
        jobs.check_reason(reason)
    assert error.value.exit_code == 64


@pytest.mark.parametrize("reason", ["x", "x" * 1024, "zeile 1\nzeile 2", "ü"])
def test_other_reasons_pass_unchanged(reason: str) -> None:
    assert jobs.check_reason(reason) == reason


def test_rows_of_ls() -> None:
    ended: Body = {"startedAt": "2025-12-31T22:00:00Z", "stoppedAt": "2025-12-31T22:05:03.000Z", "exitCode": 137}
    queue = "arn:aws:batch:eu-west-1:1:job-queue/gpu"
    body = job(phase="Failed", jobStatus="FAILED", jobName="n", jobQueue=queue, spec=STATED, **ended)
    body["metadata"]["creationTimestamp"] = "2025-12-31T23:59:00Z"
    row = ("train", "Failed", "FAILED", "n", "gpu", "5m3s", "Stated", "exit code 137", "60s")
    assert listing.job_row(body, NOW) == row
    held = job(Terminated="Unknown/TerminationHeld", Stalled="True/X")
    assert listing.job_row(held, NOW)[6:8] == ("TerminationHeld", "X")
    bulk = termination(phase="Terminating", matched=4, requested=6, ending=2, failed=0, approved=True)
    shown = ("stop-1", "Terminating", "true", 4, 200, 6, 2, 0, "", "INC-1", "")
    assert listing.termination_row(bulk, NOW) == shown


def test_an_object_of_a_watch_event_is_kept_without_managed_fields() -> None:
    body = termination()
    body["metadata"]["managedFields"] = [{"manager": "kubectl-create"}]
    follower = ObjectFollower(Kubectl(), TERMINATIONS, [states.key(body)], Timer(0))
    follower._apply({"type": "MODIFIED", "object": body})
    assert "managedFields" not in follower.objects[states.key(body)]["metadata"]
