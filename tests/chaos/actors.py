"""Plans what actors and scripts do to objects and jobs."""

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
    "deadline": 10,
    "move_deadline": 8,
    "drop_deadline": 3,
    "tie": 5,
    "untie": 3,
    "namespace": 1,
}
_WAITING: Final = frozenset({"runnable", "natural", "array"})
"""Jobs of which a deadline limits the time until they start; of all others, the time that they run."""
_NEVER_DUE: Final = 10_000.0
_AGES: Final = (65.0, 110.0)
"""Seconds since a job started, or was submitted: a limit, which is a minute at least, can fall due within a storm."""
_CROWD: Final = 8
"""Objects of a namespace that is deleted."""
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
ended is believed (docs/decisions/2026-11-30-no-status-decides.md)."""


class Actors:
    """Knows which objects exist at this point of the plan, and chooses actions that make sense."""

    def __init__(self, dice: random.Random, *, ignoring: bool, longest: float) -> None:
        """`longest`: seconds until a stated limit falls due."""
        self._dice, self._longest = dice, longest
        self._jobs = _JOBS | ({"ignoring": _IGNORING} if ignoring else {})
        self._kinds: dict[str, str] = {}
        self._stated: dict[str, int] = {}
        self._over: set[str] = set()
        self._hidden: set[str] = set()
        self._limited: set[str] = set()
        self._tied: set[str] = set()
        self._namespaces: list[str] = []
        self._made = self._words = 0

    def arrive(self, count: int) -> Iterator[Action]:
        """Objects, a few of which request their termination from the start."""
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
        if kind == "namespace":
            return [self._namespace()]
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
            case "deadline":
                return [name for name in self._open() if name not in self._limited]
            case "move_deadline" | "drop_deadline":
                return [name for name in self._kinds if name in self._limited]
            case "tie":
                return [name for name in self._kinds if name not in self._tied]
            case "untie":
                return [name for name in self._kinds if name in self._tied]
        return list(self._kinds)

    def _done(self, kind: str, name: str) -> Action:
        match kind:
            case "state" | "reword":
                return self._state(name, self._reason(name), kind)
            case "withdraw":
                self._stated.pop(name)
                return kind, name, {}
            case "delete":
                return kind, name, self._delete(name)
            case "deadline" | "move_deadline" | "drop_deadline" | "tie" | "untie":
                return kind, name, self._tie(kind, name)
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
                return kind, name, {"polls": self._dice.choice((0, 1, 2)), "lists": self._dice.choice((0, 1, 3))}
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
        detail = self._job(kind)
        if self._dice.random() < 0.1:
            self._stated[name] = 1
            detail["reason"] = self._reason(name)
        if self._dice.random() < 0.35:
            detail["deadline"] = self._tie("deadline", name)
        if self._dice.random() < 0.4:
            detail["on_delete"] = self._tie("tie", name)["reason"]
        # Written in the manifest; without spec.onDelete it has no effect.
        detail["finalizer"] = self._dice.random() < (0.5 if name in self._tied else 0.03)
        return "create", name, detail

    def _job(self, kind: str) -> dict[str, Any]:
        return {"job": self._jobs[kind][1], "kind": kind, "age": self._dice.uniform(*_AGES)}

    def _delete(self, name: str) -> dict[str, Any]:
        """Some change their mind: onDelete is removed right before the deletion, or after it."""
        detail: dict[str, Any] = {}
        if name in self._tied:
            detail["untied"] = self._dice.choices(("", "before", "after"), (8, 1, 1))[0]
            detail["gap"] = self._dice.uniform(0, 0.3)
        self._stated.pop(name, None)
        self._kinds.pop(name)
        self._limited.discard(name)
        self._tied.discard(name)
        return detail

    def _tie(self, kind: str, name: str) -> dict[str, Any]:
        """A change of spec.deadline or spec.onDelete."""
        match kind:
            case "tie":
                self._tied.add(name)
                return {"reason": self._reason(name)}
            case "untie":
                self._tied.remove(name)
                return {}
            case "drop_deadline":
                self._limited.remove(name)
                return {}
        detail: dict[str, Any] = {"limit": "waiting" if self._kinds[name] in _WAITING else "running"}
        if kind == "deadline" or self._dice.random() < 0.3:
            detail["reason"] = self._reason(name)
        self._limited.add(name)
        # In a few cases it is over already.
        overdue = self._dice.random() < 0.08
        due_in = self._dice.uniform(-4, 0) if overdue else self._dice.uniform(2, self._longest)
        return detail | {"due_in": due_in if self._dice.random() < 0.8 else _NEVER_DUE}

    def _namespace(self) -> Action:
        """A namespace with objects that all state spec.onDelete; the next time it is deleted."""
        if self._namespaces:
            return "delete_namespace", self._namespaces.pop(), {}
        self._made += 1
        name = f"crowd-{self._made:04d}"
        self._namespaces.append(name)
        objects = [
            self._job("running") | {"name": f"{name}-{number}", "on_delete": self._reason(name)}
            for number in range(_CROWD)
        ]
        return "create_namespace", name, {"objects": objects}

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
