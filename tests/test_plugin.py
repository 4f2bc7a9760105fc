"""How timm learns about the models: in fresh processes for every order of imports, and the import hook by itself."""

import importlib.machinery
import importlib.util
import inspect
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm.models

from timm_lp import plugin

from .processes import WarmPython

# Executes `before`, and from there every case in a process of its own; prints for each what it writes to stderr, its
# warnings, and after each of its statements what has been imported and what timm knows.
SCRIPT = """
import json
import os
import sys
import tempfile
import warnings


def state():
    timm = sys.modules.get("timm")
    return [
        [name for name in ("torch", "timm", "timm_lp", "timm_lp.models") if name in sys.modules],
        timm is not None and timm.is_model("lp2_resnet18") and timm.is_model("alexnet"),
        sum(type(finder).__module__ == "timm_lp.plugin" for finder in sys.meta_path),
    ]


def run(statements, namespace):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        states = [exec(statement, namespace) or state() for statement in statements]
    return {"states": states, "warnings": [f"{warning.filename}: {warning.message}" for warning in caught]}


before, cases = json.loads(sys.argv[1])
exec(before, {})
for name, statements in cases.items():
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            os.dup2(err.fileno(), 2)
            json.dump(run(statements, {}), out)
            out.close()
            os._exit(0)
        os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        cases[name] = {"stderr": err.read(), **json.loads(out.read() or "{}")}
print(json.dumps(cases))
"""

BREAK = """
import importlib.abc
class Broken(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname == "timm_lp.models":
            raise OSError("broken on purpose")
sys = __import__("sys")
sys.meta_path.insert(0, Broken())
"""
SAME_SOURCE = """
import inspect, pathlib, timm.models
assert inspect.getsource(timm.models) == pathlib.Path(timm.models.__file__).read_text()
"""
INSTALL_TWICE = "import timm_lp.plugin; timm_lp.plugin.install(); timm_lp.plugin.install()"

TORCH_FIRST = "import torch, torchvision"  # of what timm loads too, once for all cases

LIGHT = ["timm_lp"]
TORCH = ["torch", "timm_lp"]
HEAVY = ["torch", "timm", "timm_lp", "timm_lp.models"]


@dataclass(frozen=True)
class Case:
    """Statements, and after each of them: what is imported, whether timm knows our models, and the finders left."""

    statements: list[str]
    expected: list[tuple[list[str], bool, int]]
    before: str = ""
    autoload: bool = True


CASES = {
    "import timm": Case(
        ["import timm", "import timm_lp", SAME_SOURCE, INSTALL_TWICE, "import timm_lp.models"], [(HEAVY, True, 0)] * 5
    ),
    "import timm_lp; import timm": Case(
        ["import timm_lp", INSTALL_TWICE, "import timm"], [(LIGHT, False, 1), (LIGHT, False, 1), (HEAVY, True, 0)]
    ),
    "import torch, timm": Case([INSTALL_TWICE, "import timm"], [(TORCH, False, 1), (HEAVY, True, 0)], TORCH_FIRST),
    "import timm.models": Case(["import timm.models"], [(HEAVY, True, 0)], TORCH_FIRST),
    "import resnet18": Case(["from timm.models.resnet import resnet18"], [(HEAVY, True, 0)], TORCH_FIRST),
    "import timm_lp.models": Case(["import timm_lp.models"], [(HEAVY, True, 0)], TORCH_FIRST),
    "broken": Case(
        [BREAK, "import timm", "timm.create_model('resnet18', layers=(1, 1, 1, 1))"],
        [(TORCH, False, 1), *[(["torch", "timm", "timm_lp"], False, 0)] * 2],
        TORCH_FIRST,
    ),
    "no autoload: import timm; import timm_lp": Case(
        ["import timm", "import timm_lp"], [(["torch", "timm"], False, 0), (HEAVY, True, 0)], TORCH_FIRST, False
    ),
    "no autoload: import timm_lp; import timm": Case(
        ["import timm_lp", "import timm"], [(TORCH, False, 1), (HEAVY, True, 0)], TORCH_FIRST, False
    ),
}


def run_cases(before: str, autoload: bool, folder: Path, python: WarmPython) -> dict[str, Any]:
    cases = {
        name: case.statements for name, case in CASES.items() if (case.before, case.autoload) == (before, autoload)
    }
    words = ["-c", SCRIPT, json.dumps([before, cases])]
    if before and autoload:
        process = python(*words, cwd=folder)
    else:
        command = [sys.executable, *words]
        env = {**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": str(int(autoload))}
        process = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return json.loads(process.stdout)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, python: WarmPython) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("elsewhere")
    with ThreadPoolExecutor(max_workers=2) as pool:
        starts = sorted({(case.before, case.autoload) for case in CASES.values()})
        ended = pool.map(lambda start: run_cases(*start, folder, python), starts)
        return {name: result for cases in ended for name, result in cases.items()}


@pytest.mark.parametrize("name", CASES)
def test_fresh_process(results: dict[str, Any], name: str) -> None:
    result = results[name]
    assert [tuple(state) for state in result.get("states", [result["stderr"]])] == CASES[name].expected
    assert not [warning for warning in result["warnings"] if "timm_lp" in warning or "Overwriting" in warning]
    if name == "broken":
        assert result["stderr"].startswith("timm-lp could not register its models with timm; `import timm_lp.models` ")
        assert result["stderr"].rstrip().endswith("OSError: broken on purpose")
    else:
        assert result["stderr"] == ""


