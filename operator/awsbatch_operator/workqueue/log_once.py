"""Logging a lasting problem once."""

from enum import Enum, auto


class Change(Enum):
    """The effect of a report."""

    BEGAN = auto()
    CHANGED = auto()
    ENDED = auto()


class LogOnce:
    """Remembers the problem that was reported last, so that the caller logs only what is new."""

    def __init__(self) -> None:
        self.problem = ""

    def report(self, problem: str) -> Change | None:
        """Compare with the last report. An empty text means that there is no problem. None: nothing changed."""
        before, self.problem = self.problem, problem
        if problem == before:
            return None
        if not before:
            return Change.BEGAN
        return Change.CHANGED if problem else Change.ENDED
