from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from timm_lp import lp_convert
from timm_lp.masks.cli import main
from timm_lp.masks.history import keep_masks, pool_histories, read_masks
from timm_lp.masks.statistics import layer_masks
from timm_lp.models.sudoku import create_network, save_network


def _network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = lp_convert(nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 4, (3, 5))), filter_fn=lambda *_: True)
    with torch.no_grad():
        for layer in network:
            layer.C.add_(0.1 * torch.randn_like(layer.C))
            layer.log2p.add_(torch.rand_like(layer.log2p))
    return network


def test_masks_come_back_as_they_were_kept(tmp_path: Path) -> None:
    networks = {epoch: _network(epoch) for epoch in (0, 1, 12)}
    for epoch, network in networks.items():
        keep_masks(network, tmp_path, epoch)
    found = read_masks(tmp_path)
    assert list(found) == [0, 1, 12]
    for epoch, network in networks.items():
        for layer, expected in zip(found[epoch], layer_masks(network), strict=True):
            for name in ("fqn", "kernel_size", "p_init", "sigma_init"):
                assert getattr(layer, name) == getattr(expected, name)
            assert torch.equal(layer.C, expected.C)
            assert torch.equal(layer.log2p, expected.log2p)
    assert all(file.stat().st_size < 2048 for file in (tmp_path / "masks").iterdir())


def test_a_training_that_starts_again_leaves_no_masks_of_the_one_before(tmp_path: Path) -> None:
    for epoch in (0, 1, 2, 0, 1):
        keep_masks(_network(epoch), tmp_path, epoch)
    assert list(read_masks(tmp_path)) == [0, 1]


def test_a_network_without_masks_leaves_nothing(tmp_path: Path) -> None:
    keep_masks(nn.Conv2d(3, 4, 3), tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_trials_are_shown_together_at_the_epochs_of_all(tmp_path: Path) -> None:
    for seed in (1, 2):
        for epoch in range(2 + seed):
            keep_masks(_network(10 * seed + epoch), tmp_path / str(seed), epoch)
    history = pool_histories([tmp_path / "1", tmp_path / "2"])
    assert list(history) == [0, 1, 2]
    assert [len(layer) for layer in history[0]] == [10, 8]
    assert torch.equal(history[2][0].C[5:], layer_masks(_network(22))[0].C)


@pytest.mark.parametrize("content", [b"", b"[]", b"\x00" * 64])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    keep_masks(_network(0), tmp_path, 0)
    path = tmp_path / "masks" / "epoch00000.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"epoch00000\.safetensors must hold the masks of an epoch, as --track-masks"):
        read_masks(tmp_path)


def test_the_command_animates_masks_with_a_frame_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial, arguments = tmp_path / "lp2-seed1", {"variant": "lp2", "channels": 3, "depth": 1}
    trial.mkdir()
    network = create_network(**arguments)
    save_network(trial, network, arguments)
    run = [str(trial), "--animate", "--output-dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match=r"`--animate` must be used with trials that kept .*Train with --track-masks"):
        main(run)
    for epoch in range(3):
        keep_masks(network, trial, epoch)
        with torch.no_grad():
            network.head.C.mul_(0.7)
    main(run)
    assert "animation.gif" in capsys.readouterr().out.splitlines()[-1]
    with Image.open(tmp_path / "out" / "animation.gif") as film:
        assert film.n_frames == 3
        frames = []
        for index in range(3):
            film.seek(index)
            frames.append(film.convert("RGB").tobytes())
    assert len({*frames}) == 3


def test_the_demonstration_has_no_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--animate"])
    assert "`--animate` must be used with trials, got none" in capsys.readouterr().err
