"""Whatever is imported first, timm knows our models: any module of ours, of timm or of torch, any name of ours."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm
import torch

import hub_export
import timm_lp

# Imports the modules that are to be there before, and runs each statement in a process of its own; prints what those
# that leave timm without our models, or a word of ours in the log, have written.
SCRIPT = """
import importlib, json, os, sys, tempfile, warnings

warnings.simplefilter("ignore")
before, statements = json.loads(sys.argv[1])
for name in before:
    importlib.import_module(name)
failures = {}
for statement in statements:
    assert not {"timm", "timm_lp.models"} & sys.modules.keys()
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            exec(statement, {})
            import timm
            os._exit(0 if timm.is_model("lp2_resnet18") and timm.is_model("alexnet") else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        text = output.read()
    if code or "timm-lp could not" in text:
        failures[statement] = text
print(json.dumps(failures))
"""
# Prints the names of the modules that an import loads.
LOADED = (
    "import importlib, json, sys; importlib.import_module(json.loads(sys.argv[1])); print(json.dumps([*sys.modules]))"
)


def _modules(package: ModuleType) -> list[str]:
    """Return the names of a package's modules, itself first."""
    root = Path(str(package.__file__)).parent
    paths = sorted(path.relative_to(root.parent).with_suffix("") for path in root.rglob("*.py"))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def _imports(modules: list[str]) -> list[str]:
    return [f"import {name}" for name in modules if not name.endswith(".__main__")]


def _beyond(package: str, modules: list[str]) -> list[str]:
    """Return the package and those of its modules that its own import does not load."""
    loaded = _run(LOADED, package)
    return [package, *(name for name in modules if name not in loaded)]


def _run(code: str, *arguments: Any, **environment: str) -> Any:
    command = [sys.executable, "-W", "ignore", "-c", code, *map(json.dumps, arguments)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    process = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.fixture(scope="module")
def dependencies() -> list[str]:
    """What `import timm` loads besides timm and us; loaded before, it need not be loaded in each process again."""
    return [name for name in _run(LOADED, "timm") if name.partition(".")[0] not in ("__main__", "timm", "timm_lp")]


def test_our_names_first() -> None:
    statements = [f"from timm_lp import {name}" for name in ("*", *timm_lp.__all__)]
    assert "from timm_lp import lp_convert" in statements
    assert _run(SCRIPT, [["numpy"], [*statements, "import timm_lp", "import hub_export"]]) == {}


def test_any_module_of_ours_first(dependencies: list[str]) -> None:
    modules = [module for package in (timm_lp, hub_export) for module in _modules(package)]
    assert "timm_lp.ops.lp_mask" in modules
    assert _run(SCRIPT, [dependencies, _imports(modules)], TORCH_DEVICE_BACKEND_AUTOLOAD="0") == {}


def test_any_module_of_timms_first(dependencies: list[str]) -> None:
    needs_others = ("reader_tfds", "reader_wds", "tf_preprocessing")  # packages that neither timm nor we require
    modules = [name for name in _modules(timm) if not name.endswith(needs_others)]
    assert {"timm.data", "timm.models.resnet"} <= {*modules}
    assert _run(SCRIPT, [dependencies, _imports(_beyond("timm", modules))]) == {}


def test_any_module_of_torchs_first() -> None:
    modules = [name for name in _modules(torch) if "._" not in name and name.count(".") <= 1]
    assert {"torch.nn", "torch.onnx"} <= {*modules}
    assert _run(SCRIPT, [["numpy"], _imports(_beyond("torch", modules))]) == {}
