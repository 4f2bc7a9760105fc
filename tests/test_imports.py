"""One way down: who may import whom, held for every module, lazy imports and those for types included.

A room that is new, or that may import another one, changes the table here.
"""

from pathlib import Path

import pytest

from .imports import (
    Project,
    Rooms,
    circles,
    forbidden_ways,
    foreign_imports,
    imports_within,
    opened_rooms,
    read_project,
)

ROOT = Path(__file__).parents[1]
TOOLS = (
    *("timm_lp.command", "timm_lp.files", "timm_lp.lazy", "timm_lp.markup", "timm_lp.module_path", "timm_lp.recipes"),
    *("timm_lp.reporting", "timm_lp.settings", "timm_lp.start", "timm_lp.variants"),
)
DOORS = ("timm_lp", "timm_lp.__main__", "timm_lp.cli", "timm_lp.plugin")
_TRIALS = "timm_lp.trials"
_ACCELERATOR, _TRACKING = "timm_lp.experiments.accelerator", "timm_lp.experiments.tracking"
# Rooms need not exist.
ROOMS = Rooms(
    {
        **{tool: () for tool in TOOLS},
        "timm_lp.reporting": ["timm_lp.files", "timm_lp.markup"],
        "timm_lp.recipes": ["timm_lp.settings"],
        "timm_lp.command": ["timm_lp.recipes"],
        "timm_lp.module_path": ["timm_lp.command"],
        # The library, from the operators up.
        "timm_lp.ops": TOOLS,
        "timm_lp.layers": ["timm_lp.ops"],
        "timm_lp.selection": ["timm_lp.layers"],
        "timm_lp.notes": ["timm_lp.selection"],
        "timm_lp.merge": ["timm_lp.notes"],
        "timm_lp.weight_decay": ["timm_lp.selection"],
        "timm_lp.convert": ["timm_lp.merge", "timm_lp.weight_decay"],
        "timm_lp.models": ["timm_lp.convert"],
        "timm_lp._lora_layer": ["timm_lp.layers"],
        "timm_lp.lora": ["timm_lp._lora_layer"],
        # The doors, which open it.
        "timm_lp.plugin": ["timm_lp.models"],
        "timm_lp": ["timm_lp.plugin"],
        "timm_lp.cli": ["timm_lp", "timm_lp.command"],
        "timm_lp.__main__": ["timm_lp.cli"],
        # What uses it.
        _TRIALS: ["timm_lp.cli"],  # through which each `__main__` starts
        "timm_lp.masks": [_TRIALS],
        "timm_lp.bench": [_TRIALS],
        "timm_lp.experiments": (),
        _ACCELERATOR: [_TRIALS],
        _TRACKING: ["timm_lp.masks"],
        "timm_lp.experiments.data": [_TRIALS],
        "timm_lp.experiments.classification": ["timm_lp.experiments.data", _ACCELERATOR, _TRACKING],
        "timm_lp.experiments.robustness": ["timm_lp.experiments.classification"],
        "timm_lp.experiments.sudoku": [_ACCELERATOR, _TRACKING],
        "timm_lp.experiments.receptive_fields": [_TRIALS],
        "timm_lp.experiments.brain": [_ACCELERATOR],
        "model_cards": (),
        "hub_export.cards": ["timm_lp.masks", "model_cards"],
        "hub_export": ["hub_export.cards"],
    },
    halls=("timm_lp", "timm_lp.experiments"),
)
# What rooms may import from elsewhere beside the standard library; all others may import anything.
FOREIGN = {
    **dict.fromkeys((*TOOLS, *DOORS), ()),
    "timm_lp.recipes": ("yaml",),
    **dict.fromkeys(("timm_lp.ops", "timm_lp.layers"), ("torch",)),
}


@pytest.fixture(scope="module")
def project() -> Project:
    return _project(ROOT)


def test_the_imports_of_each_room_go_down(project: Project) -> None:
    found = forbidden_ways(project, ROOMS)
    assert not found, "\n".join(found)


def test_the_lowest_rooms_and_the_doors_import_no_other_packages(project: Project) -> None:
    found = foreign_imports(project, ROOMS, FOREIGN)
    assert not found, "\n".join(found)


def test_the_doors_open_no_room_before_it_is_asked_for(project: Project) -> None:
    found = opened_rooms(project, (*DOORS, *TOOLS))
    assert not found, "\n".join(found)


def test_no_modules_import_each_other(project: Project) -> None:
    found = [line for circle in circles(project) for line in imports_within(project, circle)]
    assert not found, "\n".join(found)


