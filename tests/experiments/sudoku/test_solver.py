"""`timm-lp sudoku solve`: what people type, with a network that was not trained."""

import io
import re
from pathlib import Path

import pytest

from tests.models.sudoku.reference import PUZZLE, SOLUTION
from timm_lp.experiments.sudoku.cli import main
from timm_lp.models.sudoku import create_network, save_network

LINES = [PUZZLE[start : start + 9] for start in range(0, 81, 9)]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, arguments = tmp_path_factory.mktemp("untrained"), {"variant": "lp2", "channels": 2, "depth": 1}
    save_network(folder, create_network(**arguments), arguments)
    return str(folder)


def _boards(puzzles: list[str], folder: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit) as ended:
        main(["solve", *puzzles, "--network", folder])
    assert ended.value.code == 1
    return capsys.readouterr().out.splitlines()


def test_a_puzzle_may_be_typed_in_one_or_nine_pieces_or_come_from_a_file(
    untrained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _boards([PUZZLE], untrained, capsys)
    assert expected[0].startswith(" 5 3 ")
    assert len([line for line in expected if line.startswith("r")]) == 9  # 51 cells
    assert all(re.fullmatch(r"(r\dc\d=\d [ \d]{3}%( {2}|$))+", line) for line in expected if line.startswith("r"))
    assert expected[-1].startswith("Not solved: ")
    board = tmp_path / ("a_long_name_" * 8 + ".txt")
    board.write_text("\n".join(LINES))
    assert _boards(LINES, untrained, capsys) == expected
    assert _boards([str(board)], untrained, capsys) == expected
    board.write_text("\ufeff" + PUZZLE)
    assert _boards([str(board)], untrained, capsys) == expected
    for arguments in ([], ["-"]):
        monkeypatch.setattr("sys.stdin", io.StringIO(PUZZLE.replace("0", ".") + "\n"))
        assert _boards(arguments, untrained, capsys) == expected


@pytest.mark.parametrize("text", [f"{PUZZLE}\n{SOLUTION}\n", "\n".join(LINES) + f"\n\n{SOLUTION}\n"])
def test_several_puzzles_have_a_line_each(
    text: str, untrained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "many.txt").write_text(text)
    first, second, total = _boards([str(tmp_path / "many.txt")], untrained, capsys)
    assert re.match(r"53\d{79} Not solved: ", first)
    assert second.startswith(f"{SOLUTION} Solved: ")
    assert total == "Solved 1 of 2 puzzles."


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["puzzle.txt"], r"timm-lp sudoku: `PUZZLE` must be 81 cells or a file, got 'puzzle\.txt'\. There is no such"),
        ([PUZZLE[1:]], "`puzzle` must be 81 cells, .* got 80 cells"),
        ([PUZZLE, PUZZLE[1:]], r"got 80 cells\. It is puzzle 2 of 2\."),
        ([PUZZLE, "--network", "nowhere"], r"`folder` must hold config\.json and model\.safetensors, got 'nowhere'"),
    ],
)
def test_what_cannot_be_solved_ends_in_a_sentence(arguments: list[str], sentence: str, untrained: str) -> None:
    with pytest.raises(SystemExit, match=sentence):
        main(["solve", "--network", untrained, *arguments])


def test_a_full_board_is_solved_already(untrained: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["solve", SOLUTION, "--network", untrained])
    assert capsys.readouterr().out.splitlines()[-1].startswith("Solved: ")


def test_without_a_network_the_one_that_comes_with_the_package_solves(capsys: pytest.CaptureFixture[str]) -> None:
    main(["solve", PUZZLE])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("Solved: ")
    digits = [digit for line in lines[:11] for digit in re.findall(r"\d", line)]
    assert "".join(digits) == SOLUTION
