"""docs/architecture.md says what the code is: its rooms, the imports between them, its files and their names."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "operator"
OPERATOR = SOURCES / "awsbatch_operator"
PACKAGES = [path.parent.name for path in SOURCES.glob("*/__init__.py")]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

Arrow = tuple[str, str]


def picture() -> tuple[set[str], set[Arrow], set[Arrow]]:
    """Rooms, imports and starts by name, as drawn. A line that can't be read is an error."""
    rooms: set[str] = set()
    imports: set[Arrow] = set()
    starts: set[Arrow] = set()
    for line in PAGE.split("```mermaid\nflowchart TD\n")[1].split("```")[0].splitlines():
        if room := re.fullmatch(r'  (\w+)\["[^"]+"\]', line):
            rooms.add(room[1])
        elif arrows := re.fullmatch(r"  (\w+) --> (\w+(?: & \w+)*)", line):
            imports |= {(arrows[1], target) for target in arrows[2].split(" & ")}
        elif start := re.fullmatch(r"  (\w+) -\. [\w ]+ \.-> (\w+)", line):
            starts.add((start[1], start[2]))
        else:
            assert not line, f"an unknown line in the picture: {line}"
    return rooms, imports, starts


def room_of(module: str) -> str:
    """The operator's own modules and packages are rooms, every other package is one as a whole."""
    package, _, inner = module.partition(".")
    if package == OPERATOR.name:
        return inner.split(".")[0]
    return package.removeprefix("awsbatch_")


def test_every_room_is_drawn_and_every_drawn_room_is_there() -> None:
    files = {path.stem for path in OPERATOR.glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in OPERATOR.glob("*/*.py")}
    assert picture()[0] == files | folders | {room_of(package) for package in PACKAGES} - {""}


def test_every_import_between_rooms_is_drawn_and_every_drawn_import_is_there() -> None:
    graph = grimp.build_graph(PACKAGES[0], *PACKAGES[1:], cache_dir=None)
    taken = {
        (room_of(module), room_of(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }
    # The package itself is no room: what is taken from it is __version__.
    assert picture()[1] == {(room, other) for room, other in taken if room != other and other}


def test_what_one_room_starts_in_another_by_name_is_drawn() -> None:
    found = set()
    for path in SOURCES.rglob("*.py"):
        room = room_of(".".join(path.relative_to(SOURCES).with_suffix("").parts))
        found |= {(room, room_of(module) or "__main__") for module in named_modules(path)}
    assert picture()[2] == {(room, other) for room, other in found if room != other}


def named_modules(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports by a text or starts by `python -m`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        texts: list[object] = []
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
        elif isinstance(node, ast.List | ast.Tuple):
            elements = [one.value if isinstance(one, ast.Constant) else None for one in node.elts]
            texts = [module for before, module in pairwise(elements) if before == "-m"]
        yield from (text for text in texts if isinstance(text, str) and text.startswith("awsbatch_"))


def test_every_path_and_every_name_on_the_page_exists() -> None:
    spans = re.findall(r"`([^`\s]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
    places = {span for span in spans if "/" in span.strip("/") or "::" in span or re.search(r"\.(py|md|toml)$", span)}
    assert len(places) > 50
    assert [place for place in sorted(places) if not exists(*place.partition("::")[::2])] == []


def exists(path: str, name: str) -> bool:
    file = next((file for file in (ROOT / path, OPERATOR / path) if file.exists()), None)
    if file is None or not name:
        return file is not None
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for part in name.split("."):
        held = next((node for node in body if part in names_of(node)), None)
        if held is None:
            return False
        body = held.body if isinstance(held, ast.ClassDef) else []
    return True


def names_of(node: ast.stmt) -> list[str]:
    """What a statement of a module or class defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]
