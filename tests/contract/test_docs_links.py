"""Every link of the Markdown files leads to a file of the repository and to a heading of its page."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Final
from urllib.parse import unquote

import pytest

ROOT: Final = Path(__file__).parents[2]
HOME: Final = "https://github.com/awsbatch-operator/awsbatch-operator"
_OWN: Final = re.compile(rf"{HOME}/(?:blob|tree)/main/([^\s)\"'>]+)")


def tracked() -> list[str]:
    """Tracked and new files of the repository; ignored files cannot be linked."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).exists())


FILES: Final = tracked()
PLACES: Final = {*FILES, *(str(parent) for name in FILES for parent in PurePosixPath(name).parents)}
PAGES: Final = [name for name in FILES if name.endswith(".md")]


def prose(page: str) -> str:
    """The page without fenced code, in which brackets are not links and # is not a heading."""
    return re.sub(r"^( *)```.*?^\1```$", "", (ROOT / page).read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: str) -> set[str]:
    """Anchors as GitHub builds them: lower case letters, digits, - and _; a blank becomes -; repeated ones get -1."""
    seen: Counter[str] = Counter()
    found = set(re.findall(r'<a (?:id|name)="([^"]+)"', prose(page)))
    for heading in re.findall(r"^#{1,6} +(.+?)(?: +#+)?$", prose(page), flags=re.MULTILINE):
        text = re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def links(page: str) -> Iterator[tuple[str, str]]:
    """Path from the root, and anchor, of each link into the repository."""
    text = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", lambda code: code[0].replace("](", "] ("), prose(page))
    for target in re.findall(r"]\(\s*<?([^)\s>]+)", text):
        if own := _OWN.fullmatch(target):
            path, _, anchor = own[1].partition("#")
            yield path.rstrip("/"), anchor
        elif not re.match(r"[a-z]+:", target):
            path, _, anchor = unquote(target).partition("#")
            yield normpath(PurePosixPath(page).parent / path) if path else page, anchor


def broken(path: str, anchor: str) -> str:
    if path not in PLACES:
        return f"{path}: no such file"
    if anchor and not re.fullmatch(r"L\d+(-L\d+)?", anchor) and anchor not in anchors(path):
        return f"{path}#{anchor}: no such heading"
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    assert [word for link in links(page) if (word := broken(*link))] == []


def test_links_of_every_kind_are_found() -> None:
    found = {link for page in PAGES for link in links(page)}
    assert ("docs/operations.md", "awsbatchoperatornoleader") in found  # relative, from another folder
    assert ("deploy/iam", "") in found  # a folder, by its address on GitHub
    assert ("docs/security.md", "scope-the-role") in found  # on the same page
    assert len(found) > 50


def test_urls_of_the_repository_in_other_files_exist() -> None:
    texts = [name for name in FILES if name.endswith((".yaml", ".yml", ".json", ".txt", ".toml", ".tpl", ".py", ".tf"))]
    found = {target for name in texts for target in _OWN.findall((ROOT / name).read_text("utf-8"))}
    assert "docs/operations.md#awsbatchoperatornoleader" in found  # the runbook of an alert
    assert [word for target in sorted(found) if (word := broken(*target.partition("#")[::2]))] == []