def test_the_table_goes_down_and_keeps_experiments_out_of_the_library() -> None:
    assert all(room in ROOMS.below for below in ROOMS.below.values() for room in below)
    experiments = {room for room in ROOMS.below if room.startswith("timm_lp.experiments.")}
    for room in ROOMS.below:
        assert room not in ROOMS.reachable(room)
        if room not in experiments:
            assert not ROOMS.reachable(room) & experiments
    for lower, upper in (
        ("timm_lp.ops", "timm_lp.layers"),
        ("timm_lp.models", _TRIALS),
        ("timm_lp.masks", "timm_lp.bench"),
        ("timm_lp.bench", "hub_export"),
        ("timm_lp.experiments.data", "timm_lp.experiments.classification"),
        ("timm_lp.experiments.sudoku", "timm_lp.experiments.brain"),
        ("hub_export.cards", "hub_export"),
    ):
        assert upper not in ROOMS.reachable(lower)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A project that has every room of the table, each with nothing in it."""
    for room in ROOMS.below:
        _write(tmp_path, f"{room.replace('.', '/')}/__init__.py", "")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "source", "sentence"),
    [
        ("layers/a.py", "import math\nfrom ..convert import f", "timm_lp.layers.a, line 2, imports timm_lp.convert: "),
        ("layers/a.py", "from ..convert import f", ": timm_lp.layers may import timm_lp.ops, and what these may."),
        ("files/__init__.py", "import timm_lp.ops", "imports timm_lp.ops: timm_lp.files may import no other room."),
        ("layers/a.py", "def f():\n    from .. import models", "line 2, imports timm_lp.models"),
        ("layers/a.py", "if TYPE_CHECKING:\n    import timm_lp.models as m", "line 2, imports timm_lp.models"),
        ("layers/a.py", "import_module('..convert', __package__)", "line 1, imports timm_lp.convert"),
        ("layers/a.py", "importlib.import_module('timm_lp.convert')", "line 1, imports timm_lp.convert"),
        ("layers/a.py", "from timm_lp import LpConv2d", "line 1, imports timm_lp"),
        ("loose.py", "", "timm_lp.loose is in no room: add it to the table of rooms."),
        ("experiments/loose.py", "", "timm_lp.experiments.loose is in no room: add it to the table of rooms."),
    ],
)
def test_finds_a_way_up(house: Path, path: str, source: str, sentence: str) -> None:
    assert forbidden_ways(_project(house), ROOMS) == []
    _write(house, f"timm_lp/{path}", source)
    (found,) = forbidden_ways(_project(house), ROOMS)
    assert sentence in found


def test_finds_another_package(house: Path) -> None:
    _write(house, "timm_lp/models/a.py", "import timm, torch.nn")
    _write(house, "timm_lp/layers/b.py", "import math, torch.nn")
    assert foreign_imports(_project(house), ROOMS, FOREIGN) == []
    _write(house, "timm_lp/__init__.py", "if TYPE_CHECKING:\n    import torch")
    _write(house, "timm_lp/layers/a.py", "def f():\n    import timm.models")
    assert foreign_imports(_project(house), ROOMS, FOREIGN) == [
        "timm_lp, line 2, imports torch: timm_lp may import only the standard library from elsewhere.",
        "timm_lp.layers.a, line 2, imports timm.models: "
        "timm_lp.layers may import only the standard library and torch from elsewhere.",
    ]


def test_finds_a_door_that_opens_a_room(house: Path) -> None:
    _write(house, "timm_lp/__init__.py", "from . import plugin\nif TYPE_CHECKING:\n    from .layers import LpConv2d")
    _write(house, "timm_lp/plugin/__init__.py", "import_module('timm_lp.models')")
    assert opened_rooms(_project(house), DOORS) == []
    _write(house, "timm_lp/cli/__init__.py", "def f():\n    from ..layers import LpConv2d")
    assert opened_rooms(_project(house), DOORS) == [
        "timm_lp.cli, line 2, imports timm_lp.layers: a door imports rooms by name, or for types only."
    ]


@pytest.mark.parametrize(
    "back", ["from .a import f", "def f():\n    from . import a", "if t.TYPE_CHECKING:\n    import timm_lp.bench.a"]
)
def test_finds_a_circle(house: Path, back: str) -> None:
    for name, below in (("a", "bd"), ("b", "c"), ("d", "c")):
        _write(house, f"timm_lp/bench/{name}.py", "\n".join(f"from .{other} import f" for other in below))
    assert circles(_project(house)) == set()
    _write(house, "timm_lp/bench/c.py", back)
    (circle,) = circles(_project(house))
    assert circle == {f"timm_lp.bench.{name}" for name in "abcd"}
    sentences = imports_within(_project(house), circle)
    assert len(sentences) == 5
    assert sentences[0].startswith("timm_lp.bench.a, line 1, imports timm_lp.bench.b: modules must not import each")


def _write(house: Path, path: str, source: str) -> None:
    (house / path).parent.mkdir(parents=True, exist_ok=True)
    (house / path).write_text(source)


def _project(root: Path) -> Project:
    return read_project(root, ("timm_lp", "hub_export", "model_cards"))
