"""How kstatus, Argo CD and Flux read an object: the first by its documented rules, the others by our own scripts."""

from pathlib import Path
from typing import Any, Final

import celpy
import yaml
from celpy.adapter import json_to_cel
from lupa.lua51 import LuaRuntime

from deploy.places import GITOPS

Object = dict[str, Any]

HEALTH_LUA: Final = GITOPS / "argocd" / "health.lua"
HEALTH_OF_POLICIES: Final = GITOPS / "argocd" / "policies" / "health.lua"
BATCH_JOBS: Final = GITOPS / "flux" / "batch-jobs.yaml"
STATUSES: Final = {"Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown"}
# Argo CD opens no other libraries of Lua: base, package, table, and of os what tells the time.
SHUT: Final = ("string", "math", "io", "debug", "coroutine", "os")


def kstatus(body: Object) -> str:
    """InProgress, Current, Failed or Terminating, by the rules of kstatus for kinds that it does not know."""
    metadata, status = body["metadata"], body.get("status", {})
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    if status.get("observedGeneration", metadata["generation"]) != metadata["generation"]:
        return "InProgress"
    by_type = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    if by_type.get("Reconciling") == "True":
        return "InProgress"
    if by_type.get("Stalled") == "True":
        return "Failed"
    return "Current" if by_type.get("Ready", "True") == "True" else "InProgress"


def argo_cd(body: Object, script: Path = HEALTH_LUA) -> tuple[str, str]:
    """Health and message that the script gives, run as Argo CD runs it."""
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    for library in SHUT:
        lua.globals()[library] = None
    lua.globals()["obj"] = lua.table_from(body, recursive=True)
    health = lua.execute(script.read_text("utf-8"))
    assert set(health) <= {"status", "message"}
    assert health["status"] in STATUSES
    assert isinstance(health["message"], str)
    return health["status"], health["message"]


class Flux:
    """The healthCheckExprs of our Kustomization, evaluated in Flux's order over the object's top-level fields."""

    def __init__(self) -> None:
        (kustomization,) = (
            body for body in yaml.safe_load_all(BATCH_JOBS.read_text("utf-8")) if body["kind"] == "Kustomization"
        )
        (exprs,) = kustomization["spec"]["healthCheckExprs"]
        environment = celpy.Environment()
        self._programs = {
            outcome: environment.program(environment.compile(exprs[field]))
            for field, outcome in (("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current"))
        }

    def __call__(self, body: Object) -> str:
        fields = {name: json_to_cel(value) for name, value in body.items()}
        outcomes = (outcome for outcome, program in self._programs.items() if program.evaluate(fields))
        return next(outcomes, "InProgress")
