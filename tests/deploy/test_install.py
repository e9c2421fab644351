"""tools/install.py, as `make` calls it: uv installs from where pip's settings say, and pip installs where uv cannot."""

import base64
import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from install import pip_settings, uv_environment

from deploy.places import ROOT

UV = Path(sys.executable).with_name("uv")
WHEEL = "installtest-1-py3-none-any.whl"


class Index:
    """A package index with one package, which stands in no other."""

    def __init__(self, directory: Path) -> None:
        self.requests: list[str] = []
        package = directory / "simple" / "installtest"
        package.mkdir(parents=True)
        _write_wheel(package / WHEEL)
        self.sha256 = hashlib.sha256((package / WHEEL).read_bytes()).hexdigest()
        (package / "index.html").write_text(f'<a href="{WHEEL}">{WHEEL}</a>', encoding="utf-8")
        requests = self.requests

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                requests.append(self.headers["User-Agent"].split("/")[0])

        handler = functools.partial(Handler, directory=str(directory))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"

    def lock(self, path: Path, sha256: str) -> Path:
        path.write_text(f"installtest==1 --hash=sha256:{sha256}\n", encoding="utf-8")
        return path


def _write_wheel(path: Path) -> None:
    info = "installtest-1.dist-info"
    files = {
        "installtest.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: installtest\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {name: hashlib.sha256(text.encode()).digest() for name, text in files.items()}
    lines = [f"{name},sha256={base64.urlsafe_b64encode(digests[name]).decode().rstrip('=')}," for name in files]
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": "\n".join([*lines, f"{info}/RECORD,,", ""])}.items():
            archive.writestr(name, text)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index")
    thread = threading.Thread(target=index.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield index
    index.server.shutdown()
    thread.join()
    index.server.server_close()


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An environment as `make` leaves it after its first step: without pip, with uv."""
    place = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True, timeout=60)
    (place / "bin" / "uv").symlink_to(UV)
    return place / "bin" / "python"


def run(python: Path, lock: Path, settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """With these variables and no others that lead to an index."""
    home = python.parents[2]
    clean = {"PATH": os.environ["PATH"], "HOME": str(home), "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
    command: list[str | Path] = [sys.executable, "tools/install.py", python, "--require-hashes", "-r", lock]
    return subprocess.run(
        command, cwd=ROOT, env=clean | dict(settings), capture_output=True, text=True, check=False, timeout=60
    )


def is_installed(python: Path) -> bool:
    return subprocess.run([python, "-c", "import installtest"], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("place", ["variable", "file"])
def test_uv_installs_from_the_index_of_pip(python: Path, index: Index, tmp_path: Path, place: str) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(f"[global]\nindex-url = {index.url}\n", encoding="utf-8")
    settings = {"PIP_INDEX_URL": index.url} if place == "variable" else {"PIP_CONFIG_FILE": str(file)}
    done = run(python, index.lock(tmp_path / "lock.txt", index.sha256), settings)
    assert done.returncode == 0, done.stderr
    assert is_installed(python)
    assert set(index.requests) == {"uv"}
    assert "Installed 1 package" in done.stdout
    assert " + installtest" not in done.stdout


@pytest.mark.parametrize("why", ["missing", "failing", "no-index"])
def test_pip_installs_where_uv_cannot(python: Path, index: Index, tmp_path: Path, why: str) -> None:
    settings = {"PIP_INDEX_URL": index.url}
    if why == "missing":
        python.with_name("uv").unlink()
    elif why == "failing":
        settings["UV_OFFLINE"] = "1"
    else:
        settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index" / "simple" / "installtest")}
    done = run(python, index.lock(tmp_path / "lock.txt", index.sha256), settings)
    assert done.returncode == 0, done.stderr
    assert is_installed(python)
    assert "uv" not in index.requests
    assert ("uv cannot install this: pip does" in done.stdout) == (why != "missing")


def test_neither_installs_a_package_with_another_hash(python: Path, index: Index, tmp_path: Path) -> None:
    done = run(python, index.lock(tmp_path / "lock.txt", "0" * 64), {"PIP_INDEX_URL": index.url})
    assert done.returncode != 0
    assert {"uv", "pip"} <= set(index.requests)
    assert not is_installed(python)


def test_a_variable_of_pip_comes_before_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("[global]\ntimeout = 1\ncert = a\n[install]\ntimeout = 2\nproxy = b\n", encoding="utf-8")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("PIP_PROXY", "c")
    monkeypatch.delenv("PIP_CERT", raising=False)
    monkeypatch.delenv("PIP_TIMEOUT", raising=False)
    settings = pip_settings(Path(sys.executable))
    assert {name: settings[name] for name in ("timeout", "cert", "proxy")} == {
        "timeout": "2",
        "cert": "a",
        "proxy": "c",
    }


def test_several_values_are_separated_as_uv_expects_and_what_is_set_for_uv_stays() -> None:
    settings = {
        "extra-index-url": "https://a https://b",
        "find-links": "\n/c\n/d",
        "cert": "/e",
        "index-url": "https://f",
    }
    found = uv_environment(settings, {"SSL_CERT_FILE": "/own"})
    assert found["UV_EXTRA_INDEX_URL"] == "https://a https://b"
    assert found["UV_FIND_LINKS"] == "/c,/d"
    assert found["SSL_CERT_FILE"] == "/own"
    assert found["UV_INDEX_URL"] == "https://f"
