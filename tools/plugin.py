"""`python tools/plugin.py dist`: builds kubectl awsbatch into that directory, as a release has it. Needs only Python.

`kubectl-awsbatch` is the whole plugin in one executable file, a zipapp. `kubectl-awsbatch-v1.2.3.tar.gz` holds it and
the licence, and `awsbatch.yaml` is the manifest for krew with the checksum of that archive. The same sources give
the same bytes, if SOURCE_DATE_EPOCH is the same.
"""

import gzip
import hashlib
import io
import os
import re
import shutil
import sys
import tarfile
import tempfile
import time
import zipapp
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
NAME: Final = "kubectl-awsbatch"
SOURCES: Final = ROOT / "operator" / "kubectl_awsbatch"
MANIFEST: Final = ROOT / "deploy" / "krew" / "awsbatch.yaml"
# zipapp's own ignores what main returns, which is the exit code.
_MAIN: Final = "import sys\n\nfrom kubectl_awsbatch.cli import main\n\nsys.exit(main())\n"
_EPOCH: Final = 1_580_601_600
"""Seconds since 1970, as in the Dockerfile."""


def build(directory: Path, epoch: int) -> list[Path]:
    """Write the files; return them."""
    directory.mkdir(parents=True, exist_ok=True)
    manifest = MANIFEST.read_text(encoding="utf-8")
    program, archive = directory / NAME, directory / _archive_name(manifest)
    _zipapp(program, epoch)
    _pack(archive, [program, ROOT / "LICENSE"], epoch)
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    (directory / MANIFEST.name).write_text(manifest.replace("0" * 64, checksum), encoding="utf-8")
    return [program, archive, directory / MANIFEST.name]


def _archive_name(manifest: str) -> str:
    found = re.search(rf"^ *uri: \S+/({NAME}-v\S+\.tar\.gz)$", manifest, re.MULTILINE)
    if not found or manifest.count("0" * 64) != 1:
        raise SystemExit(f"{MANIFEST} needs a uri that ends with {NAME}-v<version>.tar.gz, and a sha256 of zeros")
    return found[1]


def _zipapp(program: Path, epoch: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        top = Path(home)
        shutil.copytree(SOURCES, top / SOURCES.name, ignore=shutil.ignore_patterns("__pycache__"))
        (top / "__main__.py").write_text(_MAIN, encoding="utf-8")
        for path in top.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (epoch, epoch))
        # Not compressed: it starts faster, and the bytes do not depend on a version of zlib.
        zipapp.create_archive(top, program, interpreter="/usr/bin/env python3")
    program.chmod(0o755)


def _pack(archive: Path, files: list[Path], epoch: int) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in files:
            about = tarfile.TarInfo(path.name)
            about.size, about.mtime, about.mode = path.stat().st_size, epoch, 0o755 if path.name == NAME else 0o644
            with path.open("rb") as content:
                tar.addfile(about, content)
    archive.write_bytes(gzip.compress(packed.getvalue(), mtime=epoch))


if __name__ == "__main__":
    os.environ["TZ"] = "UTC"  # a zip archive has local times
    time.tzset()
    for file in build(Path(*sys.argv[1:]), int(os.environ.get("SOURCE_DATE_EPOCH", _EPOCH))):
        print(file)
