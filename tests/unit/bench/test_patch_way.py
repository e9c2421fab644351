from bench.patch_way import Entry, way_of


def calls(*names: str) -> list[Entry]:
    """One call for each `file.function`, in this order."""
    parts = (name.partition(".") for name in names)
    return [(float(at), 1, file, 1, function) for at, (file, _, function) in enumerate(parts)]


def test_only_the_first_call_of_a_function_counts() -> None:
    way = way_of(calls("a.f", "a.g", "a.f"))
    assert (way.files, way.functions, way.returns) == (("a",), ("a:1 f", "a:1 g"), 0)


def test_a_second_visit_of_a_file_is_a_return() -> None:
    way = way_of(calls("a.f", "b.f", "a.g", "b.f", "c.f"))
    assert (way.files, len(way.functions), way.returns) == (("a", "b", "c"), 4, 2)


def test_comprehensions_and_lambdas_are_not_functions() -> None:
    way = way_of(calls("a.f", "b.<lambda>", "a.<listcomp>"))
    assert (way.files, way.functions, way.returns) == (("a",), ("a:1 f",), 0)
