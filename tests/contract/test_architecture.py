"""docs/architecture.md agrees with the code: packages, the imports between them, the walk, files and their names.

So do the names in docs/glossary.md and docs/decisions/.
"""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import grimp
import pytest

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ROOT / "operator"
OPERATOR: Final = SOURCES / "awsbatch_operator"
PACKAGES: Final = [path.parent.name for path in SOURCES.glob("*/__init__.py")]
PAGE: Final = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
GLOSSARY: Final = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
DECISIONS: Final = ROOT / "docs" / "decisions"
NOTES: Final = sorted(DECISIONS.glob("20*.md"))

LONGEST_WALK: Final = 15
MOST_WORDS_OF_OUR_OWN: Final = 25
_NAME: Final = r"[\w/]+\.py::[\w.]+"

Arrow = tuple[str, str]


def picture() -> tuple[set[str], set[Arrow], set[Arrow]]:
    """Packages, imports and starts by name, as drawn. A line that can't be read is an error."""
    packages: set[str] = set()
    imports: set[Arrow] = set()
    starts: set[Arrow] = set()
    for line in PAGE.split("```mermaid\nflowchart TD\n")[1].split("```")[0].splitlines():
        if package := re.fullmatch(r'  (\w+)\["[^"]+"\]', line):
            packages.add(package[1])
        elif arrows := re.fullmatch(r"  (\w+) --> (\w+(?: & \w+)*)", line):
            imports |= {(arrows[1], target) for target in arrows[2].split(" & ")}
        elif start := re.fullmatch(r"  (\w+) -\. [\w ]+ \.-> (\w+)", line):
            starts.add((start[1], start[2]))
        else:
            assert not line, f"an unknown line in the picture: {line}"
    return packages, imports, starts


def package_of(module: str) -> str:
    """The operator's own modules and packages are drawn, every other package is one as a whole."""
    package, _, inner = module.partition(".")
    if package == OPERATOR.name:
        return inner.split(".")[0]
    return package.removeprefix("awsbatch_")


def test_every_package_is_drawn_and_every_drawn_package_exists() -> None:
    files = {path.stem for path in OPERATOR.glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in OPERATOR.glob("*/*.py")}
    assert picture()[0] == files | folders | {package_of(package) for package in PACKAGES} - {""}