HOST = "timm_lp_test_host"


class Host:
    """A module that takes timm's place, and what the plugin does about it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{HOST}.py"
        self.registered: list[bool] = []  # for each registration, whether the host was complete

    def write(self, source: str) -> None:
        self.path.write_text(source)
        importlib.invalidate_caches()

    def register(self) -> None:
        self.registered.append(hasattr(sys.modules[HOST], "last_line"))

    def finders(self) -> list[Any]:
        return [finder for finder in sys.meta_path if isinstance(finder, plugin._HostFinder)]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    host = Host(tmp_path)
    host.write("last_line = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(plugin, "_HOST", HOST)
    monkeypatch.setattr(plugin, "_register", host.register)
    yield host
    sys.modules.pop(HOST, None)


def test_registers_once_the_host_is_complete(host: Host) -> None:
    plugin.install()
    plugin.install()
    assert len(host.finders()) == 1
    assert importlib.util.find_spec("json.tool") is not None
    assert not host.registered
    module = importlib.import_module(HOST)
    assert host.registered == [True]
    assert not host.finders()
    assert inspect.getsource(module) == "last_line = True\n"
    assert module.__spec__.origin == str(host.path)
    plugin.install()  # the host is there already
    assert host.registered == [True, True]
    assert not host.finders()


def test_waits_for_a_host_that_fails_at_first(host: Host) -> None:
    host.write("raise OSError('not yet')")
    plugin.install()
    with pytest.raises(OSError, match="not yet"):
        importlib.import_module(HOST)
    assert not host.registered
    host.write("last_line = True\n")
    importlib.import_module(HOST)
    assert host.registered == [True]
    assert not host.finders()


def test_absent_host_stays_absent(host: Host) -> None:
    host.path.unlink()
    importlib.invalidate_caches()
    plugin.install()
    with pytest.raises(ModuleNotFoundError, match=HOST):
        importlib.import_module(HOST)
    assert not host.registered


def test_host_that_is_being_imported_is_not_loaded(host: Host) -> None:
    host.write("from timm_lp import plugin\nloaded = plugin._is_loaded(__name__)\nlast_line = True")
    module = importlib.import_module(HOST)
    assert module.loaded is False
    assert plugin._is_loaded(HOST)
    assert not plugin._is_loaded("timm_lp_test_nothing")


def test_other_finders_may_be_of_any_kind(host: Host) -> None:
    sys.meta_path.insert(0, object())
    plugin.install()
    sys.meta_path.insert(0, sys.meta_path.pop(1))
    finder = host.finders()[0]
    assert finder.find_spec("json", None) is None
    assert finder.find_spec(HOST, None).origin == str(host.path)


class Claims:
    """A finder of another package, which finds some modules by itself."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        return importlib.machinery.PathFinder.find_spec(fullname, path) if fullname in self.names else None


def test_finders_that_come_later_do_not_hide_the_host(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    plugin.install()
    sys.meta_path.insert(0, Claims(HOST))
    importlib.util.find_spec("timm_lp_test_nothing")  # as of what a host imports first
    importlib.import_module(HOST)
    assert host.registered == [True]
    assert not host.finders()
    assert not caplog.messages


def test_a_host_that_another_finder_hid_is_said(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    plugin.install()
    sys.meta_path.insert(0, Claims(HOST))
    importlib.import_module(HOST)
    assert not host.registered
    assert importlib.util.find_spec("timm_lp_test_nothing") is None
    assert caplog.messages == [
        f"Another import hook found {HOST} before timm-lp could, so timm does not know its models. "
        "`import timm_lp` registers them."
    ]
    assert not host.finders()
    plugin.install()
    assert host.registered == [True]


def test_a_loader_of_several_modules_registers_once(host: Host) -> None:
    class Loader:
        def exec_module(self, module: ModuleType) -> None:
            sys.modules[module.__name__] = module

    plugin.install()
    loader = Loader()
    host.finders()[0]._register_after(importlib.machinery.ModuleSpec(HOST, loader))  # type: ignore[arg-type]
    loader.exec_module(ModuleType("timm_lp_test_other"))
    assert host.finders()
    loader.exec_module(ModuleType(HOST))
    assert host.registered == [False]
    assert not host.finders()
    del sys.modules["timm_lp_test_other"]


def test_a_loader_of_the_old_kind_is_said(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    class Loader:
        def load_module(self, name: str) -> ModuleType:
            return sys.modules.setdefault(name, ModuleType(name))

    plugin.install()
    host.finders()[0]._register_after(importlib.machinery.ModuleSpec(HOST, Loader()))  # type: ignore[arg-type]
    assert "has no `exec_module`, so timm does not know the models of timm-lp" in caplog.text


def test_failing_registration_is_logged_and_swallowed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(name: str) -> ModuleType:
        raise OSError(f"no {name} today")

    monkeypatch.setattr(plugin.importlib, "import_module", fail)
    with caplog.at_level(logging.ERROR):
        plugin.install()  # timm.models is loaded, so it registers at once
    assert "could not register its models with timm; `import timm_lp.models` shows why" in caplog.text
    assert "no timm_lp.models today" in caplog.text


def test_timm_is_as_it_was() -> None:
    assert not any(isinstance(finder, plugin._HostFinder) for finder in sys.meta_path)
    assert inspect.getsource(timm.models) == Path(timm.models.__file__).read_text()
    assert timm.models.__spec__.name == "timm.models"
    assert importlib.util.find_spec("timm.models").origin == timm.models.__file__
