"""A real control plane on loopback: kube-apiserver and etcd, from where setup-envtest puts them."""

import os
import signal
import urllib.error
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yaml

from awsbatch_sandbox.certificates import Authority, signing_key
from awsbatch_sandbox.controlplane import ASSETS, ControlPlane, ControlPlaneError, listens
from awsbatch_sandbox.kubeconfig import encoded, kubeconfig, opener, write_private
from awsbatch_sandbox.processes import Child, free_port

_START_TIMEOUT: Final = 60.0
_REMEDY: Final = (
    f"{ASSETS} must name a directory with kube-apiserver and etcd; get one with\n"
    "  go run sigs.k8s.io/controller-runtime/tools/setup-envtest@latest use -p path\n"
    "or use --control-plane=embedded, which needs nothing"
)


class Envtest(ControlPlane):
    """Like controller-runtime's envtest: no nodes and no controllers, so no garbage collection or namespace deletion.

    `flags` are further ones of kube-apiserver.
    """

    def __init__(self, directory: Path, assets: str | None, flags: Sequence[str] = ()) -> None:
        super().__init__(directory / "kubeconfig")
        binaries = _binaries(assets)
        self._directory = directory
        self._port, etcd_port = free_port(), free_port()
        self._etcd_url = f"http://127.0.0.1:{etcd_port}"
        self.description = f"kube-apiserver and etcd of {assets}"
        self._authority = Authority("awsbatch-sandbox")
        etcd = (binaries["etcd"], *_etcd_flags(self._etcd_url, directory / "etcd"))
        self._etcd = Child("etcd", etcd, log=directory / "etcd.log")
        apiserver = (binaries["kube-apiserver"], *self._apiserver_flags(), *flags)
        self._apiserver = Child("kube-apiserver", apiserver, log=directory / "kube-apiserver.log")

    def launch(self) -> None:
        self._write_files()
        self._etcd.start()
        # kube-apiserver gives up when etcd is not there at once.
        port = int(self._etcd_url.rpartition(":")[2])
        self._etcd.ready(lambda: listens("127.0.0.1", port), timeout=_START_TIMEOUT)
        self._apiserver.start()

    def ready(self) -> None:
        self._apiserver.ready(self._answers, timeout=_START_TIMEOUT)

    def stop(self) -> None:
        for child in (self._apiserver, self._etcd):
            if child.running:
                child.stop()

    def _vanish(self, seconds: float) -> None:  # noqa: ARG002  it stays away until it is started again
        self._apiserver.kill()

    def _return(self) -> None:
        self._apiserver.start()
        self.ready()

    def _signal(self, number: signal.Signals) -> None:
        self._apiserver.signal(number)

    def _answers(self) -> bool:
        url = f"https://127.0.0.1:{self._port}/readyz"
        try:
            with opener(self._authority.certificate).open(url, timeout=5) as response:
                return bool(response.status == 200)
        except urllib.error.HTTPError as starting:  # 500
            starting.close()
            return False
        except OSError:  # not listening yet
            return False

    def _apiserver_flags(self) -> list[str]:
        files = self._directory
        return [
            f"--etcd-servers={self._etcd_url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--cert-dir={files}",
            f"--tls-cert-file={files / 'server.crt'}",
            f"--tls-private-key-file={files / 'server.key'}",
            f"--client-ca-file={files / 'ca.crt'}",
            "--authorization-mode=RBAC",
            # No controller creates the service accounts that this plugin requires.
            "--disable-admission-plugins=ServiceAccount",
            f"--service-account-issuer=https://127.0.0.1:{self._port}/",
            f"--service-account-key-file={files / 'service-account.key'}",
            f"--service-account-signing-key-file={files / 'service-account.key'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--allow-privileged=true",
        ]

    def _write_files(self) -> None:
        server, admin = self._authority.server(), self._authority.client("sandbox", "system:masters")
        url = f"https://127.0.0.1:{self._port}"
        user = {"client-certificate-data": encoded(admin.certificate), "client-key-data": encoded(admin.key)}
        settings = kubeconfig(url, self._authority.certificate, user)
        contents = {
            "ca.crt": self._authority.certificate,
            "server.crt": server.certificate,
            "server.key": server.key,
            "service-account.key": signing_key(),
            self.kubeconfig.name: yaml.safe_dump(settings, sort_keys=False).encode(),
        }
        for name, content in contents.items():
            write_private(self._directory / name, content)


def _binaries(assets: str | None) -> dict[str, str]:
    if not assets:
        raise ControlPlaneError(f"{ASSETS} is not set: {_REMEDY}")
    found = {name: str(Path(assets) / name) for name in ("kube-apiserver", "etcd")}
    if missing := [name for name, path in found.items() if not os.access(path, os.X_OK)]:
        raise ControlPlaneError(f"{ASSETS}={assets} has no {' and no '.join(missing)}: {_REMEDY}")
    return found


def _etcd_flags(url: str, data: Path) -> list[str]:
    return [
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        "--listen-peer-urls=http://127.0.0.1:0",
        f"--data-dir={data}",
        "--unsafe-no-fsync",  # the data ends with the process: nothing is to survive a power cut
    ]
