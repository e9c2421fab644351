"""kstatus, Argo CD and Flux give every status that an object can show the intended health."""

import re
from typing import Any, Final

import pytest
import yaml

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.api.conditions import STALLED_REASONS
from contract.schema import assert_valid
from deploy.places import GITOPS, ROOT
from deploy.reachable import KIN, current, reachable
from deploy.readers import HEALTH_LUA, HEALTH_OF_POLICIES, HEALTH_OF_TERMINATIONS, Flux, Object, argo_cd, kstatus
from unit.reconcile.invariants import ALLOWED, TRANSIENT

ARGO: Final = GITOPS / "argocd"
AGREED: Final = {"InProgress": "Progressing", "Current": "Healthy", "Failed": "Degraded", "Terminating": "Progressing"}
DENIED: Final = {("Ready", "False"), ("Stalled", "True"), ("Terminated", "False")}
HIDING: Final = {"NoAccessPolicy", "AmbiguousPolicy", "PolicyUnreadable", "JobNotAllowed"}
"""Denials that hide the job and the outcome of an accepted termination."""
DENIALS: Final = HIDING | {"TerminationNotAllowed", "AccountChanged", "InvalidRegion"}
OTHER: Final = {one: other for other, one in KIN.items()}
WAITING: Final = {"awsbatch.dev/wait-for": "job"}
PAGE: Final = (ROOT / "docs/gitops.md").read_text("utf-8")
ROWS: Final[list[tuple[str, ...]]] = re.findall(
    r"^\| (.+?) \| (.+?) \| (\w+) \| (\w+) \| (\w+), (\w+) \|$", PAGE, flags=re.MULTILINE
)
"""Columns of the table of the page: condition, job, kstatus and Flux, Argo CD, and both with the annotation."""


@pytest.fixture(scope="module")
def flux() -> Flux:
    return Flux()


def conditions(body: Object) -> dict[str, dict[str, Any]]:
    return {condition["type"]: condition for condition in body["status"].get("conditions", [])}


def waiting(body: Object) -> Object:
    return body | {"metadata": body["metadata"] | {"annotations": WAITING}}


def edited(body: Object) -> Object:
    return body | {"metadata": body["metadata"] | {"generation": body["metadata"]["generation"] + 1}}


def intended(body: Object) -> str:
    """The intended health by the reasons of the conditions, not by their types."""
    printed = conditions(body)
    reasons = {printed[type_]["reason"] for type_ in ("Ready", "Reconciling", "Stalled") if type_ in printed}
    if not printed or body["status"].get("observedGeneration") != body["metadata"]["generation"]:
        return "InProgress"
    if reasons & STALLED_REASONS:
        return "Failed"
    return "Current" if reasons <= {"Observed", "Terminated", "AlreadyFinished"} else "InProgress"


def with_the_other_word(body: Object) -> Object:
    printed = [c | {"reason": OTHER.get(c["reason"], c["reason"])} for c in body["status"].get("conditions", [])]
    return body | {"status": body["status"] | {"conditions": printed}} if printed else body


def test_the_walk_reaches_every_phase_and_reason() -> None:
    assert {body["status"].get("phase") for body in current()} == {*Phase}
    printed = {(c["type"], c["status"], c["reason"]) for body in current() for c in body["status"]["conditions"]}
    all_words = {(*what, reason) for what, reasons in ALLOWED.items() for reason in reasons}
    all_words |= {(*what, reason) for what in DENIED for reason in DENIALS}
    all_words |= {(type_, "Unknown", reason) for type_ in ("Terminated", "Finished") for reason in HIDING}
    all_words |= {("Finished", "Unknown", reason) for reason in ("AccountChanged", "InvalidRegion")}
    assert printed <= all_words
    # One word stands for two where the decision does not tell them apart, and a cancelled job for a terminated one.
    assert {reason for _, _, reason in all_words - printed} == {"CredentialsUnavailable", "JobCancelled"}


def test_every_status_has_its_intended_health_in_all_tools(flux: Flux) -> None:
    others = [with_the_other_word(body) for body in current()]
    for body in (*reachable(), *(other for other in others if other not in reachable())):
        assert kstatus(body) == flux(body) == intended(body), body
        assert argo_cd(body)[0] == AGREED[intended(body)], body


def test_reconciling_and_stalled_are_present_only_if_true_and_never_both() -> None:
    for body in reachable():
        printed = conditions(body)
        abnormal = [printed[type_] for type_ in ("Reconciling", "Stalled") if type_ in printed]
        assert [condition["status"] for condition in abnormal] == ["True"] * len(abnormal)
        assert len(abnormal) <= 1
        # A reader of these two alone, as kstatus once was, gets the same.
        if printed and printed["Ready"]["status"] != "True":
            assert abnormal, body
        for condition in printed.values():
            assert re.fullmatch(r"([A-Z]+[a-z]+)+", condition["reason"])
        assert_valid(body["status"])


def test_a_transient_error_is_in_progress_and_not_failed() -> None:
    late = [body for body in current() if {c["reason"] for c in conditions(body).values()} & TRANSIENT]
    assert {body["status"]["phase"] for body in late} >= {"Unknown", "Pending", "Running", "Terminating"}
    assert {kstatus(body) for body in late} == {"InProgress"}


