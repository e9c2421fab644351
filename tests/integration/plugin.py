"""Runs `kubectl awsbatch` as a person or a script does."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from kubernetes import client

from awsbatch_sandbox.cluster import Cluster, api_client, kubectl_environment
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.scenario import SOON

Body = dict[str, Any]
_GROUP = ("awsbatch.dev", "v1alpha1")
_SCRIPT = "#!{python}\nimport sys\nfrom kubectl_awsbatch.{module} import main\nsys.exit(main())\n"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Plugin:
    """The plugin in the namespace of a cluster; `bin` is searched before the kubectl of the tests."""

    cluster: Cluster
    bin: Path
    environment: Mapping[str, str] = field(repr=False)

    def __call__(self, *words: str, namespace: str | None = None, path: str | None = None, **variables: str) -> Done:
        """Run it as kubectl would, without a terminal."""
        with self.start(*words, namespace=namespace, path=path, **variables) as process:
            out, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        return Done(process.returncode, out, err)

    @contextmanager
    def start(
        self, *words: str, namespace: str | None = None, path: str | None = None, **variables: str
    ) -> Iterator["subprocess.Popen[str]"]:
        with subprocess.Popen(
            self.command(*words, namespace=namespace),
            env={**self.environment, **variables} | ({"PATH": path} if path else {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def command(self, *words: str, namespace: str | None = None) -> list[str]:
        return [str(self.bin / "kubectl-awsbatch"), *words, f"--namespace={namespace or self.cluster.namespace}"]

    def wrapped_kubectl(self, script: str) -> str:
        """A PATH on which kubectl first runs the script, which finds the real one as $KUBECTL."""
        home = self.bin / "wrapped"
        home.mkdir()
        real = shutil.which("kubectl", path=self.environment["PATH"])
        (home / "kubectl").write_text(f'#!/bin/bash\nKUBECTL={real}\n{script}\nexec "$KUBECTL" "$@"\n')
        (home / "kubectl").chmod(0o755)
        return f"{home}:{self.environment['PATH']}"

    @contextmanager
    def on_a_terminal(self, *words: str, path: str | None = None) -> Iterator["Terminal"]:
        """Run it on a terminal of its own, which gets stdin, stdout and stderr."""
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a job in the background, which hands that on
            signal.signal(signal.SIGINT, signal.default_int_handler)
        environment = {**self.environment} | ({"PATH": path} if path else {})
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            self.command(*words),
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            terminal = Terminal(process, ours)
            try:
                yield terminal
            finally:
                process.kill()
                terminal.reader.join(SOON)
                os.close(ours)


class Terminal:
    """A terminal with a program: its output and its input."""

    def __init__(self, process: "subprocess.Popen[bytes]", descriptor: int) -> None:
        self.process, self._descriptor, self._shown = process, descriptor, b""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._descriptor, 4096):
                self._shown += data
        except OSError:
            pass  # the program has ended

    @property
    def shown(self) -> str:
        return self._shown.decode()

    def shows(self, words: str) -> None:
        wait_for(lambda: words in self.shown, timeout=SOON, what=f"{words!r} on the terminal: {self.shown!r}")

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def ends(self) -> int:
        code = self.process.wait(SOON)
        self.reader.join(SOON)
        return code


def plugin_in(world: World, cluster: Cluster, directory: Path) -> Plugin:
    """The plugin as installed: two executables on PATH."""
    for name, module in (("kubectl-awsbatch", "cli"), ("kubectl_complete-awsbatch", "completion")):
        (directory / name).write_text(_SCRIPT.format(python=sys.executable, module=module))
        (directory / name).chmod(0o755)
    environment = kubectl_environment(world.control_plane.kubeconfig, world.cache)
    path = os.pathsep.join([str(directory), str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    return Plugin(cluster, directory, kept | environment | {"PATH": path})


class Bulk:
    """The BatchTerminations of a namespace; the test writes their status."""

    def __init__(self, world: World, namespace: str) -> None:
        self._api = api_client(world.control_plane.kubeconfig)
        self._objects, self._where = client.CustomObjectsApi(self._api), (*_GROUP, namespace, "batchterminations")

    def close(self) -> None:
        self._api.close()  # type: ignore[no-untyped-call]

    def all(self) -> list[Body]:
        found = self._objects.list_namespaced_custom_object(*self._where)
        items: list[Body] = cast("Body", found)["items"]
        return items

    def one(self, holds: Callable[[Body], bool] = lambda _body: True) -> Body:
        """The only one, once it holds."""
        return wait_for(
            lambda: next((one for one in self.all() if holds(one)), None), timeout=SOON, what="a BatchTermination"
        )

    def says(self, phase: str, *, conditions: Mapping[str, str] | None = None, **status: Any) -> Body:
        """Write the status of the only one, as the operator does."""
        body = self.one()
        now, generation = "2026-01-01T00:00:00Z", body["metadata"]["generation"]
        given = [text.split("/") for text in (conditions or {}).values()]
        shown = [
            {"type": type_, "status": parts[0], "reason": parts[1], "message": parts[2], "lastTransitionTime": now}
            for type_, parts in zip(conditions or {}, given, strict=True)
        ]
        patch = {"status": {"phase": phase, "observedGeneration": generation, "conditions": shown, **status}}
        changed = self._objects.patch_namespaced_custom_object_status(
            *self._where, body["metadata"]["name"], patch, _content_type="application/merge-patch+json"
        )
        return cast("Body", changed)

    def approve(self, approved: bool) -> None:
        change = {"spec": {"approved": approved}}
        name = self.one()["metadata"]["name"]
        self._objects.patch_namespaced_custom_object(
            *self._where, name, change, _content_type="application/merge-patch+json"
        )

    def delete(self) -> None:
        self._objects.delete_namespaced_custom_object(*self._where, self.one()["metadata"]["name"])
