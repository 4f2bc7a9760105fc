import gc
import signal

import pytest

from timm_lp.command import (
    CommandParser,
    failures_in_one_line,
    first_line,
    imports_not_collected,
    positive,
    require_packages,
)


def test_a_wrong_flag_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser(prog="door")
    parser.add_argument("--size", type=int)
    parser.add_argument("--number", type=positive)
    assert parser.parse_args(["--number", "1"]).number == 1
    for arguments, message in (
        (["--seize", "1"], "unrecognized arguments: --seize 1"),
        (["--size", "x"], "argument --size: invalid int value: 'x'"),
        (["--number", "0"], "argument --number: must be at least 1, got 0"),
        (["--number", "x"], "argument --number: invalid positive number value: 'x'"),
    ):
        with pytest.raises(SystemExit, match="2"):
            parser.parse_args(arguments)
        assert capsys.readouterr().err == f"door: error: {message}. --help lists the flags.\n"


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
        frozen = gc.get_freeze_count()
        assert frozen > before
        with imports_not_collected():
            assert gc.get_freeze_count() == frozen
        assert gc.get_freeze_count() == frozen, "the outer one goes on"
    assert gc.get_freeze_count() == before
