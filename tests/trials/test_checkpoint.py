import logging
from pathlib import Path

import pytest
import torch

from timm_lp.trials.checkpoint import CheckpointFile

STATE = {"epochs": 2, "network": {"weight": torch.arange(3.0)}}


def test_a_state_comes_back(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "trial" / "checkpoint.pt", {"lr": 0.1}, 0)
    assert file.load() is None
    file.save(STATE)
    (tmp_path / "trial" / "checkpoint.partial").write_bytes(b"killed while writing")
    state = file.load()
    assert state["epochs"] == 2
    assert torch.equal(state["network"]["weight"], torch.arange(3.0))
    file.save({**STATE, "epochs": 3})
    assert file.load()["epochs"] == 3
    file.remove()
    assert file.load() is None


def test_a_state_of_other_settings_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    CheckpointFile(tmp_path / "checkpoint.pt", {"lr": 0.1}, 0).save(STATE)
    assert CheckpointFile(tmp_path / "checkpoint.pt", {"lr": 0.2}, 0).load() is None
    assert "has other settings, and its trial starts again" in caplog.text


@pytest.mark.parametrize("content", [b"", b"junk", None], ids=["empty", "junk", "half"])
def test_a_damaged_state_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None) -> None:
    path = tmp_path / "checkpoint.pt"
    file = CheckpointFile(path, {}, 0)
    file.save(STATE)
    path.write_bytes(path.read_bytes()[:700] if content is None else content)
    assert file.load() is None
    assert "cannot be read, and its trial starts again" in caplog.text


@pytest.mark.parametrize("content", [{"weights": 1}, [1, 2], torch.ones(2)], ids=["dict", "list", "tensor"])
def test_another_programs_file_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: object) -> None:
    torch.save(content, tmp_path / "checkpoint.pt")
    assert CheckpointFile(tmp_path / "checkpoint.pt", {}, 0).load() is None
    assert "cannot be read, and its trial starts again" in caplog.text


def test_no_damaged_byte_ends_the_run(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "checkpoint.pt", {}, 0)
    file.save(STATE)
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    for place in range(0, len(whole), 2):
        (tmp_path / "checkpoint.pt").write_bytes(whole[:place] + b"\x88" + whole[place + 1 :])
        file.load()


def test_a_full_disk_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = CheckpointFile(tmp_path / "checkpoint.pt", {}, 0)
    file.save(STATE)
    (tmp_path / "checkpoint.partial").symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING):
        file.save({**STATE, "epochs": 3})
    assert "No checkpoint: [Errno 28] No space left on device" in caplog.text
    assert str(tmp_path / "checkpoint.pt") in caplog.text
    assert file.load()["epochs"] == 2


def test_states_are_written_now_and_then(tmp_path: Path) -> None:
    assert CheckpointFile(tmp_path / "checkpoint.pt", {}, 0).is_due()
    assert not CheckpointFile(tmp_path / "checkpoint.pt", {}, 1e6).is_due()
