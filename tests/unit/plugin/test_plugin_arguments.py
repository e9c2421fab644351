import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kubectl_awsbatch
from awsbatch_operator import __version__
from kubectl_awsbatch import arguments, bulk_selection, cli, completion, errors
from kubectl_awsbatch.bulk_selection import BulkSelection
from kubectl_awsbatch.errors import UsageError

PACKAGE = Path(kubectl_awsbatch.__file__).parent
REASON = ("--reason", "INC-1")
UUID = "91e42a4e-9a62-4bb7-a5aa-55a305b9462f"
ARN = "arn:aws:batch:us-east-1:123456789012:job-queue/gpu"
QUEUE = ("stop", "--queue", "gpu", "--name", "train-*", *REASON)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run without kubectl: wrong arguments are reported before kubectl is needed."""
    monkeypatch.setattr(sys, "argv", ["kubectl-awsbatch", *words])
    monkeypatch.setenv("PATH", "/nonexistent")
    return cli.main()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lss"], '"lss" is not a command. Commands: ls, stop, wait'),
        (["--bogus"], "a command is missing"),
        (["ls", "--bogus"], "unrecognized arguments: --bogus. See `kubectl awsbatch ls --help`"),
        (["ls", "-o", "yaml"], "invalid choice: 'yaml'"),
        (["ls", "-n", ""], "--namespace is empty"),
        (["ls", "-n"], "expected one argument"),
        (["stop", "train"], "required: --reason"),
        (["stop", *REASON], "stop names no job"),
        (["stop", "train", "-l", "a=b", *REASON], "exactly one of NAME..., -l, --job-id and --queue"),
        (["stop", "train", "--reason", " "], "--reason is blank"),
        (["stop", "train", "--max", "3", *REASON], "--max can be used only with --queue"),
        (["stop", "train", "--region", "eu-west-1", *REASON], "--region can be used only with --job-id or --queue"),
        (["stop", "train", "-A", *REASON], "-A can be used only with -l"),
        (["stop", "train", "--timeout", "soon", *REASON], '--timeout "soon" is not a duration'),
        (["stop", "abc:3", *REASON], "For a job id, use --job-id abc:3"),
        (["stop", "--job-id", "a b", *REASON], '"a b" is not a job id'),
        ([*QUEUE], "--queue needs --max N"),
        ([*QUEUE, "--max", "0"], "--queue needs --max N"),
        ([*QUEUE, "--max", "many"], "invalid int value: 'many'"),
        ([*QUEUE, "--max", "3", "--overwrite"], "--overwrite cannot be used with --queue"),
        ([*QUEUE, "--max", "3", "--tag", "team"], "Write it as key=value"),
        ([*QUEUE, "--max", "3", "--tag", "run=1", "--tag", "run=2"], '--tag sets "run" to two values'),
        (["stop", "--queue", "gpu", "--max", "3", "--region", "eu-west-1", *REASON], "--queue needs --name or --tag"),
        ([*QUEUE, "--max", "100001"], "--max is at most 100000"),
        ([*QUEUE, "--max", "3", "--region", "mars"], '--region "mars" is not an AWS region'),
        ([*QUEUE, "--max", "3", "--region", "eu-west-1a"], "such as eu-west-1 (eu-west-1a is a zone)"),
        ([*QUEUE, "--max", "3", "--queue", ARN], "Use --queue gpu and --region us-east-1."),
        ([*QUEUE, "--max", "3", "--queue", "gpu-*"], '--queue "gpu-*" is not the name of a job queue'),
        ([*QUEUE, "--max", "3", "--name", "*a"], '--name "*a" is not a job name. Use a name'),
        ([*QUEUE, "--max", "3", "--tag", f"{'k' * 129}=v"], "is not a tag"),
        (["stop", "--job-id", UUID, "--region", "mars", *REASON], '--region "mars" is not an AWS region'),
        (["adopt", UUID, "--region", "mars"], '--region "mars" is not an AWS region'),
        (["wait"], "wait needs either NAME... or -l"),
        (["wait", "a", "-l", "b=c"], "wait needs either NAME... or -l"),
        (["wait", "-x"], "unrecognized arguments: -x"),
        (["wait", "x/../y"], '"x/../y" does not name a BatchJob'),
        (["wait", "bt/x"], "does not name a BatchJob"),
        (["wait", "Train"], '"Train" is not the name of an object'),
        (["why"], "required: NAME"),
        (["why", "pod/x"], "does not name a BatchJob"),
        (["adopt", "\x1b[2J"], '"\\x1b[2J" is not a job id'),
        (["completion", "csh"], "invalid choice: 'csh'"),
    ],
)
def test_wrong_usage_is_told_with_the_remedy_and_code_64(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run(monkeypatch, *words) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("kubectl awsbatch: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["ls"], ["stop", "a", *REASON], ["wait", "a"], ["why", "a"], ["logs", "a"], ["adopt", "a"], ["version"]]
)
def test_without_kubectl_each_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert run(monkeypatch, *words) == 69
    assert "kubectl is not on PATH. Install kubectl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("job_id", "warned"),
    [
        *(("train", True), ("91E42A4E", True), ("91e42a4e-9a62-4bb7-a5aa-55a305b9462f", False)),
        *(("91e42a4e-9a62-4bb7-a5aa-55a305b9462f:3", False), ("91e42a4e-9a62-4bb7-a5aa-55a305b9462f#1", False)),
    ],
)
@pytest.mark.parametrize("words", [["adopt"], ["stop", *REASON, "--job-id"]])
def test_the_name_of_a_job_given_as_its_id_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], job_id: str, warned: bool
) -> None:
    run(monkeypatch, *words, job_id)
    warning = f'"{job_id}" does not look like a job id: SubmitJob returns ids such as 91e42a4e-'
    assert (warning in capsys.readouterr().err) == warned


@pytest.mark.parametrize("command", arguments.COMMANDS)
def test_each_command_has_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, command, "--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: kubectl awsbatch {command}" in shown
    assert f"{arguments.COMMANDS[command][1:]}.\n" in shown
    assert "the worst, in the\n  order 3, 124, 1, 2, 0" in shown


def test_without_a_command_the_commands_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [run(monkeypatch), run(monkeypatch, "--help"), run(monkeypatch, "help")] == [64, 0, 0]
    assert capsys.readouterr().out.count("  adopt       create the BatchJob") == 3


def test_help_of_a_command_is_its_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "help", "stop") == 0
    assert "usage: kubectl awsbatch stop" in capsys.readouterr().out
    assert run(monkeypatch, "help", "stopp") == 64
    assert '"stopp" is not a command' in capsys.readouterr().err


def test_an_error_that_nobody_thought_of_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli._ACTIONS, "version", lambda _found: 1 // 0)
    assert run(monkeypatch, "version") == 70
    err = capsys.readouterr().err
    assert "internal error, please report it: ZeroDivisionError" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "command", "rest"),
    [
        (["ls"], "ls", []),
        (["-n", "stop", "ls", "-A"], "ls", ["-n", "stop", "-A"]),
        (["--context=a", "wait", "b"], "wait", ["--context=a", "b"]),
        (["--as", "ls"], None, ["--as", "ls"]),
    ],
)
def test_flags_of_kubectl_may_stand_before_the_command(words: list[str], command: str | None, rest: list[str]) -> None:
    assert arguments.find_command(words) == (command, rest)


def test_flags_and_names_may_be_mixed() -> None:
    found = arguments.parser_of("stop").parse_intermixed_args(["a", "--reason", "x", "b", "--wait", "c"])
    assert (found.names, found.reason, found.wait) == (["a", "b", "c"], "x", True)


def test_the_region_is_that_of_the_flag_or_of_the_callers_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def region(flag: str | None) -> tuple[str, str]:
        found = BulkSelection(["q"], names=["*"], tags=["a=b=c", "d="], region=flag, reason="r", jobs_at_most=1)
        assert found.tags == {"a": "b=c", "d": ""}
        return found.region, found.region_source

    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert region("eu-west-1") == ("eu-west-1", "")
    assert region(None) == ("us-east-1", " (of AWS_REGION)")
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(UsageError, match=r"Set --region or AWS_REGION\."):
        region(None)


def test_a_region_of_the_callers_variables_is_checked_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_REGION", "mars")
    assert run(monkeypatch, *QUEUE, "--max", "3") == 64
    assert 'AWS_REGION "mars" is not an AWS region' in capsys.readouterr().err


def test_words_are_checked_as_the_api_server_checks_them() -> None:
    crds = PACKAGE.parents[1] / "deploy" / "helm" / "awsbatch-operator" / "crds"
    text = (crds / "batchterminations.awsbatch.dev.yaml").read_text("utf-8")
    patterns = [arguments.REGION, bulk_selection.QUEUE, bulk_selection.JOB_NAMES]
    assert re.findall(r"self\.matches\('(.*)'\)", text) == [f"^{pattern}$" for pattern in patterns]
    assert f"maximum: {bulk_selection.MOST_JOBS}\n" in text
    assert f"self.matches('^{arguments.REGION}$')" in (crds / "batchjobs.awsbatch.dev.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([""], [*arguments.COMMANDS]),
        (["w"], ["wait", "why"]),
        (["wait", "--t"], ["--timeout"]),
        (["ls", "-o", ""], ["json"]),
        (["ls", "--output=j"], ["--output=json"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["adopt", ""], []),
        (["nonsense", "-"], []),
    ],
)
def test_words_are_completed_without_a_cluster(words: list[str], found: list[str]) -> None:
    assert completion.candidates(words) == (found, ":4")


def test_the_page_names_existing_flags_and_every_exit_code() -> None:
    page = (PACKAGE.parents[1] / "docs" / "kubectl-plugin.md").read_text("utf-8")
    flags = {flag for command in arguments.COMMANDS for flag in arguments.flags_of(command)}
    of_others = {"--manifest-url"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page)) - of_others <= flags
    codes = {str(value) for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
    assert codes <= set(re.findall(r"\b\d+\b", page.partition("## Exit codes")[2] + page.partition("## Wait")[2]))


def test_it_imports_the_standard_library_only() -> None:
    trees = [ast.parse(path.read_text("utf-8")) for path in PACKAGE.glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {one.name for node in nodes if isinstance(node, ast.Import) for one in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= {*sys.stdlib_module_names, "kubectl_awsbatch"}


def test_it_starts_without_modules_that_take_long_to_import() -> None:
    code = (
        "import sys; from kubectl_awsbatch import cli, listing; print({'typing', 'pathlib', 'shutil'} & {*sys.modules})"
    )
    command = [sys.executable, "-S", "-c", code]
    shown = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout == "set()\n"


def test_its_version_is_that_of_the_operator() -> None:
    assert kubectl_awsbatch.__version__ == __version__
