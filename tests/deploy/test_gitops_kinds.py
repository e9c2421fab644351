"""Every state of policies, bulk terminations and refused BatchJobs that the CRDs have words for is read as meant."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from api_docs import Bullet, bullets

from awsbatch_sandbox.apiserver.validation import Validator
from contract.schema import CRD, schema_of
from deploy.places import CRDS
from deploy.readers import HEALTH_LUA, HEALTH_OF_POLICIES, HEALTH_OF_TERMINATIONS, Flux, Object, argo_cd, kstatus

MEANT: Final = {"Stalled": ("Failed", "Degraded"), "Reconciling": ("InProgress", "Progressing")}
MEANT_READY: Final = {"True": ("Current", "Healthy"), "Unknown": ("InProgress", "Progressing")}
KINDS: Final = {"batchaccesspolicies": HEALTH_OF_POLICIES, "batchterminations": HEALTH_OF_TERMINATIONS}
"""Health scripts by plural, in the directory layout of Argo CD."""
IN_EACH_KIND: Final = pytest.mark.parametrize("script", KINDS.values(), ids=list(KINDS))


def reasons(crd: Any) -> list[Bullet]:
    """Reasons in the schema, with their conditions."""
    status = schema_of(crd)["properties"]["status"]["properties"]
    return list(bullets(status["conditions"]["items"]["properties"]["reason"]["description"]))


DEFINITIONS: Final = {
    script: yaml.load(crd.read_text("utf-8"), yaml.CSafeLoader)
    for plural, script in KINDS.items()
    for crd in CRDS
    if crd.stem.startswith(plural)
}
REASONS: Final = {script: reasons(crd) for script, crd in DEFINITIONS.items()}
EVERY_REASON: Final = pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param(script, reason, id=f"{script.parent.name}-{reason.name}")
        for script in REASONS
        for reason in REASONS[script]
    ],
)


def showing(reason: Bullet, generation: int = 1) -> Object:
    """An object of which all conditions that may have this reason say it; ready, if the reason is not one of Ready."""
    places = {"Ready": "True", **dict(reason.places)}
    printed = [
        {"type": type_, "status": status, "reason": reason.name, "message": "why"} for type_, status in places.items()
    ]
    return {"metadata": {"generation": generation}, "status": {"observedGeneration": 1, "conditions": printed}}


@EVERY_REASON
def test_an_object_is_healthy_when_its_spec_is_realised_and_degraded_if_a_user_must_act(
    script: Path, reason: Bullet
) -> None:
    places = dict(reason.places)
    abnormal = [meaning for type_, meaning in MEANT.items() if type_ in places]
    [wanted] = abnormal or [MEANT_READY[places["Ready"]]]
    body = showing(reason)
    assert (kstatus(body), argo_cd(body, script)) == (wanted[0], (wanted[1], "why"))
    if "Stalled" in places or places.get("Ready") == "False":
        assert (bool(abnormal), places["Ready"]) == (True, "False"), "a reader of one of them alone gets the same"


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


@EVERY_REASON
def test_an_object_that_was_edited_or_is_being_deleted_is_never_settled(script: Path, reason: Bullet) -> None:
    edited, deleted = showing(reason, generation=2), showing(reason)
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert (kstatus(edited), kstatus(deleted)) == ("InProgress", "Terminating")
    for body in (edited, deleted, {"metadata": {"generation": 1}, "spec": {}}):
        assert argo_cd(body, script)[0] == "Progressing"


# -- Argo CD's own layout: health_test.yaml and testdata/ --------------------------------------------------------------


def cases(script: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    tests = yaml.load(script.with_name("health_test.yaml").read_text("utf-8"), yaml.CSafeLoader)["tests"]
    yield from ((script.parent / test["inputPath"], test["healthStatus"]) for test in tests)


@pytest.mark.parametrize(
    ("script", "path", "wanted"),
    [
        pytest.param(script, path, wanted, id=f"{script.parent.name}-{path.stem}")
        for script in REASONS
        for path, wanted in cases(script)
    ],
)
def test_an_example_has_its_stated_health(script: Path, path: Path, wanted: dict[str, str]) -> None:
    body = yaml.load(path.read_text("utf-8"), yaml.CSafeLoader)
    assert argo_cd(body, script) == (wanted["status"], wanted["message"])
    assert Validator(schema_of(DEFINITIONS[script])).faults(body, None) == []


@IN_EACH_KIND
def test_the_examples_show_every_reason_and_are_all_used(script: Path) -> None:
    paths = [path for path, _ in cases(script)]
    assert set(paths) == {*(script.parent / "testdata").iterdir()}
    shown = {reason for path in paths for reason in _reasons_in(path)}
    assert shown == {reason.name for reason in REASONS[script]}


def _reasons_in(path: Path) -> set[str]:
    status = yaml.load(path.read_text("utf-8"), yaml.CSafeLoader)["status"]
    return {condition["reason"] for condition in status.get("conditions", [])}
