# SPDX-License-Identifier: AGPL-3.0-or-later
"""Imports go one way: each package imports only from lower layers, and no modules import each other in a circle.

The source is read, not imported: imports under TYPE_CHECKING and inside functions count as well.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

OVERLAY = Path(__file__).resolve().parents[1] / "ultralytics"
FLOORS = (  # from the top down; rooms on one floor don't use each other, and the longest name holds
    ("models/",),
    ("engine/compress/",),
    ("engine/pruning/__init__.py",),
    ("engine/pruning/prune.py", "engine/pruning/report/"),
    ("engine/pruning/ranking/",),
    ("engine/pruning/budget/",),
    ("engine/pruning/latency/", "engine/pruning/sparsity/", "engine/pruning/surgery/"),
    ("engine/pruning/checkpoint/",),
    ("engine/pruning/graph/", "engine/pruning/files.py", "engine/pruning/log.py"),
    ("nn/conversion/",),
    ("nn/extra_modules/", "data/shapes/"),
    ("cfg/compress/activation.py",),
    ("cfg/compress/patches.py",),
    ("cfg/compress/",),
)
LIBRARY = ("engine/pruning/", "nn/conversion/", "nn/extra_modules/")
ABOVE_THE_LIBRARY = ("ultralytics.data", "ultralytics.engine.trainer", "ultralytics.engine.model", "ultralytics.models")
EXCEPTIONS = {  # importing file, imported file: why it may look up
    ("cfg/compress/patches.py", "engine/compress/mode.py"): "YOLO.compress imports what it does when it is called",
    ("cfg/compress/patches.py", "engine/compress/api.py"): "its signature, which imports nothing else",
    ("cfg/compress/cli.py", "cfg/compress/activation.py"): "'yolo checks' asks whether it is on",
    ("cfg/compress/cli.py", "engine/compress/device.py"): "`yolo latency` imports what it does when it is called",
    ("cfg/compress/cli.py", "engine/compress/checks/models.py"): "the command line refuses a model file as a run does",
    ("cfg/compress/cli.py", "engine/compress/runs.py"): "a run to resume says which its model is",
    ("cfg/compress/patches.py", "engine/pruning/checkpoint/architecture.py"): "patched trainers, when they build",
    (
        "cfg/compress/patches.py",
        "engine/pruning/checkpoint/marks.py",
    ): "what is asked of every model, which imports nothing",
    ("cfg/compress/patches.py", "engine/pruning/checkpoint/releases.py"): "checkpoints, when they are loaded",
}


class Import(NamedTuple):
    """An import of a module of the overlay or of Ultralytics.

    Attributes:
        file (str): Importing file, relative to the overlay.
        line (int): Line of the import.
        module (str): Name of the imported module.
        target (str): Its file, relative to the overlay; empty for a module that Ultralytics has.
    """

    file: str
    line: int
    module: str
    target: str

    def __str__(self):
        return f"ultralytics/{self.file}:{self.line} imports {self.target or self.module}"


def find_imports(overlay: Path) -> list[Import]:
    """List the imports below `ultralytics` of all modules of the overlay."""
    found = []
    for file in sorted(overlay.rglob("*.py")):
        name = file.relative_to(overlay).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for module in imported_modules(node, ["ultralytics", *file.relative_to(overlay).parts[:-1]]):
                target = resolve(overlay, module)
                found += [Import(name, node.lineno, module, target)] if target is not None else []
    return found


def imported_modules(node: ast.AST, package: list[str]) -> Iterator[str]:
    """Yield the full names of what a node imports: of modules, or of names in modules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package[: len(package) - node.level + 1] if node.level else []
        yield from (".".join([*parents, *filter(None, [node.module]), alias.name]) for alias in node.names)


def resolve(overlay: Path, name: str) -> str | None:
    """Return the file of a module, or of the one that has a name; "" if Ultralytics has it, None if another package."""
    top, *parts = name.split(".")
    if top != "ultralytics":
        return None
    for depth in (len(parts), len(parts) - 1):
        path = Path(*parts[: max(depth, 0)])
        for file in (path.with_suffix(".py") if path.name else path, path / "__init__.py"):
            if (overlay / file).is_file():
                return file.as_posix()
    return ""


