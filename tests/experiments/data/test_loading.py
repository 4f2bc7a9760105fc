"""Names of data sets: of presets, of folders and files, and of both."""

from pathlib import Path

import pytest

from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.presets import DIGITS, PRESETS

from ..images import make_folder, make_parquet, make_split_file


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _make(root: Path) -> None:
    for split, first in (("train", 0), ("test", 50)):
        make_folder(root, split, ("ant", "bee"), first=first)


@pytest.mark.parametrize("name", [DIGITS, *PRESETS])
@pytest.mark.parametrize("kind", ["images", "empty folder", "file"])
def test_a_name_of_a_preset_and_of_a_folder_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "images":
        _make(tmp_path / name)
    elif kind == "file":
        (tmp_path / name).write_text("{}")
    else:
        (tmp_path / name).mkdir()
    message = rf"`dataset` must name one data set, got '{name}', which is a preset and .*/{name} too\. "
    with pytest.raises(ValueError, match=rf"{message}Give \./{name} for what lies there, or preset:{name} for the pre"):
        load_data(name)


def test_each_of_both_can_be_named(tmp_path: Path) -> None:
    _make(tmp_path / DIGITS)
    digits = load_data(f"preset:{DIGITS}")
    assert (digits.info.name, digits.folder, len(digits.train)) == ("digits", "digits", 1000)
    assert digits.argument == "preset:digits"
    for argument in (f"./{DIGITS}", str(tmp_path / DIGITS), f"{DIGITS}/"):
        data = load_data(argument)
        assert (len(data.train), data.argument) == (4, argument)
        assert (data.info.id, data.info.name, data.folder) == ("local-digits", "local-digits", "local-digits")


def test_no_data_set_of_ones_own_has_the_name_of_a_preset(tmp_path: Path) -> None:
    _make(tmp_path / "CIFAR-100")
    make_parquet(tmp_path / "dtd", {"train": 1, "test": 1})
    split = make_split_file(tmp_path / "split", {"train": 1, "val": 1, "test": 1})
    split = split.rename(split.with_name("pets.json"))
    reserved = {DIGITS, *PRESETS, *(preset.name for preset in PRESETS.values())}
    for argument, name in (("./CIFAR-100", "local-CIFAR-100"), ("./dtd", "local-dtd")):
        data = load_data(argument)
        assert (data.info.id, data.info.name, data.folder) == (name, name, name)
    data = load_data(str(split))
    assert not {data.info.id, data.info.name, data.folder} & reserved


def test_the_trials_of_a_run_are_no_data_set(tmp_path: Path) -> None:
    """With --output-dir . they lie in a folder of the data set's name, and the same command goes on."""
    (tmp_path / DIGITS / "resnet18" / "lp2-seed1").mkdir(parents=True)
    assert len(load_data(DIGITS).train) == 1000


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`dataset` must be one of digits, flowers102, .* got 'preset:cats'"):
        load_data("preset:cats")
