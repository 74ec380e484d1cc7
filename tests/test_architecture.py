"""The rules of the house, read off the code: floors, rooms, sizes, and what `--help` imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tagger"

# From the bottom. A room imports only rooms of lower floors; "" is the package's own two files, above them all.
FLOORS = [
    {"core"},
    {"images", "encoders", "cache", "tagging", "catalog", "settings"},
    {"inference", "evaluation"},
    {"training", "reports"},
    {"workflows"},
    {"cli"},
    {""},
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MAX_ROOMS, MAX_LINES, MAX_PARAMETERS = 15, 300, 8
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The module's name below `tagger`: "core/errors", "" for the package itself."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("__init__").rstrip("/")


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


MODULES = {name_of(path): path for path in FILES}


def imports_of(path: Path) -> set[str]:
    """The modules of the package that a file imports, wherever in the file, be it for its types only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides the room"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("tagger.").replace(".", "/") in MODULES else str(node.module) for name in inner]
        else:
            continue
        found |= {name.removeprefix("tagger").lstrip(".").replace(".", "/") for name in names if name.split(".")[0] == "tagger"}
    return found


def test_each_room_lists_its_files():
    for room in (path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()):
        lines = (room / "__init__.py").read_text().splitlines()
        listed = {line.split()[0] for line in lines if line.split() and line.split()[0].endswith(".py")}
        assert listed == {path.name for path in room.glob("*.py")} - {"__init__.py"}, room.name


def test_there_are_few_rooms_and_no_loose_file():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(FLOOR_OF) - {""}
    assert len(folders) <= MAX_ROOMS
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_room_imports_only_lower_floors(path: Path):
    own = room_of(path)
    used = {room_of(MODULES[name]) for name in imports_of(path)}
    assert {room for room in used - {own} if FLOOR_OF[room] >= FLOOR_OF[own]} == set()


def test_no_file_imports_itself_in_a_circle():
    graph = {name: imports_of(path) - {name, ""} for name, path in MODULES.items()}
    TopologicalSorter(graph).prepare()  # a CycleError names the circle


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_one_stage(path: Path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


def signatures(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Each public function's name and the number of its named parameters; `**overrides` counts as one, `self` as none."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or (node.name.startswith("_") and node.name != "__init__"):
            continue
        found = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, *filter(None, [node.args.kwarg])]
        names = [argument.arg for argument in found if argument.arg not in ("self", "cls")]
        yield node.name, len(names)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_public_function_has_many_parameters(path: Path):
    assert [name for name, count in signatures(ast.parse(path.read_text())) if count > MAX_PARAMETERS] == []
