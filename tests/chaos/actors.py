"""What actors and scripts do to objects and jobs, as a plan foresees it."""

import random
from collections.abc import Iterator
from typing import Any, Final

Action = tuple[str, str, dict[str, Any]]
"""Kind of step, name of the object, details."""

UNKNOWN: Final = "unknown"
_JOBS: Final[dict[str, tuple[int, dict[str, Any]]]] = {
    # Name: how often, and the job as the simulator takes it.
    "running": (40, {"grace": 0.5}),
    "lingering": (8, {"grace": 4.0}),
    "slow": (3, {"grace": 20.0}),
    "runnable": (8, {"status": "RUNNABLE"}),
    "natural": (8, {"status": "SUBMITTED", "natural": True, "grace": 0.5}),
    "brief": (8, {"run_for": 6.0, "grace": 1.0}),
    "array": (6, {"children": ["RUNNING", "RUNNABLE"], "grace": 1.0}),
    "held": (3, {"status": "PENDING"}),
    "stuck": (3, {"stuck": True}),
    UNKNOWN: (3, {}),
}
_IGNORING: Final[tuple[int, dict[str, Any]]] = (3, {"ignore_terminates": 1, "grace": 1.0})
_STEADY: Final = frozenset({"running", "lingering", "slow", "runnable", "stuck", "ignoring"})
"""Jobs that go on until somebody ends them: only these are ended by themselves or by others."""
_ACTIONS: Final = {
    "create": 14,
    "state": 30,
    "mass": 2,
    "withdraw": 8,
    "reword": 8,
    "delete": 14,
    "foreign_status": 8,
    "race": 8,
    "end": 4,
    "rival": 3,
    "hide": 3,
    "twin": 4,
}
_WORDS: Final = ("runaway cost", "wrong image", "Übung ✓", "line one\nline two", '"quoted" \\ back', "x" * 900)
FOREIGN_STATUSES: Final[tuple[dict[str, Any], ...]] = (
    {"phase": "Pending"},
    {"phase": "Succeeded"},
    {"jobStatus": "RUNNABLE"},
    {"conditions": []},
    {"conditions": None, "phase": None},
    {"observedGeneration": 99},
)
"""Only what an operator that comes later can recognise as wrong: a status that says in all its parts that the job has
ended is believed (docs/decisions/2026-11-23-decide-on-knowledge.md)."""


class Actors:
    """Knows which objects exist at this point of the plan, and chooses actions that make sense."""

    def __init__(self, dice: random.Random, *, ignoring: bool) -> None:
        self._dice = dice
        self._jobs = _JOBS | ({"ignoring": _IGNORING} if ignoring else {})
        self._kinds: dict[str, str] = {}
        self._stated: dict[str, int] = {}
        self._over: set[str] = set()
        self._hidden: set[str] = set()
        self._made = self._words = 0

    def arrive(self, count: int) -> Iterator[Action]:
        """So many objects, a few of which state their termination from the begin."""
        for _ in range(count):
            yield self._create()

    def action(self, population: int) -> list[Action]:
        """One thing that somebody does; none when nobody is there for it. The population stays about as it is."""
        kind = self._dice.choices(list(_ACTIONS), list(_ACTIONS.values()))[0]
        if kind == "create" or (kind != "delete" and len(self._kinds) < population * 0.9):
            return [self._create()]
        if kind == "mass":
            reason = self._reason("everything")
            names = self._dice.sample(self._open(), min(len(self._open()), self._dice.randint(3, 25)))
            return [self._state(name, reason) for name in names]
        names = self._fit_for(kind)
        if not names:
            return []
        return [self._done(kind, self._dice.choice(names))]

    def _fit_for(self, kind: str) -> list[str]:
        match kind:
            case "state":
                return self._open()
            case "withdraw" | "reword":
                return list(self._stated)
            case "race" | "end" | "rival":
                return [name for name in self._open() if self._kinds[name] in _STEADY]
            case "hide":
                return [name for name in self._open() if name not in self._hidden and self._kinds[name] != UNKNOWN]
        return list(self._kinds)

    def _done(self, kind: str, name: str) -> Action:
        match kind:
            case "state" | "reword":
                return self._state(name, self._reason(name), kind)
            case "withdraw":
                self._stated.pop(name)
                return kind, name, {}
            case "delete":
                for known in (self._stated, self._kinds):
                    known.pop(name, None)
                return kind, name, {}
            case "foreign_status":
                return kind, name, {"status": self._dice.choice(FOREIGN_STATUSES)}
            case "race" | "end":
                self._over.add(name)
                ending = {"status": self._dice.choice(("SUCCEEDED", "FAILED"))}
                if kind == "end":
                    return kind, name, ending
                self._stated[name] = 1
                return kind, name, ending | {"reason": self._reason(name), "gap": self._dice.uniform(0, 0.3)}
            case "hide":
                self._hidden.add(name)
                return kind, name, {"polls": self._dice.choice((1, 2))}
            case "twin":
                return self._twin(name)
        return kind, name, {}

    def _open(self) -> list[str]:
        """Objects that state nothing and whose job goes on, as far as the plan knows."""
        return [name for name in self._kinds if name not in self._stated and name not in self._over]

    def _name(self) -> str:
        self._made += 1
        return f"job-{self._made:04d}"

    def _create(self) -> Action:
        name = self._name()
        kind = self._dice.choices(list(self._jobs), [often for often, _ in self._jobs.values()])[0]
        self._kinds[name] = kind
        detail: dict[str, Any] = {"job": self._jobs[kind][1], "kind": kind}
        if self._dice.random() < 0.1:
            self._stated[name] = 1
            detail["reason"] = self._reason(name)
        return "create", name, detail

    def _twin(self, of: str) -> Action:
        """A second object on the same job, with or without a statement of its own."""
        name = self._name()
        self._kinds[name] = self._kinds[of]
        # Only the actions of the first object change a shared job.
        self._over.add(name)
        detail = {"of": of}
        if self._dice.random() < 0.5:
            self._stated[name] = 1
            detail["reason"] = self._reason(name)
        return "twin", name, detail

    def _state(self, name: str, reason: str, kind: str = "state") -> Action:
        self._stated[name] = 1
        return kind, name, {"reason": reason}

    def _reason(self, about: str) -> str:
        self._words += 1
        return f"{about} #{self._words}: {self._dice.choice(_WORDS)}"
