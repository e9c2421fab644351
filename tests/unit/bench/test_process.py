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


def test_children_are_told_by_the_module_that_they_run() -> None:
    argv = [sys.executable, "-m", "code", "-q"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as child:
        assert children()["code"] == child.pid
        child.kill()
