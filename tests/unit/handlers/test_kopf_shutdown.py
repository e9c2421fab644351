"""Kopf's generators may still be reading when its loop is closed: that is no error, anything else is."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from awsbatch_operator.handlers.watch import on_loop_error


async def _stream() -> AsyncIterator[int]:
    yield 1
    await asyncio.Event().wait()


async def _close_while_reading() -> None:
    stream = _stream()
    await anext(stream)
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    await asyncio.get_running_loop().shutdown_asyncgens()
    reading.cancel()


@pytest.mark.parametrize(("handled", "logged"), [(True, 0), (False, 1)])
def test_a_watch_that_is_closed_while_it_reads_logs_no_error(
    handled: bool, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        if handled:
            asyncio.get_running_loop().set_exception_handler(on_loop_error)
        await _close_while_reading()

    asyncio.run(run())
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == logged


def test_other_errors_of_the_loop_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(on_loop_error)
        loop.call_exception_handler({"message": "a callback failed", "exception": ValueError("broken")})

    asyncio.run(run())
    assert "a callback failed" in caplog.text
