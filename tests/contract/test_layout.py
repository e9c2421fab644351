"""``operator/`` is a source root that shares its name with a module of the standard library."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_source_root_is_no_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_no_file_shadows_the_standard_librarys_operator() -> None:
    assert list((ROOT / "operator").rglob("operator.py")) == []


def test_import_operator_from_the_repository_is_the_standard_librarys() -> None:
    command = [sys.executable, "-c", "import operator; print(operator.__file__, operator.itemgetter)"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    assert "itemgetter" in found.stdout
    assert str(ROOT / "operator") not in found.stdout