def room_of(file: str) -> str:
    """Return the room that a file is in."""
    rooms = [room for floor in FLOORS for room in floor if file.startswith(room)]
    return max(rooms, key=len, default="")


def looks_up(found: Import) -> bool:
    """Return True if an import is of another room that is not on a floor below."""
    room, target = room_of(found.file), room_of(found.target)
    floors = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    return room != target and floors[room] >= floors[target]


def find_circle(imports: list[Import]) -> list[str]:
    """Return files each of which imports the one before it, the last and the first being the same; empty if none do."""
    targets: dict[str, set[str]] = {}
    for found in imports:
        targets.setdefault(found.file, set()).add(found.target)
    try:
        TopologicalSorter(targets).prepare()
    except CycleError as error:
        return error.args[1]
    return []


@pytest.fixture(scope="module")
def imports():
    return find_imports(OVERLAY)


@pytest.fixture(scope="module")
def own(imports):
    """Return the imports of the overlay's own modules that are no exceptions."""
    return [found for found in imports if found.target and (found.file, found.target) not in EXCEPTIONS]


def test_every_file_is_in_a_room():
    files = [file.relative_to(OVERLAY).as_posix() for file in OVERLAY.rglob("*.py")]
    assert [file for file in files if not room_of(file)] == []


def test_no_import_looks_up(own):
    assert len(own) > 100  # they are found at all
    assert [str(found) for found in own if looks_up(found)] == []


def test_no_modules_import_each_other_in_a_circle(own):
    assert find_circle(own) == []


def test_the_library_knows_no_trainer_and_no_data_set(imports):
    above = [
        str(found)
        for found in imports
        if found.file.startswith(LIBRARY) and f"{found.module}.".startswith(tuple(f"{m}." for m in ABOVE_THE_LIBRARY))
    ]
    assert above == []


def test_every_exception_is_needed(imports):
    assert EXCEPTIONS.keys() <= {(found.file, found.target) for found in imports if found.target and looks_up(found)}


@pytest.fixture
def house(tmp_path):
    """Return a function that writes files into an overlay of its own and lists the imports."""

    def write(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return find_imports(tmp_path)

    return write


@pytest.mark.parametrize(
    "text",
    [
        "import os\nfrom ultralytics.engine.pruning.ranking.methods import METHODS",
        "import os\nimport ultralytics.engine.pruning.ranking.methods as methods",
        "import os\nfrom ultralytics.engine.pruning.ranking import methods",
        "import os\nfrom ..ranking import methods",
        "import os\nfrom ..ranking.methods import METHODS",
        "if TYPE_CHECKING:\n    from ultralytics.engine.pruning.ranking.methods import Method",
        "def later():\n    from ultralytics.engine.pruning.ranking.methods import METHODS",
    ],
)
def test_an_import_that_looks_up_is_found_with_its_line(house, text):
    found = house({"engine/pruning/budget/costs.py": text, "engine/pruning/ranking/methods.py": ""})
    where = "ultralytics/engine/pruning/budget/costs.py:2 imports engine/pruning/ranking/methods.py"
    assert [str(one) for one in found if looks_up(one)] == [where]


def test_rooms_on_one_floor_and_the_library_s_face_count(house):
    files = {
        "engine/pruning/__init__.py": "",
        "engine/pruning/surgery/cut.py": "from ultralytics.engine.pruning import prune_model",
        "engine/pruning/latency/table.py": "from ultralytics.engine.pruning.surgery.cut import cut",
        "engine/pruning/prune.py": "from ultralytics.engine.pruning.surgery import cut\nfrom ultralytics import YOLO",
    }
    assert [found.file for found in house(files) if found.target and looks_up(found)] == [
        "engine/pruning/latency/table.py",
        "engine/pruning/surgery/cut.py",
    ]


def test_a_circle_within_a_room_is_found(house):
    files = {
        "engine/compress/mode.py": "from .sweep import sweep",
        "engine/compress/sweep.py": "from .compressor import Compressor",
        "engine/compress/compressor.py": "def later():\n    from .mode import compress_model",
    }
    names = [Path(file).stem for file in find_circle(house(files))]
    assert names[0] == names[-1]
    assert sorted(names[1:]) == ["compressor", "mode", "sweep"]
