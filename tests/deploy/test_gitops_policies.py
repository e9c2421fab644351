"""Every state that the definitions have words for is read as it is meant: of policies, and of refused BatchJobs."""

from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from api_docs import Bullet, bullets

from contract.schema import CRD
from deploy.places import CRDS, GITOPS
from deploy.readers import HEALTH_LUA, HEALTH_OF_POLICIES, Flux, Object, argo_cd, kstatus

PLACE: Final = GITOPS / "argocd" / "policies"
[POLICIES] = (
    yaml.load(crd.read_text("utf-8"), yaml.CSafeLoader) for crd in CRDS if crd.stem.startswith("batchaccesspolicies")
)
MEANT: Final = {"True": ("Current", "Healthy"), "Unknown": ("InProgress", "Progressing")}
STALLED: Final = ("Failed", "Degraded")


def reasons(crd: Any) -> list[Bullet]:
    """As the schema lists them, with the conditions that each stands on."""
    status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    return list(bullets(status["conditions"]["items"]["properties"]["reason"]["description"]))


def showing(reason: Bullet, generation: int = 1) -> Object:
    """An object of which all conditions that may have this reason say it."""
    printed = [
        {"type": type_, "status": status, "reason": reason.name, "message": "why"} for type_, status in reason.places
    ]
    return {"metadata": {"generation": generation}, "status": {"observedGeneration": 1, "conditions": printed}}


@pytest.mark.parametrize("reason", reasons(POLICIES), ids=lambda reason: reason.name)
def test_a_policy_is_healthy_in_force_and_degraded_if_a_user_must_act(reason: Bullet) -> None:
    ready, stalled = dict(reason.places)["Ready"], ("Stalled", "True") in reason.places
    wanted = STALLED if stalled else MEANT[ready]
    body = showing(reason)
    assert (kstatus(body), argo_cd(body, HEALTH_OF_POLICIES)) == (wanted[0], (wanted[1], "why"))
    assert stalled == (ready == "False"), "a reader of one of the two alone gets the same"


@pytest.mark.parametrize(
    "reason", [one for one in reasons(CRD) if ("Stalled", "True") in one.places], ids=lambda r: r.name
)
def test_a_batch_job_is_degraded_for_each_reason_for_which_a_user_must_act(reason: Bullet) -> None:
    body = showing(reason)
    assert (kstatus(body), Flux()(body), argo_cd(body, HEALTH_LUA)) == ("Failed", "Failed", ("Degraded", "why"))


def test_each_refusal_by_a_policy_is_among_them() -> None:
    stalls = {one.name for one in reasons(CRD) if ("Stalled", "True") in one.places}
    assert stalls >= {
        *("NoAccessPolicy", "AmbiguousPolicy", "PolicyUnreadable", "JobNotAllowed"),
        *("TerminationNotAllowed", "AccountChanged"),
    }


@pytest.mark.parametrize("reason", reasons(POLICIES), ids=lambda reason: reason.name)
def test_a_policy_that_was_edited_or_is_being_deleted_is_never_settled(reason: Bullet) -> None:
    edited, deleted = showing(reason, generation=2), showing(reason)
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert (kstatus(edited), kstatus(deleted)) == ("InProgress", "Terminating")
    for body in (edited, deleted, {"metadata": {"generation": 1}, "spec": {}}):
        assert argo_cd(body, HEALTH_OF_POLICIES)[0] == "Progressing"


# -- Argo CD's own layout: health_test.yaml and testdata/ --------------------------------------------------------------


def cases() -> list[tuple[str, dict[str, str]]]:
    tests = yaml.load((PLACE / "health_test.yaml").read_text("utf-8"), yaml.CSafeLoader)["tests"]
    return [(test["inputPath"], test["healthStatus"]) for test in tests]


@pytest.mark.parametrize(("path", "wanted"), cases())
def test_an_example_has_its_stated_health(path: str, wanted: dict[str, str]) -> None:
    body = yaml.load((PLACE / path).read_text("utf-8"), yaml.CSafeLoader)
    assert argo_cd(body, HEALTH_OF_POLICIES) == (wanted["status"], wanted["message"])


def test_the_examples_show_every_reason_and_are_all_used() -> None:
    paths = [PLACE / path for path, _ in cases()]
    assert set(paths) == {*(PLACE / "testdata").iterdir()}
    assert {reason for path in paths for reason in _reasons_in(path)} == {reason.name for reason in reasons(POLICIES)}


def _reasons_in(path: Path) -> set[str]:
    status = yaml.load(path.read_text("utf-8"), yaml.CSafeLoader)["status"]
    return {condition["reason"] for condition in status.get("conditions", [])}
