"""tools/links.py requests the links of the pages to other sites and names those that are broken."""

import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import links
import pytest


class Site(BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_GET(self) -> None:
        self.send_response(int(self.path[1:]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def checked(root: Path, page: str) -> int:
    subprocess.run(["git", "init", "--quiet", root], check=True)
    (root / "page.md").write_text(page, encoding="utf-8")
    subprocess.run(["git", "add", "page.md"], cwd=root, check=True)
    return links.main(root)


def test_pages_that_exist_or_reject_programs_pass(
    site: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = f"[own]({links.OWN}/blob/main/README.md)"
    assert checked(tmp_path, f"[a]({site}/200#anchor), [b]({site}/403) and [c](<{site}/503>), {own}\n") == 0
    assert capsys.readouterr().out.splitlines() == [f"ok  {code}  {site}/{code}  page.md" for code in (200, 403, 503)]


@pytest.mark.parametrize("path", ["404", "410"])
def test_a_page_that_is_gone_is_broken(
    site: str, tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(tmp_path, f"[a]({site}/200), [b]({site}/{path})\n") == 1
    assert f"BROKEN  {path}  {site}/{path}  page.md\n" in capsys.readouterr().out


def test_a_site_that_does_not_answer_is_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(tmp_path, "[a](http://127.0.0.1:9/)\n") == 1
    assert capsys.readouterr().out.startswith("BROKEN  ")
