"""`python tools/links.py`: requests each link of the Markdown files to another site. Needs only Python and a network.

Links into this repository are checked offline, by tests/contract/test_docs_links.py.
"""

import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
OWN: Final = "https://github.com/awsbatch-operator/awsbatch-operator"
_LINK: Final = re.compile(r"]\(\s*<?(https?://[^)\s>#]+)")
_TIMEOUT: Final = 30.0
"""Seconds without an answer."""
_GONE: Final = (404, 410)
"""Other errors come from sites that reject programs, or that are down for a moment."""


def links(root: Path) -> Mapping[str, list[str]]:
    """The pages that have each link, without its anchor."""
    found = defaultdict(list)
    for name in subprocess.check_output(["git", "ls-files", "*.md"], cwd=root, text=True).splitlines():  # noqa: S607
        for url in sorted({*_LINK.findall((root / name).read_text(encoding="utf-8"))}):
            if not url.startswith(OWN):
                found[url].append(name)
    return found


def answer(url: str) -> tuple[bool, str]:
    """Whether the page still exists as far as the answer says, and the answer."""
    request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0 (link check)"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
            return True, str(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code not in _GONE, str(error.code)
    except OSError as error:
        return False, str(error)


def main(root: Path = ROOT) -> int:
    """Print the answer for each link; return 1 if one is broken."""
    pages = links(root)
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(pages, pool.map(answer, pages), strict=True))
    for url, (works, said) in sorted(answers.items()):
        print(f"{'ok' if works else 'BROKEN'}  {said}  {url}  {', '.join(pages[url])}")
    return int(not all(works for works, _ in answers.values()))


if __name__ == "__main__":
    sys.exit(main())
