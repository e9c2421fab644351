"""Reads an object like kstatus (by its documented rules), Argo CD and Flux (by our scripts)."""

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

import celpy
import yaml
from celpy.adapter import json_to_cel
from lupa.lua51 import LuaRuntime

from deploy.places import EXAMPLES, GITOPS

Object = dict[str, Any]

HEALTH_LUA: Final = GITOPS / "argocd" / "health.lua"
HEALTH_OF_POLICIES: Final = GITOPS / "argocd" / "policies" / "health.lua"
HEALTH_OF_TERMINATIONS: Final = GITOPS / "argocd" / "terminations" / "health.lua"
BATCH_JOBS: Final = EXAMPLES / "gitops" / "flux-kustomization.yaml"
STATUSES: Final = {"Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown"}
METADATA: Final = ("generation", "deletionTimestamp", "annotations")
STATUS: Final = ("observedGeneration", "conditions")
CONDITION: Final = ("type", "status", "reason")
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


@cache
def _lua(script: Path) -> tuple[LuaRuntime, Any]:
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    for library in SHUT:
        lua.globals()[library] = None
    return lua, lua.compile(script.read_text("utf-8"))


def argo_cd(body: Object, script: Path = HEALTH_LUA) -> tuple[str, str]:
    """Health and message that the script gives, run as Argo CD runs it."""
    lua, run = _lua(script)
    lua.globals()["obj"] = lua.table_from(body, recursive=True)
    health = run()
    assert set(health) <= {"status", "message"}
    assert health["status"] in STATUSES
    assert isinstance(health["message"], str)
    return health["status"], health["message"]


class Flux:
    """The healthCheckExprs of our Kustomization, evaluated in Flux's order over the object's top-level fields."""

    def __init__(self) -> None:
        (kustomization,) = (
            body
            for body in yaml.load_all(BATCH_JOBS.read_text("utf-8"), yaml.CSafeLoader)
            if body["kind"] == "Kustomization"
        )
        (exprs,) = kustomization["spec"]["healthCheckExprs"]
        read = {name for text in exprs.values() for name in re.findall(r"\b(?:metadata|status|c)\.(\w+)", text)}
        assert read <= {*METADATA, *STATUS, *CONDITION}, "of an object only these are evaluated"
        called = {name for text in exprs.values() for name in re.findall(r"(\w+)\(", text)}
        assert called <= {"has", "exists"}, "a text is only compared with literals"
        self._literals = {literal for text in exprs.values() for literal in re.findall("'([^']*)'", text)}
        self._known: dict[str, str] = {}
        environment = celpy.Environment()
        self._programs = {
            outcome: environment.program(environment.compile(exprs[field]))
            for field, outcome in (("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current"))
        }

    def __call__(self, body: Object) -> str:
        """An evaluation takes 20 ms, and many objects differ only in what the expressions do not read."""
        metadata, status = _only(body["metadata"], METADATA), _only(body.get("status", {}), STATUS)
        if "conditions" in status:
            status["conditions"] = [self._condition(condition) for condition in status["conditions"]]
        parts = {"metadata": metadata, "status": status}
        key = json.dumps(parts, sort_keys=True)
        if key not in self._known:
            fields = {name: json_to_cel(value) for name, value in parts.items()}
            outcomes = (outcome for outcome, program in self._programs.items() if program.evaluate(fields))
            self._known[key] = next(outcomes, "InProgress")
        return self._known[key]

    def _condition(self, condition: Object) -> Object:
        """What the expressions read: a reason that none of them names is like any other."""
        read = _only(condition, CONDITION)
        return read if read["reason"] in self._literals else {**read, "reason": "Other"}


def _only(body: Object, names: Iterable[str]) -> Object:
    return {name: body[name] for name in names if name in body}
