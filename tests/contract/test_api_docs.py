import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "api.md"


def api_docs(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "api_docs.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_the_api_page_says_what_the_crd_says() -> None:
    check = api_docs("--check")
    assert check.returncode == 0, check.stderr


def test_a_page_out_of_date_is_told_with_its_diff_and_the_remedy(tmp_path: Path) -> None:
    stale = tmp_path / "api.md"
    stale.write_text(PAGE.read_text(encoding="utf-8").replace("| `jobId` |", "| `jobID` |"), encoding="utf-8")
    check = api_docs("--check", str(stale))
    assert check.returncode == 1
    assert "-| `jobID` |" in check.stderr
    assert "run: python tools/api_docs.py > docs/api.md" in check.stderr


def test_every_reason_on_the_page_has_its_meaning_and_its_place_in_the_table_of_conditions() -> None:
    conditions = PAGE.read_text(encoding="utf-8").split("## Conditions")[1].split("## Columns")[0]
    by_type, meanings = conditions.split("### Reasons")
    reasons = re.findall(r"^\| `(\w+)` \| [^|]+=[^|]+ \| \w[^|]+ \|$", meanings.split("### Fields")[0], re.MULTILINE)
    assert len(reasons) > 20
    assert sorted(set(re.findall(r"`(\w+)`", by_type))) == sorted(reasons)
