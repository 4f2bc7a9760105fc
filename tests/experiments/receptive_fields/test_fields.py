from pathlib import Path

import numpy as np
import pytest

from timm_lp.experiments.receptive_fields.fields import read_fields, synthetic_fields

ROWS = "".join(f"V1,{x},{y}\n" for x, y in np.random.default_rng(0).normal(size=(15, 2)))
GRID = "".join(f"V1,{place % 5},{place // 5}.5\n" for place in range(15))


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "offsets.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_a_groups_offsets(tmp_path: Path) -> None:
    (field,) = read_fields(_written(tmp_path, f"group,x,y\n{ROWS}"))
    assert (field.group, field.unit, field.counts, field.tap) == ("V1", "V1", None, None)
    np.testing.assert_array_equal(field.offsets, np.random.default_rng(0).normal(size=(15, 2)))


@pytest.mark.parametrize("tap", [(1.0, 1.0), (0.5, 0.25)])
def test_offsets_on_a_grid_come_with_its_steps(tmp_path: Path, tap: tuple[float, float]) -> None:
    path = _written(tmp_path, f"group,x,y\n{GRID}")
    (field,) = read_fields(path, tap)
    assert field.tap == tap
    np.testing.assert_array_equal(field.offsets[[0, 6]], [[0, 0.5], [1, 1.5]])
    message = (
        r"`--offsets` must come with `--tap` where they lie on a grid, got those of 'V1' in .*\. `--tap 1` says how"
    )
    with pytest.raises(ValueError, match=message):
        read_fields(path)
    with pytest.raises(ValueError, match=r"got 'V1' in .*: `offsets` must lie whole taps apart where `tap` is given"):
        read_fields(path, (0.7, 1.0))


def test_the_steps_of_both_axes_are_named(tmp_path: Path) -> None:
    rows = "".join(f"V1,{0.65 * (place % 5):.2f},{place // 5 / 3}\n" for place in range(30))
    with pytest.raises(ValueError, match=r"`--tap 0\.65 0\.333333` says how wide"):
        read_fields(_written(tmp_path, f"group,x,y\n{rows}"))
    one = "".join(f"V1,{place % 5},{place**0.5}\n" for place in range(30))
    with pytest.raises(
        ValueError, match=r"got 'V1' in .*: `tap` must be given .*, got steps of 1, none along the axes"
    ):
        read_fields(_written(tmp_path, f"group,x,y\n{one}"))


def test_reads_neurons_and_other_columns_in_any_order(tmp_path: Path) -> None:
    lines = [f"{neuron},{place**0.5},{np.sin(place)},L23,V1" for neuron in "ab" for place in range(12)]
    fields = read_fields(_written(tmp_path, "\ufeffneuron,y,x,layer,group\n" + "\n".join(lines)))
    assert [(field.group, field.unit, len(field.offsets)) for field in fields] == [("V1", "a", 12), ("V1", "b", 12)]
    np.testing.assert_array_equal(fields[1].offsets[3], [np.sin(3), 3**0.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"`--offsets` must have the columns group, x and y, got .*offsets\.csv without group, x, y\. Name them"),
        ("group,x\nV1,3\n", r"must have the columns group, x and y, got .* without y\."),
        ("group,x,y\n", r"`--offsets` must hold offsets, got .*offsets\.csv without any\. Give a line"),
        ("group,x,y\nV1,1,far\n", r"must have finite numbers as x and y, got '1' and 'far' in line 2 of .*Leave out"),
        ("group,x,y\nV1,1,nan\n", r"must have finite numbers as x and y, got '1' and 'nan'"),
        ("group, x, y\n\n\nV1,1,2\nV1,1,far\n", r"got '1' and 'far' in line 5 of"),
        ("group,x,y\nV1,1\n", r"must have finite numbers as x and y, got '1' and None in line 2"),
        ("group,x,y\nV1,1,2\n", r"`--offsets` must hold at least 10 synapses for each neuron, got 1 for 'V1' in"),
        ("group,x,y,neuron\n" + ROWS.replace("\n", ",a\n") + "V1,1,2,b\n", "got 1 for 'V1, b' in"),
        (
            "group,x,y\n" + "".join(f"V1,{x**0.5},{2 * x**0.5}\n" for x in range(12)),
            "got 'V1' in .*: `offsets` must spread along every direction",
        ),
        ("group,x,y\n" + "V1,37.3,2\n" * 12, "got 'V1' in .*: `offsets` must spread along every axis"),
    ],
)
def test_what_is_no_table_of_offsets_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_fields(_written(tmp_path, text))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "offsets.csv").write_bytes(b"group,x,y\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"`--offsets` must be a CSV file in UTF-8, got .*: .* Save it as such"):
        read_fields(tmp_path / "offsets.csv")


def test_synthetic_fields_differ_and_stay_the_same() -> None:
    fields, again = synthetic_fields(2, seed=0), synthetic_fields(2, seed=0)
    assert [field.group for field in fields[::2]] == [f"synthetic, p = {p}" for p in (1, 2, 4, 16)]
    assert len({field.offsets.tobytes() for field in fields}) == 8
    assert [field.offsets.tobytes() for field in again] == [field.offsets.tobytes() for field in fields]
