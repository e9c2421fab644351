import subprocess
import sys

import pytest
from click.testing import CliRunner

from awsbatch_operator import __version__, cli


def test_without_the_extra_the_sandbox_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "awsbatch_sandbox.cli", None)
    for command in ("sandbox", "demo", "demo-teams"):
        result = CliRunner().invoke(cli.main, [command])
        assert result.exit_code == 1
        assert "pip install '.[sandbox]' in a clone of the repository" in result.stderr
        assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["sandbox", "demo", "demo-teams"])
def test_the_commands_of_the_sandbox_get_their_own_arguments(command: str) -> None:
    runner = CliRunner()
    shown = runner.invoke(cli.main, [command, "--help"])
    assert (shown.exit_code, "--control-plane" in shown.output) == (0, True)
    assert f"Usage: awsbatch-operator {command} " in shown.output
    wrong = runner.invoke(cli.main, [command, "--bogus"])
    assert (wrong.exit_code, "--bogus" in wrong.stderr) == (2, True)


def test_the_sandbox_is_not_loaded_by_the_operator() -> None:
    code = (
        "import sys; from awsbatch_operator import cli, manager; "
        "print([name for name in sys.modules if name.startswith(('awsbatch_sandbox', 'celpy', 'jsonschema'))])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout == "[]\n"


def test_it_is_a_module_too() -> None:
    command = [sys.executable, "-m", "awsbatch_operator", "version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.startswith(f"awsbatch-operator {__version__}\n")