def test_every_import_between_packages_is_drawn_and_every_drawn_import_exists() -> None:
    graph = grimp.build_graph(PACKAGES[0], *PACKAGES[1:], cache_dir=None)
    taken = {
        (package_of(module), package_of(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }
    # The root package is not drawn: what is imported from it is __version__.
    assert picture()[1] == {(package, other) for package, other in taken if package != other and other}


def test_every_package_has_a_paragraph() -> None:
    described = set(re.findall(r"\*\*(\w+)\*\*", section("The packages")))
    assert described == picture()[0] - {"__main__", "sandbox"}


def test_starts_of_other_packages_by_name_are_drawn() -> None:
    found = set()
    for path in SOURCES.rglob("*.py"):
        package = package_of(".".join(path.relative_to(SOURCES).with_suffix("").parts))
        found |= {(package, package_of(module) or "__main__") for module in named_modules(path)}
    assert picture()[2] == {(package, other) for package, other in found if package != other}


def named_modules(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports or runs by a text, or starts by `python -m`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        texts: list[object] = []
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "run_module")):
            texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
        elif isinstance(node, ast.List | ast.Tuple):
            elements = [one.value if isinstance(one, ast.Constant) else None for one in node.elts]
            texts = [module for before, module in pairwise(elements) if before == "-m"]
        yield from (text for text in texts if isinstance(text, str) and text.startswith("awsbatch_"))


# -- paths and names ---------------------------------------------------------------------------------------------------


def section(title: str) -> str:
    """The text below a heading of the page."""
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


@pytest.mark.parametrize(("page", "least"), [(PAGE, 50), (GLOSSARY, 15)], ids=["architecture", "glossary"])
def test_every_path_and_every_name_on_the_page_exists(page: str, least: int) -> None:
    spans = re.findall(r"`([^`\s]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))
    places = {span for span in spans if "/" in span.strip("/") or "::" in span or re.search(r"\.(py|md|toml)$", span)}
    # Routes of the operator's HTTP server are no paths.
    places -= {"/readyz", "/livez", "/metrics"}
    assert len(places) > least
    assert [place for place in sorted(places) if not exists(*place.partition("::")[::2])] == []


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.stem)
def test_every_file_and_name_in_a_decision_exists(note: Path) -> None:
    named = re.findall(r"`([\w/]+\.py)(?:::([\w.]+))?`", note.read_text(encoding="utf-8"))
    assert [name for name in named if not exists(*name)] == []


def test_the_index_has_one_line_for_each_decision() -> None:
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| \[[\w-]+\]\(([\w.-]+)\) \|", index, re.MULTILINE)) == [note.name for note in NOTES]


def test_every_name_in_the_picture_of_the_data_flow_exists() -> None:
    drawn = PAGE.split("```mermaid\nflowchart LR\n")[1].split("```")[0]
    labels = re.findall(r'\["([^"]*)"\]', drawn)
    names = [name for label in labels for name in re.findall(_NAME, label)]
    assert len(names) == len(labels) > 10
    assert [name for name in names if not exists(*name.split("::"))] == []


def test_every_word_of_the_glossary_has_one_line_and_a_place_in_the_code() -> None:
    entries = [line for line in GLOSSARY.splitlines() if line and not line.startswith(("#", "The few"))]
    assert 0 < len(entries) <= MOST_WORDS_OF_OUR_OWN
    assert [entry for entry in entries if not re.fullmatch(rf"- \*\*[^*]+\*\*[^`:]*: .+ `{_NAME}`", entry)] == []


def exists(path: str, name: str) -> bool:
    file = next((file for file in (ROOT / path, OPERATOR / path) if file.exists()), None)
    if file is None or not name:
        return file is not None
    return definition(file, name) is not None


def definition(file: Path, name: str) -> ast.stmt | None:
    body, held = ast.parse(file.read_text(encoding="utf-8")).body, None
    for part in name.split("."):
        held = next((node for node in body if part in names_of(node)), None)
        if held is None:
            return None
        body = held.body if isinstance(held, ast.ClassDef) else []
    return held


def names_of(node: ast.stmt) -> list[str]:
    """What a statement of a module or class defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


# -- the walk ----------------------------------------------------------------------------------------------------------


def walk() -> list[list[str]]:
    """The `file.py::name` of each numbered step."""
    steps = re.split(r"^\d+\. ", section("Walk: from a patch to TerminateJob"), flags=re.MULTILINE)[1:]
    return [re.findall(rf"`({_NAME})`", step) for step in steps]


def test_each_step_of_the_walk_names_a_function() -> None:
    assert 10 <= len(walk()) <= LONGEST_WALK
    kinds = [
        [type(definition(OPERATOR / name.split("::")[0], name.split("::")[1])) for name in step] for step in walk()
    ]
    assert [step for step, found in zip(walk(), kinds, strict=True) if not {*found} & {*FUNCTIONS}] == []


FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


def test_each_step_of_the_walk_is_reached_from_a_file_that_the_walk_has_named() -> None:
    """By a name that the file uses of a module that it imports, of an interface, or of its own."""
    graph = grimp.build_graph(OPERATOR.name, cache_dir=None)
    files: list[str] = []
    unreached = []
    for step in walk():
        reached = [
            name
            for name in step
            for file in files
            if name.rpartition(".")[2].rpartition("::")[2] in uses(file)
            and (
                name.startswith(f"{file}::")
                or module_of(name.split("::")[0]) in graph.find_modules_directly_imported_by(module_of(file))
                or name.rpartition(".")[2] in interface_methods(file)
            )
        ]
        if files and not reached:
            unreached.append(step)
        files += [name.split("::")[0] for name in step]
    assert unreached == []


def module_of(file: str) -> str:
    return f"{OPERATOR.name}.{file.removesuffix('.py').replace('/', '.')}"


def uses(file: str) -> set[str]:
    """Names and attributes that a file of the operator uses."""
    nodes = list(ast.walk(ast.parse((OPERATOR / file).read_text(encoding="utf-8"))))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def interface_methods(file: str) -> set[str]:
    """Methods of the protocols that the file itself or api/interfaces.py declares."""
    trees = [ast.parse((OPERATOR / one).read_text(encoding="utf-8")) for one in (file, "api/interfaces.py")]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    protocols = [one for one in classes if any(ast.unparse(base).startswith("Protocol") for base in one.bases)]
    return {name for one in protocols for method in one.body for name in names_of(method)}
