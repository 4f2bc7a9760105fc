"""Trial, flags and recipes of a made-up command."""

import argparse
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from timm_lp.recipes import read_recipe
from timm_lp.settings import Settings, add_flags, check_lists, positional, setting, words_of


@dataclass(frozen=True)
class Trial(Settings):
    networks: list[str] = setting([], "what to look at", nargs="*", metavar="NETWORK", positional=True)
    epochs: int = setting(7, "passes", limits=(1, inf))
    seeds: list[int] = setting([1, 2], "one trial each", int, (0, 9))
    lr: float = setting(0.1, "rate", limits=(0.01, inf))
    share: float = setting(0.5, "100 % are 1", limits=(0, 1))
    pair: list[float] = setting([1.0, 2.0], "least and largest", nargs=2, kind=float)
    mode: str = setting("fast", "how", choices=("fast", "slow"))
    size: int | None = setting(None, "pixels; the network's if not given", int, (1, inf))
    save: bool = setting(True, "keep the networks")
    kwargs: dict[str, Any] = setting({}, "of the network")
    shots: int = setting(16, "all, or a number", parse=lambda text: 0 if text == "all" else int(text))
    folder: Path = setting(Path("output"), "where to")


def _parse(*arguments: str, kind: type = Trial, negatable: bool = True) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_flags(parser, kind, negatable=negatable)
    return {name: value for name, value in vars(parser.parse_args(arguments)).items() if value not in (None, [])}


def test_values_are_put_into_their_type() -> None:
    settings = Trial(epochs="3", seeds=(1, "2"), lr="1e-1", share=1, folder="elsewhere")  # type: ignore[arg-type]
    assert settings == Trial(epochs=3, seeds=[1, 2], lr=0.1, share=1.0, folder=Path("elsewhere"))
    assert isinstance(settings.share, float)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "`epochs` must be at least 1, got 0"),
        ("epochs", 2.5, "`epochs` must be of type int, got 2.5"),
        ("epochs", True, "`epochs` must be of type int, got True"),
        ("seeds", 3, r"`seeds` must be a list, got 3\. In a recipe, write \[3\]"),
        ("seeds", ["a"], "`seeds` must be of type int, got 'a'"),
        ("seeds", [1, 10], "`seeds` must be between 0 and 9, got 10"),
        ("lr", inf, r"`lr` must be at least 0\.01 and finite, got inf"),
        ("lr", nan, r"`lr` must be at least 0\.01 and finite, got nan"),
        ("lr", 10**400, "`lr` must be of type float, got 1000"),
        ("lr", "fast", "`lr` must be of type float, got 'fast'"),
        ("share", 1.5, r"`share` must be between 0 and 1, got 1\.5"),
        ("pair", [1.0], r"`pair` must be 2 values, got \[1\.0\]"),
        ("mode", "slowly", "`mode` must be fast or slow, got 'slowly'"),
        ("save", "false", "`save` must be of type bool, got 'false'"),
        ("folder", 3, "`folder` must be of type Path, got 3"),
    ],
)
def test_what_no_setting_could_be_is_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trial(**{name: value})


def test_lists_that_name_nothing_or_something_twice_are_refused() -> None:
    check_lists(Trial(), "seeds")
    for seeds in ([], [1, 1]):
        with pytest.raises(ValueError, match="`seeds` must name at least one, and none twice, got "):
            check_lists(Trial(seeds=seeds), "seeds")


def test_every_setting_has_a_flag_and_what_is_not_given_is_not_there() -> None:
    assert _parse() == {}
    words = "a b --epochs 3 --seeds 4 5 --lr 1e-3 --share 1 --pair 0 1 --mode slow --size 64 --no-save --shots all"
    parsed = _parse(*words.split(), "--kwargs", "layers=(1,2)", "act=relu", "--folder", "x/y")
    assert parsed == {
        **{"networks": ["a", "b"], "epochs": 3, "seeds": [4, 5], "lr": 1e-3, "share": 1.0, "pair": [0.0, 1.0]},
        **{"mode": "slow", "size": 64, "save": False, "shots": 0, "kwargs": {"layers": (1, 2), "act": "relu"}},
        "folder": Path("x/y"),
    }
    assert parsed.keys() == {option.name for option in fields(Trial)}
    assert positional(Trial) == ["networks"]


@pytest.mark.parametrize("words", ["--mode slowly", "--kwargs x", "--seeds", "--size big", "--pair 1"])
def test_flags_with_other_values_are_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        _parse(*words.split())
    assert f"argument {words.split()[0]}: " in capsys.readouterr().err


def test_the_help_shows_defaults_as_they_are_typed() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, Trial, negatable=True)
    text = " ".join(parser.format_help().split())
    for part in ("one trial each (default: 1 2)", "100 % are 1 (default: 0.5)", "--save, --no-save keep the networks"):
        assert part in text
    assert "pixels; the network's if not given --" in text, "nothing stands for no default"


