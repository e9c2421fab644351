"""The commands of a Markdown page. CI runs those of some headings: page_commands.py PAGE HEADING..."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Step(NamedTuple):
    """A command, with its continued lines and its here-document, and the lines that the page shows below it."""

    heading: str
    command: str
    printed: str


def steps(page: str) -> Iterator[Step]:
    """Yield the commands of the console blocks, in the order of the page."""
    heading = ""
    found = re.findall(r"^#+ ([^\n]+)$|^( *)```(\w*)\n(.*?)^\2```$", page, flags=re.DOTALL | re.MULTILINE)
    for title, _, language, block in found:
        heading = title or heading
        if language == "console":
            yield from (Step(heading, *_divided(text)) for text in re.split(r"^ *\$ ", block, flags=re.MULTILINE)[1:])


def _divided(text: str) -> tuple[str, str]:
    """Return the command and what it prints, of a text that begins with a command."""
    command = re.match(r"(?:[^\n]*\\\n)*[^\n]*$(?:(?<=<<EOF)\n.*?^EOF$)?", text, flags=re.DOTALL | re.MULTILINE)
    assert command is not None, text
    return command[0], text[command.end() + 1 :]


def programs(command: str) -> Iterator[list[str]]:
    """Yield the words of each program of a command, as of a pipe and of $(...); a here-document follows as one more."""
    lexer = shlex.shlex(re.sub(r" +#.*$", "", command, flags=re.MULTILINE), posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word and not set(word) - set("();<>|&"):
            if words:
                yield words
            words = []
        elif word:
            words.append(word)


def main(path: str, *headings: str) -> None:
    """Print the commands. Exits if a heading has none."""
    found = list(steps(Path(path).read_text("utf-8")))
    for heading in headings:
        commands = [step.command for step in found if step.heading == heading]
        if not commands:
            sys.exit(f"{path} has no commands below {heading!r}")
        sys.stdout.write("\n".join([*commands, ""]))


if __name__ == "__main__":
    main(*sys.argv[1:])
