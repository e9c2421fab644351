"""Writes to the terminal: cleans text of others, aligns tables, keeps progress on one line."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, TextIO

_LONGEST_CELL = 48


def clean(text: object) -> str:
    """Return the text with white space as blanks, and other unprintable characters as escapes.

    Control characters could move the cursor or change colours, bidirectional marks could reorder what is read.
    """
    words = text if isinstance(text, str) else str(text)
    if words.isprintable():
        return words
    return "".join(_visible(character) for character in words)


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    if character in "\t\n\r\v\f\x85\u2028\u2029":
        return " "
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clean_line(text: str) -> str:
    """Clean one line of a log: as `clean`, but tabs stay."""
    return "\t".join(clean(part) for part in text.split("\t"))


def quoted(text: object) -> str:
    """The cleaned text in double quotes."""
    return f'"{clean(text)}"'


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def short(text: str, longest: int = _LONGEST_CELL) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."


def width(text: str) -> int:
    """Columns that a terminal needs for the cleaned text."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(one) in "WF" for one in text)
    return len(text) + wide - sum(unicodedata.combining(one) > 0 for one in text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns aligned as kubectl aligns them. Cells are cleaned and shortened; an empty one is shown as -."""
    lines = [list(header), *([short(clean(cell)) or "-" for cell in row] for row in rows)]
    widths = [max(width(line[i]) for line in lines) for i in range(len(header))]
    padded = (
        "   ".join(cell + " " * (w - width(cell)) for cell, w in zip(line, widths, strict=True)) for line in lines
    )
    return "".join(line.rstrip() + "\n" for line in padded)


def set_up() -> None:
    """Make both streams write what their encoding lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def write(text: str) -> None:
    """Write to stdout. When its reader is gone, go on without output: changes that are under way must be finished."""
    _write(sys.stdout, text)


def note(text: str) -> None:
    """Write one line to stderr."""
    progress("")
    _write(sys.stderr, f"{text}\n")


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def write_json(value: Any) -> None:
    """Write JSON to stdout, in ASCII: no character of others reaches a terminal."""
    import json

    write(json.dumps(value, indent=2) + "\n")


_shown = ""


def progress(text: str) -> None:
    """Show a line on a terminal that the next one replaces; nothing in a pipe. An empty text removes it."""
    global _shown  # noqa: PLW0603 (what stands in the last line of the one terminal)
    if text == _shown or not sys.stderr.isatty():
        return
    _shown = text
    _write(sys.stderr, "\r\x1b[K" + short(text, _columns() - 1))


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


def duration(seconds: float) -> str:
    """Format an age as kubectl does: 42s, 5m3s, 3h, 2d4h."""
    whole = max(int(seconds), 0)
    days, hours, minutes = whole // 86400, whole // 3600, whole // 60
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d"