@dataclass(frozen=True, kw_only=True)
class Required(Settings):
    folder: str = setting(MISSING, "where from", str, positional=True)
    key: str = setting(MISSING, "for the door", str)
    private: bool = setting(False, "tell nobody")


def test_what_must_be_given_and_flags_without_an_opposite(capsys: pytest.CaptureFixture[str]) -> None:
    given = {"folder": "here", "key": "k", "private": True}
    assert _parse("here", "--key", "k", "--private", kind=Required, negatable=False) == given
    for words in (["here"], ["--key", "k"], ["here", "--key", "k", "--no-private"]):
        with pytest.raises(SystemExit, match=r"^2$"):
            _parse(*words, kind=Required, negatable=False)
    errors = capsys.readouterr().err
    assert "required: --key" in errors
    assert "required: folder" in errors


def test_words_that_give_the_same_settings() -> None:
    settings = Trial(networks=["a b"], epochs=3, save=False, kwargs={"layers": (1, 2)}, folder=Path("x"), seeds=[5])
    words = words_of(settings, named=["lr", "size"], local=["folder"], seeds=[6])
    assert words == "a b|--epochs|3|--seeds|6|--lr|0.1|--no-save|--kwargs|layers=(1,2)".split("|")
    assert Trial(**_parse(*words, "--seeds", "5", "--folder", "x")) == settings


def test_arguments_of_networks_are_named_once_and_any_text_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert _parse("--kwargs", "a={[]:1}")["kwargs"] == {"a": "{[]:1}"}
    with pytest.raises(SystemExit):
        _parse("--kwargs", "a=1", "a=2")
    assert "must name each argument once, got a twice" in capsys.readouterr().err


def test_words_keep_arguments_of_networks() -> None:
    kwargs = {"act": "a b", "tag": "1", "name": "it's", "names": ["a b", "c"], "depths": [1, 2], "flag": None, "x": 0.5}
    assert _parse(*words_of(Trial(kwargs=kwargs), named=[], local=[]))["kwargs"] == kwargs


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str | bytes], dict[str, Any]]:
    """Return a function that writes a recipe and reads it."""

    def read(content: str | bytes) -> dict[str, Any]:
        path = tmp_path / "recipe.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_recipe(path, Trial)

    return read


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1: 2\nrate: 1", r"hold settings that --help lists, got \['1', 'rate'\] in .*recipe\.yaml"),
        ("", "hold settings that --help lists, got None in"),
        ("a: [", r"be a readable YAML file, got .*recipe\.yaml: while parsing"),
        (b"\xff\xfe\x00", "be a readable YAML file, got .*recipe.yaml: 'utf-8' codec"),
        ("kwargs: {layers: [1], layers: [2]}", "be a readable YAML file, got .*: layers stands twice"),
        ("mode: 2024-13-45", "be a readable YAML file, got .*: month must be in"),
    ],
)
def test_unusable_recipes_are_refused(
    recipe: Callable[[str | bytes], dict[str, Any]], content: str | bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=f"`--config` must {message}") as refused:
        recipe(content)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("networks: [no, off, 1e3, 010, 2024-01-02]", ["no", "off", "1e3", "010", "2024-01-02"]),
        ("size: null", None),
        ("epochs: 1_000", 1000),
        ("seeds: [07, 0]", [7, 0]),
        ("lr: 1e-1", 0.1),
        ("save: off", False),
        ("kwargs: {zero_init_last: no}", {"zero_init_last": False}),
    ],
)
def test_what_yaml_reads_otherwise_is_read_as_it_is_written(
    recipe: Callable[[str | bytes], dict[str, Any]], line: str, expected: object
) -> None:
    assert getattr(Trial(**recipe(line)), line.split(":")[0]) == expected


@pytest.mark.parametrize("line", ["epochs: 1:30", "lr: .inf", "epochs:", "seeds: 3", "save: 1"])
def test_other_values_in_a_recipe_are_refused(recipe: Callable[[str | bytes], dict[str, Any]], line: str) -> None:
    with pytest.raises(ValueError, match=f"`{line.split(':')[0]}` must be (of type|a list)"):
        Trial(**recipe(line))


def test_a_shipped_recipe_is_named_without_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "demo.yaml").write_text("epochs: 3")
    monkeypatch.chdir(tmp_path)
    assert read_recipe("demo.yaml", Trial, tmp_path / "shipped") == {"epochs": "3"}
    for name in ("./demo.yaml", "other/demo.yaml", "none.yaml"):
        with pytest.raises(ValueError, match=r"`--config` must be a readable YAML file, got .*No such file"):
            read_recipe(name, Trial, tmp_path / "shipped")
    Path("demo.yaml").write_text("epochs: 4")
    assert read_recipe("demo.yaml", Trial, tmp_path / "shipped") == {"epochs": "4"}
