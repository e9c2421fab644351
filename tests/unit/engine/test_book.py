"""The book of rules: what is granted by what the watch has told, to whoever asks."""

import threading
from collections.abc import Iterable

import pytest

from awsbatch_operator.domain.access import Grant, Mode, Refusal
from awsbatch_operator.domain.admission import Admitted, Facts, MayEnd, admit, termination
from awsbatch_operator.engine import book as books
from awsbatch_operator.engine.book import Book
from builders import NOW, REGION
from unit.domain.policies import QUEUE, a_policy

TEAM_A = {"team": "a"}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def a_book(mode: Mode = Mode.REQUIRED, clock: Clock | None = None) -> Book:
    book = Book(mode, REGION, clock or Clock())
    book.policies_are({"team-a": a_policy()})
    book.namespaces_are({"ns": TEAM_A})
    return book


def a_leave(book: Book) -> MayEnd:
    granted = book.in_force("ns", None)
    assert isinstance(granted, Grant)
    admission = admit(granted, Facts("j", QUEUE, {}, NOW))
    assert isinstance(admission, Admitted)
    leave = termination(admission, NOW)
    assert isinstance(leave, MayEnd)
    return leave


def test_nothing_is_known_before_both_lists_were_told() -> None:
    for told in ("policies", "namespaces"):
        book = Book(Mode.OPTIONAL, REGION, Clock())
        if told == "policies":
            book.policies_are({})
        else:
            book.namespaces_are({"ns": {}})
        assert book.in_force("ns", None) is None
        assert not book.complete.is_set()


@pytest.mark.parametrize("mode", Mode)
def test_of_a_namespace_that_was_not_told_of_nobody_knows_while_there_are_policies(mode: Mode) -> None:
    book = a_book(mode)
    assert book.in_force("new", None) is None
    book.namespace_is("new", {})
    assert isinstance(book.in_force("new", None), Grant if mode is Mode.OPTIONAL else Refusal)
    book.namespace_is("new", None)
    assert book.in_force("new", None) is None
    book.policies_are({})
    assert isinstance(book.in_force("new", None), Grant if mode is Mode.OPTIONAL else Refusal)


def test_each_word_of_the_watch_holds_at_once_and_tells_whom_it_concerns() -> None:
    book, told = a_book(), list[Iterable[str] | None]()
    book.on_change(told.append)
    assert isinstance(book.in_force("ns", None), Grant)
    book.policy_is("also-a", a_policy("also-a"))
    refusal = book.in_force("ns", None)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "AmbiguousPolicy"
    book.policy_is("also-a", None)
    book.namespace_is("ns", {"team": "b"})
    refusal = book.in_force("ns", None)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "NoAccessPolicy"
    assert told == [None, None, ("ns",)]


@pytest.mark.parametrize("mode", Mode)
def test_who_hears_nothing_for_ten_seconds_ends_nothing(mode: Mode) -> None:
    clock = Clock()
    book, told = a_book(mode, clock), list[Iterable[str] | None]()
    leave = a_leave(book)
    book.on_change(told.append)
    book.blind(clock.now)
    clock.now += 10
    assert book.holds(leave, NOW)
    clock.now += 0.1
    assert book.sees_nothing
    assert not book.holds(leave, NOW)
    book.policies_are({"team-a": a_policy()})
    assert not book.holds(leave, NOW), "the namespaces may be told wrongly all the same"
    told.clear()
    book.blind(None)
    assert book.holds(leave, NOW)
    assert told == [None]


def test_without_policies_and_without_need_of_them_there_is_nothing_to_be_blind_to() -> None:
    clock = Clock()
    book = Book(Mode.OPTIONAL, REGION, clock)
    book.policies_are({})
    book.namespaces_are({"ns": {}})
    book.blind(clock.now)
    clock.now += 99
    assert not book.sees_nothing


def test_a_leave_holds_for_as_long_as_the_same_is_granted() -> None:
    book = a_book()
    leave = a_leave(book)
    book.policy_is("team-b", a_policy("team-b", namespaceSelector={"matchLabels": {"team": "b"}}))
    assert book.holds(leave, NOW)
    book.policy_is("team-a", a_policy(jobs={"queues": ["team-a-gpu"]}))
    assert not book.holds(leave, NOW)
    book.policy_is("team-a", a_policy())
    assert book.holds(leave, NOW)
    book.namespace_is("ns", None)
    assert not book.holds(leave, NOW)


def test_regions_that_people_make_up_fill_no_memory() -> None:
    book = a_book(Mode.OPTIONAL)
    for number in range(books._MOST_GRANTS + 5):
        book.in_force("ns", f"xx-made-{number}")
    assert len(book._page.grants) <= books._MOST_GRANTS


def test_threads_that_ask_while_pages_turn_hear_the_one_or_the_other_page_and_never_a_mix() -> None:
    """Page by page either policy x and team x, or policy y and team y: granted is x, y or, between the two, nothing."""
    book = Book(Mode.REQUIRED, REGION, Clock())
    ours = {team: a_policy(team, namespaceSelector={"matchLabels": {"team": team}}) for team in ("x", "y")}
    book.policies_are({"x": ours["x"]})
    book.namespaces_are({"ns": {"team": "x"}})
    odd: list[object] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            page = book._page
            granted = book._granted(page, "ns", REGION)
            assert page.policies is not None
            assert page.labels is not None
            fits = page.labels["ns"]["team"] in page.policies
            if isinstance(granted, Grant) != fits or (
                isinstance(granted, Grant) and granted.policy not in page.policies
            ):
                odd.append((page, granted))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        for team in ("y", "x"):
            book.policies_are({team: ours[team]})
            book.namespaces_are({"ns": {"team": team}})
    over.set()
    for thread in threads:
        thread.join()
    assert odd == []
