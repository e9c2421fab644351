"""The manifests of examples/, moved into the namespace of a test, and their scripts, run as in their containers."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from awsbatch_sandbox.cluster import Cluster, kubectl_environment
from awsbatch_sandbox.kubeconfig import write_private
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from deploy.places import EXAMPLES
from integration.scenario import SOON

Body = dict[str, Any]
_OURS: Final = "awsbatch.dev"
_KUBERNETES: Final = ("v1", "apps/v1", "batch/v1", "rbac.authorization.k8s.io/v1")


def bodies(name: str) -> list[Body]:
    """The objects of a file, named by its path in examples/."""
    return list(yaml.load_all((EXAMPLES / name).read_text("utf-8"), yaml.CSafeLoader))


def is_ours(body: Body) -> bool:
    return str(body["apiVersion"]).startswith(f"{_OURS}/")


def is_kubernetes(body: Body) -> bool:
    return body["apiVersion"] in _KUBERNETES


def one(name: str, kind: str) -> Body:
    """The only object of this kind in the file."""
    (found,) = [body for body in bodies(name) if body["kind"] == kind]
    return found


def moved(name: str, namespace: str) -> list[Body]:
    """The objects that an API server of Kubernetes with our CRDs knows, in another namespace."""
    text = (EXAMPLES / name).read_text("utf-8")
    for old in {body["metadata"].get("namespace") for body in bodies(name)} - {None}:
        text = text.replace(f"namespace: {old}\n", f"namespace: {namespace}\n")
        text = text.replace(
            f"kind: Namespace\nmetadata:\n  name: {old}\n", f"kind: Namespace\nmetadata:\n  name: {namespace}\n"
        )
    return [body for body in yaml.load_all(text, yaml.CSafeLoader) if is_ours(body) or is_kubernetes(body)]


def apply(cluster: Cluster, *objects: Body) -> None:
    """By kubectl, with unknown fields as errors."""
    cluster.kubectl("apply", "--validate=strict", "-f", "-", stdin=yaml.safe_dump_all(objects))


def login(directory: Path, world: World, cluster: Cluster, account: str = "") -> Path:
    """A kubeconfig with this namespace, as in a pod, and the token of a service account; without one, an admin's."""
    config = yaml.load(world.control_plane.kubeconfig.read_text("utf-8"), yaml.CSafeLoader)
    for context in config["contexts"]:
        context["context"]["namespace"] = cluster.namespace
    if account:
        config["users"][0]["user"] = {"token": cluster.kubectl("create", "token", account).strip()}
    path = directory / f"{account or 'admin'}.kubeconfig"
    write_private(path, yaml.safe_dump(config).encode())
    return path


@dataclass(frozen=True)
class Shell:
    """`program`: of the shell. `path`: the PATH, with kubectl and what the scripts call beside it."""

    program: tuple[str, ...]
    path: str


@dataclass(frozen=True)
class Script:
    """A script with its shell and its environment."""

    command: tuple[str, ...]
    environment: Mapping[str, str]

    def run(self, *arguments: str, check: bool = True, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *arguments],
            env={**self.environment, **changes},
            check=check,
            timeout=60,
            capture_output=True,
            text=True,
        )

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )


def script(shell: Shell, kubeconfig: Path, cache: Path, *command: str, **environment: str) -> Script:
    """`command`: what follows the program of the shell."""
    path = {"PATH": f"{shell.path}:{os.environ['PATH']}" if shell.program == ("/bin/sh",) else shell.path}
    return Script((*shell.program, *command), {**path, **environment, **kubectl_environment(kubeconfig, cache)})


# -- permissions ------------------------------------------------------------------------------------------------------

Done = subprocess.CompletedProcess[str]


def assert_minimal(cluster: Cluster, name: str, run: Callable[[], Done], *, foreign: str = "") -> None:
    """With the file's Role the script succeeds, and without any of the Role's verbs it fails.

    `foreign`: a group whose resources the script does not use.
    """
    role = one(name, "Role")
    rules = role["rules"]
    assert [run().returncode, run().returncode] == [0, 0]
    for number, rule in enumerate(rules):
        for verbs in _removable(rule) if rule["apiGroups"] != [foreign] else ():
            less = [{**rule, "verbs": [other for other in rule["verbs"] if other not in verbs]}]
            _set_rules(cluster, role, [one for one in (*rules[:number], *less, *rules[number + 1 :]) if one["verbs"]])
            # RBAC and the admission policy need a moment to know a change.
            what = f"the script needs {verbs} on {rule['resources']}"
            wait_for(lambda: run().returncode, timeout=SOON, what=what)
    _set_rules(cluster, role, rules)
    wait_for(lambda: run().returncode == 0, timeout=SOON, what="the role has all verbs again")


def _removable(rule: Body) -> list[set[str]]:
    """Each verb; list and watch together, since `kubectl wait` works with either, according to its version."""
    both = {"list", "watch"} & set(rule["verbs"])
    return [*({verb} for verb in rule["verbs"] if verb not in both), *([both] if both else [])]


def _set_rules(cluster: Cluster, role: Body, rules: list[Body]) -> None:
    patch = json.dumps({"rules": rules})
    cluster.kubectl("patch", "role", role["metadata"]["name"], "--type=merge", f"--patch={patch}")
