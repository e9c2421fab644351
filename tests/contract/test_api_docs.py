import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "api.md"


def api_docs(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "api_docs.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_the_api_page_matches_the_crds() -> None:
    check = api_docs("--check")
    assert check.returncode == 0, check.stderr


def test_an_outdated_page_is_reported_with_its_diff_and_the_remedy(tmp_path: Path) -> None:
    stale = tmp_path / "api.md"
    stale.write_text(PAGE.read_text(encoding="utf-8").replace("| `jobId` |", "| `jobID` |"), encoding="utf-8")
    check = api_docs("--check", str(stale))
    assert check.returncode == 1
    assert "-| `jobID` |" in check.stderr
    assert "run: python tools/api_docs.py > docs/api.md" in check.stderr


@pytest.mark.parametrize(("of", "least"), [("", 20), (" of a policy", 5), (" of a bulk termination", 15)])
def test_every_reason_on_the_page_has_its_meaning_and_its_place_in_the_table_of_conditions(of: str, least: int) -> None:
    conditions = PAGE.read_text(encoding="utf-8").split(f"## Conditions{of}\n")[1].split("## Columns")[0]
    by_type, meanings = conditions.split(f"### Reasons{of}\n")
    reasons = re.findall(r"^\| `(\w+)` \| [^|]+=[^|]+ \| \w[^|]+ \|$", meanings, re.MULTILINE)
    assert len(reasons) >= least
    assert sorted(set(re.findall(r"`(\w+)`", by_type))) == sorted(reasons)


def test_the_sample_of_a_terminated_job_shows_each_field_that_such_a_job_has() -> None:
    sample = yaml.load(
        (ROOT / "crds" / "examples" / "valid" / "status-terminated.yaml").read_text("utf-8"), yaml.CSafeLoader
    )
    crd = yaml.load((ROOT / "crds" / "batchjobs.awsbatch.dev.yaml").read_text("utf-8"), yaml.CSafeLoader)
    status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    assert status.keys() - sample["status"].keys() == {"access", "array", "node", "containerReason", "deadline"}
