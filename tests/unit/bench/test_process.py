import os
import subprocess
import sys
import threading
from pathlib import Path

from bench.process import children, files, threads


def test_open_files_are_counted() -> None:
    before = files(os.getpid())
    with Path(__file__).open("rb"):
        assert files(os.getpid()) == before + 1


def test_threads_are_counted() -> None:
    before, over = threads(os.getpid()), threading.Event()
    more = threading.Thread(target=over.wait)
    more.start()
    assert threads(os.getpid()) == before + 1
    over.set()
    more.join()


def test_children_are_identified_by_their_module() -> None:
    argv = [sys.executable, "-m", "code", "-q"]
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=nowhere) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(b"print('up')\n")
        child.stdin.flush()
        assert child.stdout.readline(), "until then it may not run its program yet"
        assert children()["code"] == child.pid
        child.kill()
