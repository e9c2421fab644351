"""Every link of a page into this repository leads to a file that is there, and to a heading that it has."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for room in ("bench", "deploy", "docs") for page in (ROOT / room).rglob("*.md"))]
)
ON_GITHUB = re.compile(r"https://github\.com/awsbatch-operator/awsbatch-operator/(?:blob|tree)/main/")


def prose(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        inside = ON_GITHUB.sub(f"{ROOT.as_posix()}/", link)
        place = urlsplit(inside)
        if place.scheme:
            continue
        target = page.parent / place.path if place.path else page
        assert target.exists(), link
        assert not place.fragment or place.fragment in anchors(target), link


def test_there_are_pages_with_links() -> None:
    assert {"README.md", "docs/operations.md", "deploy/iam/README.md"} <= {
        str(page.relative_to(ROOT)) for page in PAGES
    }
