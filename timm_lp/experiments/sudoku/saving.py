"""Save trained Sudoku networks, and load them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ...command import first_line
from ...files import failures_name, write_json
from .networks import SudokuNet, create_network

ARCHITECTURE = "sudoku"
WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"


def save_network(folder: Path, network: SudokuNet, arguments: dict[str, Any]) -> None:
    """Save a network as `load_sudoku` loads it.

    Args:
        folder: The folder; it is there.
        network: The network, on any device.
        arguments: What `create_network` made it of.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with failures_name(folder / WEIGHTS_FILE, SafetensorError):
        save_file(state, folder / WEIGHTS_FILE)
    write_json(folder / CONFIG_FILE, {"architecture": ARCHITECTURE, "model_args": arguments})
    (folder / WEIGHTS_FILE).chmod((folder / CONFIG_FILE).stat().st_mode)  # safetensors lets nobody else read


def load_sudoku(folder: str | Path) -> SudokuNet:
    """Return a trained network, in evaluation mode.

    Args:
        folder: A trial's folder.

    Raises:
        ValueError: If there is no Sudoku network in it, or a damaged one.
    """
    folder = Path(folder)
    if not all((folder / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE)):
        raise ValueError(
            f"`folder` must hold {CONFIG_FILE} and {WEIGHTS_FILE}, got {str(folder)!r}. A trial's folder has them if "
            "it ended well and its network was saved."
        )
    try:
        content = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        if content["architecture"] != ARCHITECTURE:
            raise ValueError(f"it is of the architecture {content['architecture']!r}")
        with torch.random.fork_rng(devices=[]):  # its random weights are replaced
            network = create_network(**content["model_args"])
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"`folder` must hold a Sudoku network, got {str(folder)!r}: {first_line(error)}") from error
    return network.eval()
