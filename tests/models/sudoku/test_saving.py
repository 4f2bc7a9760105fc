import json
import resource
from pathlib import Path

import pytest
import torch

from timm_lp.experiments.sudoku import generate_puzzles, load_sudoku
from timm_lp.models.sudoku import create_network, save_network

ARGUMENTS = {"variant": "lp2-paper", "channels": 4, "depth": 2, "inputs": "one-hot"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_network(tmp_path, create_network(**ARGUMENTS), ARGUMENTS)
    return tmp_path


@pytest.mark.parametrize("variant", ["base", "large", "lp2-paper", "lp256f"])
@torch.no_grad()
def test_loads_what_it_saves(tmp_path: Path, variant: str) -> None:
    arguments = {**ARGUMENTS, "variant": variant}
    network = create_network(**arguments).to(memory_format=torch.channels_last)
    puzzles = torch.from_numpy(generate_puzzles(3, seed=0).puzzles)
    network(puzzles)  # moves the norms' statistics
    save_network(tmp_path, network, arguments)
    state = torch.get_rng_state()
    loaded = load_sudoku(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert not loaded.training
    torch.testing.assert_close(loaded(puzzles), network.eval()(puzzles))
    modes = [(tmp_path / name).stat().st_mode for name in ("config.json", "model.safetensors")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_refuses_a_folder_without_a_network(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=r"`folder` must hold config\.json and model\.safetensors, got .* A trial's"):
        load_sudoku(folder)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "list indices"),
        (json.dumps({"architecture": "resnet18"}), "it is of the architecture 'resnet18'"),
        (json.dumps({"architecture": "sudoku"}), "model_args"),
        (json.dumps({"architecture": "sudoku", "model_args": {"size": 3}}), "unexpected keyword argument 'size'"),
        (
            json.dumps({"architecture": "sudoku", "model_args": {**ARGUMENTS, "depth": 3}}),
            "Error.* in loading state_dict",
        ),
    ],
)
def test_refuses_another_or_a_damaged_network(folder: Path, content: str, reason: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=f"`folder` must hold a Sudoku network, got '.*': .*{reason}"):
        load_sudoku(folder)


def test_refuses_damaged_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ValueError, match="`folder` must hold a Sudoku network"):
        load_sudoku(folder)


def test_a_network_that_is_too_large_for_the_disk_is_said_with_its_file(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match=rf"^\[Errno 27\] File too large; .*'{tmp_path / 'model.safetensors'}'$"):
            save_network(tmp_path, create_network("base", 4, 2), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
