"""Whatever is imported first, timm knows our models: any module of ours, of timm or of torch, any name of ours.

After a statement that has not loaded timm, nothing that is half made is left for timm's import to meet: such statements
may share a process. So may modules of torch and timm, whose imports all begin with that of their whole package.
"""

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

from .imports import read_project

ROOT = Path(__file__).parents[1]
# Imports what is to be there before, and runs each of the first statements in a process of its own; runs those that did
# not load timm, and the second statements, in one. Prints what the processes that leave timm without our models, or a
# word of ours in the log, have written; if it is the shared one, each of its statements is run by itself, to name them.
SCRIPT = """
import gc, json, os, pkgutil, sys, tempfile, warnings

warnings.simplefilter("ignore")
before, alone, together = json.loads(sys.argv[1])
for name in before:
    pkgutil.resolve_name(name)
assert not {"timm", "timm_lp.models"} & sys.modules.keys()
gc.disable()  # which would copy the memory that the processes share
NOT_LOADED = 9
failures = {}

def run(statements, may_end_without_timm=False):
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            for statement in statements:
                exec(statement, {})
            if may_end_without_timm and "timm" not in sys.modules:
                os._exit(NOT_LOADED)
            import timm
            os._exit(0 if timm.is_model("lp2_resnet18") and timm.is_model("alexnet") else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        text = output.read()
    if code not in (0, NOT_LOADED) or "timm-lp could not" in text:
        failures["; ".join(statements)] = text
    return code

together += [statement for statement in alone if run([statement], may_end_without_timm=True) == NOT_LOADED]
if together and run(together):
    for statement in together:
        run([statement])
print(json.dumps(failures))
"""


def _modules(package: ModuleType) -> list[str]:
    """Return the names of a package's modules, itself first."""
    root = Path(str(package.__file__)).parent
    paths = sorted(path.relative_to(root.parent).with_suffix("") for path in root.rglob("*.py"))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def _imports(modules: list[str]) -> list[str]:
    return [f"import {name}" for name in modules if not name.endswith(".__main__")]


def _failures(before: list[str], alone: list[str], together: list[str], **environment: str) -> Any:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps([before, alone, together])]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    process = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_our_names_first() -> None:
    firsts = [f"from timm_lp import {name}" for name in ("lp_convert", "lp_mask")]  # the other homes are parts of these
    every = [f"from timm_lp import {name}" for name in ("*", *timm_lp.__all__)]
    assert "from timm_lp import lp_convert" in every
    assert _failures(["numpy"], [*firsts, "import hub_export"], ["import timm_lp", *every]) == {}


@pytest.mark.exhaustive
def test_any_module_of_ours_first() -> None:
    """Each that timm's import needs, which would meet it half made, and each package; the others after one another.

    What others have made is there already, so that no process loads it again.
    """
    modules = [module for package in (timm_lp, hub_export) for module in _modules(package)]
    project = read_project(ROOT, ("timm_lp", "hub_export"))
    packages = {module.rpartition(".")[0] for module in modules}
    alone = {"timm_lp.models", *project.needed_by("timm_lp.models"), *packages} & {*modules}
    assert {"timm_lp.ops.plain", "timm_lp.selection", "hub_export.cards"} <= alone
    found = project.outer()
    absent = ("timm", "wandb")  # the one is to come, the other need not be installed
    others = {each.target for each in found if not each.is_deferred and each.target.partition(".")[0] not in absent}
    assert {"torch", "huggingface_hub.HfApi"} <= others
    rest = [module for module in modules if module not in alone]
    variables = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    assert _failures(sorted(others), _imports(sorted(alone)), _imports(rest), **variables) == {}


@pytest.mark.exhaustive
def test_any_module_of_timms_first() -> None:
    needs_others = ("reader_tfds", "reader_wds", "tf_preprocessing")  # packages that neither timm nor we require
    modules = [name for name in _modules(timm) if not name.endswith(needs_others)]
    assert {"timm.data", "timm.models.resnet"} <= {*modules}
    assert _failures([], [], _imports(modules)) == {}


@pytest.mark.exhaustive
def test_any_module_of_torchs_first() -> None:
    modules = [name for name in _modules(torch) if "._" not in name and name.count(".") <= 1]
    assert {"torch.nn", "torch.onnx"} <= {*modules}
    assert _failures([], [], _imports(modules)) == {}
