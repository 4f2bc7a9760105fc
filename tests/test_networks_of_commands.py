"""Every command takes every kind of NETWORK, or says in one sentence why it does not."""

import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.models import save_for_hf

import hub_export.cli
import timm_lp.bench.cli
import timm_lp.experiments.brain.cli
import timm_lp.experiments.receptive_fields.cli
import timm_lp.experiments.robustness.cli
import timm_lp.experiments.sudoku.cli
import timm_lp.masks.cli
from timm_lp.bench import benchmark
from timm_lp.experiments.brain.responses import write_responses
from timm_lp.experiments.data.corruptions.published import NAMES

from .experiments.brain.data import small_cortex
from .experiments.conftest import forget_format
from .hub_export.conftest import use
from .hub_server import HubServer, serve
from .trials.records import TINY, save_sudoku, save_trial

CLASSES = 1000  # as many as registered networks have
KINDS = (
    *("registered", "hf-hub", "local-dir", "saved folder", "trial", "run"),
    *("Sudoku trial", "file of weights"),
)
MAINS: dict[str, Callable[[list[str]], object]] = {
    "masks": timm_lp.masks.cli.main,
    "robustness": timm_lp.experiments.robustness.cli.main,
    "brain rsa": timm_lp.experiments.brain.cli.main,
    "receptive-fields": timm_lp.experiments.receptive_fields.cli.main,
    "bench": timm_lp.bench.cli.main,
    "hub stage": hub_export.cli.main,
    "sudoku --masks": timm_lp.experiments.sudoku.cli.main,
}
# What follows the command, with {network}, {out} and the files of `files`.
ARGUMENTS = {
    "masks": "{network} --output-dir {out}",
    "robustness": "{network} --corruptions {arrays} --no-md5 --output-dir {out}",
    "brain rsa": "rsa --responses {cortex} --models {network} --image-size 32 --resamples 2 --splits 1 "
    "--permutations 1 --output-dir {out}",
    "receptive-fields": "{network} --inputs noise --num-images 1 --output-dir {out}",
    "bench": "--network {network} --runs 1 --no-memory --output {out}",
    "hub stage": "stage {network} {out}",
    "sudoku --masks": "--masks --output-dir {network}",
}
NO_IMAGES = r"`NETWORK` must be a network that sees images, got '.*', a Sudoku network\."
REFUSED = {
    **{
        (command, "Sudoku trial"): NO_IMAGES
        for command in MAINS
        if command not in ("masks", "sudoku --masks", "hub stage")
    },
    ("hub stage", "run"): r"`model` must be one network, got .*, the folder of .*Name one of them",
    **{("sudoku --masks", kind): r"must (be|hold) " for kind in KINDS if kind not in ("trial", "run", "Sudoku trial")},
}
BY_DEFAULT = {
    *(("masks", "run"), ("robustness", "run"), ("brain rsa", "run"), ("receptive-fields", "run")),
    *(("bench", "Sudoku trial"), ("hub stage", "trial"), ("sudoku --masks", "Sudoku trial")),
}
CELLS = [
    pytest.param(command, kind, marks=() if (command, kind) in BY_DEFAULT else pytest.mark.exhaustive)
    for command in MAINS
    for kind in KINDS
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two trials, a folder that timm saved, one with a file of weights beside it, a Sudoku trial."""
    root = tmp_path_factory.mktemp("networks")
    config = {"pretrained_cfg": {"input_size": (3, 32, 32)}}
    for variant in ("base", "lp2"):
        save_trial(root / "run", variant, num_classes=CLASSES, model_config=config)
    for name in ("saved", "weights"):
        torch.manual_seed(1)  # with some seeds an untrained layer answers all images alike, which `brain rsa` refuses
        network = timm.create_model("lp2_resnet18", num_classes=CLASSES, **TINY)
        save_for_hf(network, str(root / name), model_config=config, model_args=TINY, safe_serialization=True)
    torch.save(network.state_dict(), root / "weights" / "last.pth")
    (root / "weights" / "model.safetensors").unlink()
    save_sudoku(root / "sudoku")
    return root


@pytest.fixture(scope="module")
def hub(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A Hub with a saved network, and with what the registered names have their weights from."""
    with serve() as server:
        server.seed(folder / "saved", "someone/tiny")
        for name, repo in (("test_resnet", "timm/test_resnet.r160_in1k"), ("resnet18", "timm/resnet18.a1_in1k")):
            save_for_hf(timm.create_model(name), str(folder / name), safe_serialization=True)
            server.seed(folder / name, repo)
        yield server


@pytest.fixture(autouse=True, scope="module")
def _limits_measured_once() -> Iterator[None]:
    """Measure the machine's best speeds, which takes seconds, for the first command alone, and once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "machine_limits", cache(partial(benchmark.machine_limits, runs=1)))
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Responses of a cortex, and arrays of corrupted images."""
    folder = tmp_path_factory.mktemp("files")
    write_responses(folder / "cortex.npz", small_cortex().responses)
    (folder / "arrays").mkdir()
    for place, name in enumerate(NAMES):
        images = np.random.default_rng(place).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
        np.save(folder / "arrays" / f"{name}.npy", images)
    np.save(folder / "arrays" / "labels.npy", np.array(5 * [0, CLASSES - 1]))
    return {"cortex": folder / "cortex.npz", "arrays": folder / "arrays"}


def _network(kind: str, command: str, folder: Path) -> str:
    return {
        "registered": "lp2_resnet18" if command in ("masks", "hub stage") else "test_resnet",
        "hf-hub": "hf-hub:someone/tiny",
        "local-dir": f"local-dir:{folder / 'saved'}",
        "saved folder": str(folder / "saved"),
        "trial": str(folder / "run/digits/resnet18/lp2-seed1"),
        "run": str(folder / "run"),
        "Sudoku trial": str(next((folder / "sudoku").rglob("trial.json")).parent),
        "file of weights": str(folder / "weights" / "last.pth"),
    }[kind]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(("command", "kind"), CELLS)
def test_every_command_takes_every_network(
    command: str,
    kind: str,
    folder: Path,
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if kind in ("registered", "hf-hub"):
        server: HubServer = request.getfixturevalue("hub")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        use(server.url, monkeypatch)
    forget_format()
    out = tmp_path / "out"
    words: dict[str, Any] = {"network": _network(kind, command, folder), "out": out, **files}
    arguments = [word.format(**words) for word in ARGUMENTS[command].split()]
    refused = REFUSED.get((command, kind))
    if refused is None:
        MAINS[command](arguments)
        assert command == "sudoku --masks" or any(out.iterdir())
        return
    with pytest.raises(SystemExit) as ended:
        MAINS[command](arguments)
    said = str(ended.value.code)
    assert re.search(refused, said), said
    assert len(said.splitlines()) == 1
    assert not out.exists()
