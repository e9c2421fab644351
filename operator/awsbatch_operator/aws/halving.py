"""One malformed id makes AWS reject a whole call. Asking by halves finds it and saves the others."""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from awsbatch_operator.domain.errors import Fate, Fault

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


async def ask_by_halves(
    calls: Iterable[Sequence[K]],
    ask: Callable[[Sequence[K]], Awaitable[Mapping[K, R] | Fault]],
    budget: Callable[[], Awaitable[None]],
) -> dict[K, R | Fault]:
    """One answer for each key of `calls`, each of which is made as it is and, when rejected, by halves.

    The first call's budget is the caller's; each further one waits for its own.
    """
    answers: dict[K, R | Fault] = {}
    todo = list(reversed(list(calls)))
    first = True
    while todo:
        ids = todo.pop()
        if not first:
            await budget()
        first = False
        answer = await ask(ids)
        if not isinstance(answer, Fault):
            answers.update(answer)
        elif answer.fate is Fate.REJECTED and len(ids) > 1:
            half = len(ids) // 2
            todo += [ids[half:], ids[:half]]
        else:
            answers.update(dict.fromkeys(ids, answer))
    return answers
