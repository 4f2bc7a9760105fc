"""A made-up command: how its command line is read, and how it ends."""

import gc
import shlex
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from timm_lp.command import (
    CommandLine,
    failures_in_one_line,
    first_line,
    imports_not_collected,
    parse_subcommand,
    require_packages,
)
from timm_lp.settings import Settings, setting


@dataclass(frozen=True)
class Errand(Settings):
    names: list[str] = setting([], "who", nargs="*", positional=True)
    size: int = setting(1, "how many", limits=(1, 9))
    loud: bool = setting(False, "whether all hear it")
    output: str = setting("out", "where to")

    def check_together(self) -> None:
        if self.loud and self.size > 5:
            raise ValueError("`--loud` must come with less. Leave it out.")


@pytest.fixture
def door(tmp_path: Path) -> CommandLine[Errand]:
    (tmp_path / "usual.yaml").write_text("size: 3\nnames: [anna]\n")
    return CommandLine(
        "door",
        Errand,
        recipes=tmp_path,
        usual_recipe=tmp_path / "usual.yaml",
        launcher="python -m door",
        named=("size",),
        local=("output",),
        actions={"open": ("--open", "it"), "shut": ("--shut", "it")},
    )


def test_flags_win_over_the_recipe_and_that_over_the_defaults(door: CommandLine[Errand], tmp_path: Path) -> None:
    assert door.parse([]) == Errand(["anna"], size=3)
    assert door.parse(["--loud"]) == Errand(["anna"], size=3, loud=True)
    assert door.parse(["--size", "2"]) == Errand(size=2), "a setting of `named` leaves no usual recipe"
    (tmp_path / "other.yaml").write_text("loud: true\nsize: 2\nnames: [bea]")
    assert door.parse(["--config", "other.yaml"]) == Errand(["bea"], 2, loud=True)
    assert door.parse(["carl", "--config", "other.yaml", "--no-loud"]) == Errand(["carl"], 2)


def test_an_action_is_asked_for_or_it_is_a_run(door: CommandLine[Errand]) -> None:
    assert [door.parse_with_action(words)[1] for words in ([], ["--open"], ["--shut"])] == ["run", "open", "shut"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--seize=1", "unrecognized arguments: --seize=1"),
        ("--size x", "argument --size: invalid int value: 'x'"),
        ("--size 0", "`size` must be between 1 and 9, got 0"),
        ("--size 6 --loud", "`--loud` must come with less. Leave it out"),
        ("--open --shut", "argument --shut: not allowed with argument --open"),
        ("--config none", "`--config` must be a readable YAML file, got none: [Errno 2] No such file or directory"),
    ],
)
def test_a_wrong_flag_is_one_line(
    door: CommandLine[Errand], words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        door.parse(words.split())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"door: error: {message}")
    assert line.endswith(". --help lists the flags.")


def test_settings_may_be_refused_as_a_failure() -> None:
    with pytest.raises(ValueError, match="`size` must be between 1 and 9, got 0"):
        CommandLine("door", Errand, is_usage=False).parse(["--size", "0"])


def test_the_command_repeats_the_settings(door: CommandLine[Errand]) -> None:
    settings = door.parse(["a b", "c", "--output", "elsewhere"])
    command = door.repeat(settings, names=["a b"])
    assert command == "python -m door 'a b' --size 3"
    assert door.parse(shlex.split(command)[3:]) == Errand(["a b"], 3)
    assert CommandLine("door", Errand).repeat(Errand()) == "door"


def test_one_of_several_commands(capsys: pytest.CaptureFixture[str]) -> None:
    commands: dict[str, CommandLine[Any]] = {
        name: CommandLine(f"house {name}", Errand, summary=f"the {name}", takes_recipe=False)
        for name in ("door", "window")
    }
    assert parse_subcommand("house", "", commands, ["window", "a", "--loud"]) == ("window", Errand(["a"], loud=True))
    assert parse_subcommand("house", "", commands, [], usual="door") == ("door", Errand())
    for words, message in (
        ([], "house: error: the following arguments are required: COMMAND"),
        (["roof"], "house: error: argument COMMAND: invalid choice: 'roof'"),
        (["door", "--size", "x"], "house door: error: argument --size: invalid int value: 'x'"),
        (["door", "--size", "0"], "house door: error: `size` must be between 1 and 9, got 0"),
        (["door", "--no-loud"], "house: error: unrecognized arguments: --no-loud"),
    ):
        with pytest.raises(SystemExit, match=r"^2$"):
            parse_subcommand("house", "", commands, words)
        assert capsys.readouterr().err.startswith(message)


def test_missing_packages_are_named_with_the_way_to_install_them() -> None:
    require_packages("door", "few", ["json", "torch"])
    with pytest.raises(SystemExit) as end:
        require_packages("door", "few", ["json", "no_such_package", "neither_this"])
    assert str(end.value) == (
        'door: no_such_package, neither_this must be installed. `pip install "timm-lp[few]"` brings what is missing, '
        'in a clone `pip install -e ".[few]"`.'
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("`lr` must be finite."), "door: `lr` must be finite."),
        (FileNotFoundError(2, "No such file", "x"), "door: [Errno 2] No such file: 'x'"),
        (RuntimeError("DataLoader worker (pid 3) is killed\n\nand more"), "door: DataLoader worker (pid 3) is killed"),
        (MemoryError(), "door: MemoryError"),
    ],
)
def test_failures_are_one_line(error: Exception, message: str) -> None:
    with pytest.raises(SystemExit) as end, failures_in_one_line("door"):
        raise error
    assert str(end.value) == message
    assert end.value.__cause__ is error


def test_mistakes_of_ours_keep_their_traceback() -> None:
    with pytest.raises(KeyError), failures_in_one_line("door"):
        raise KeyError("name")


@pytest.mark.parametrize(("hint", "message"), [("", "door: interrupted."), ("Go on.", "door: interrupted. Go on.")])
def test_an_interruption_is_one_line(hint: str, message: str) -> None:
    with pytest.raises(SystemExit) as end, failures_in_one_line("door", hint):
        signal.raise_signal(signal.SIGINT)
    assert str(end.value) == message


def test_the_first_line_is_one_that_says_something() -> None:
    assert first_line(ValueError("\nfirst\nsecond")) == "first"
    assert first_line(AssertionError()) == "AssertionError"


@pytest.mark.usefixtures("nothing_frozen")
def test_what_the_imports_left_is_not_collected_for_a_while() -> None:
    before = gc.get_freeze_count()
    with imports_not_collected():
        assert gc.get_freeze_count() > before
        with imports_not_collected():
            assert gc.get_freeze_count() > before
        assert gc.get_freeze_count() > before, "the outer one goes on"
    assert gc.get_freeze_count() == before