def test_an_edited_or_deleted_object_is_never_settled(flux: Flux) -> None:
    for body in current():
        deleted = body | {"metadata": body["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
        later = edited(body)
        assert (kstatus(later), argo_cd(later)[0], flux(later)) == ("InProgress", "Progressing", "InProgress")
        assert (kstatus(deleted), argo_cd(deleted)[0], flux(deleted)) == ("Terminating", "Progressing", "InProgress")


def test_an_object_that_waits_for_its_job_differs_only_if_it_would_be_healthy(flux: Flux) -> None:
    for body in current():
        job, ready = conditions(body).get("Succeeded", {}), conditions(body).get("Ready", {})
        wanted = intended(body)
        if wanted == "Current" and job["status"] == "Unknown":
            wanted = "InProgress"
        elif wanted == "Current" and job["status"] == "False" and ready["reason"] == "Observed":
            wanted = "Failed"
        assert flux(waiting(body)) == wanted
        assert argo_cd(waiting(body))[0] == AGREED[wanted]
        other = body | {"metadata": body["metadata"] | {"annotations": dict.fromkeys(WAITING, "nothing")}}
        assert flux(other) == intended(body)
        assert argo_cd(other)[0] == AGREED[intended(body)]


def test_argo_cd_shows_the_message_of_the_condition() -> None:
    for body in current():
        printed, (health, message) = conditions(body), argo_cd(body)
        speaker = {"Degraded": "Stalled", "Progressing": "Reconciling"}.get(health, "Succeeded")
        if health == "Healthy" and printed["Succeeded"]["status"] == "Unknown":
            speaker = "Ready"
        assert message == printed[speaker]["message"]


def test_an_object_without_a_status_is_in_progress_for_argo_cd() -> None:
    body = {"metadata": {"generation": 1}, "spec": {"jobId": "j"}}
    assert argo_cd(body) == ("Progressing", "Waiting for the operator to observe this object")


@pytest.mark.parametrize("ready", ["False", "Unknown"])
def test_an_object_that_is_not_ready_is_in_progress_without_other_conditions(flux: Flux, ready: str) -> None:
    """A status that another version of the operator could write."""
    printed = [{"type": "Ready", "status": ready, "reason": "Later", "message": "later"}]
    body = {"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "conditions": printed}}
    assert (kstatus(body), argo_cd(body), flux(body)) == ("InProgress", ("Progressing", "later"), "InProgress")


# -- Argo CD's own layout: health_test.yaml and testdata/ --------------------------------------------------------------


def cases() -> list[tuple[str, dict[str, str], Object]]:
    tests = yaml.load((ARGO / "health_test.yaml").read_text("utf-8"), yaml.CSafeLoader)["tests"]
    return [
        (
            test["inputPath"],
            test["healthStatus"],
            yaml.load((ARGO / test["inputPath"]).read_text("utf-8"), yaml.CSafeLoader),
        )
        for test in tests
    ]


@pytest.mark.parametrize(("path", "wanted", "body"), cases(), ids=[path for path, _, _ in cases()])
def test_an_example_has_the_expected_health(path: str, wanted: dict[str, str], body: Object) -> None:
    assert argo_cd(body) == (wanted["status"], wanted["message"])
    assert_valid(body.get("status", {}))


def test_the_examples_cover_every_phase_and_are_all_used() -> None:
    assert {body.get("status", {}).get("phase") for _, _, body in cases()} >= {*Phase}
    assert {path for path, _, _ in cases()} == {f"testdata/{file.name}" for file in (ARGO / "testdata").iterdir()}


def test_every_example_is_a_reachable_status() -> None:
    def says(body: Object) -> object:
        return body["status"].get("phase"), {(type_, c["status"], c["reason"]) for type_, c in conditions(body).items()}

    known = [says(body) for body in reachable()]
    for path, _, body in cases():
        assert says(body) in known, path


def test_the_config_map_contains_the_scripts() -> None:
    data = yaml.load((ARGO / "argocd-cm.yaml").read_text("utf-8"), yaml.CSafeLoader)["data"]
    assert data == {
        "resource.customizations.health.awsbatch.dev_BatchJob": HEALTH_LUA.read_text("utf-8"),
        "resource.customizations.health.awsbatch.dev_BatchAccessPolicy": HEALTH_OF_POLICIES.read_text("utf-8"),
        "resource.customizations.health.awsbatch.dev_BatchTermination": HEALTH_OF_TERMINATIONS.read_text("utf-8"),
    }


# -- the page ----------------------------------------------------------------------------------------------------------


def applies(condition: str, job: str, body: Object) -> bool:
    """Return whether the row with these first cells is about the object."""
    type_, *reasons = re.findall(r"`(\w+)`", condition) or [""]
    printed, outcomes = conditions(body), re.findall(r"`(\w+)`", job)
    if not type_:
        return bool(body["status"].get("observedGeneration") != body["metadata"]["generation"])
    shown = printed.get(type_, {})
    return (
        shown.get("status") == "True"
        and (not reasons or shown["reason"] in reasons)
        and (not outcomes or printed["Succeeded"]["status"] in outcomes)
    )


def test_the_first_row_of_the_page_that_applies_tells_the_health_of_every_status(flux: Flux) -> None:
    used = set()
    for body in (*current(), *map(edited, current())):
        row = next(row for row in ROWS if applies(row[0], row[1], body))
        used.add(row)
        read = (kstatus(body), argo_cd(body)[0], flux(waiting(body)), argo_cd(waiting(body))[0])
        assert row[2:] == read, body
    assert used == set(ROWS)
