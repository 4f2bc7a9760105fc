import csv
import io
import json
import math
import re
from dataclasses import replace

import pytest
import torch

from timm_lp.masks import conformation_matrix
from timm_lp.masks.group import Group
from timm_lp.masks.networks import demonstration
from timm_lp.masks.report import masks_to_csv, percent, to_csv, to_json, to_markdown
from timm_lp.masks.statistics import LayerMasks


def _group(name: str = "lp2", networks: int = 1, p: float = 3.0, p_init: float = 2.0) -> Group:
    C = conformation_matrix(4.0, torch.tensor([1.0, 2.0] * networks), torch.tensor([0.0, 90.0] * networks))
    log2p = torch.tensor([1.0, math.log2(p)] * networks, dtype=torch.float64)
    layers = [LayerMasks(fqn, (7, 7), p_init, (1.5, 1.5), C, log2p) for fqn in ("stem", "block.conv")]
    return Group(name, tuple(f"{name}-seed{seed}" for seed in range(1, networks + 1)), layers)


def _cells(text: str, heading: str) -> list[list[str]]:
    section = text.partition(f"## {heading}\n")[2]
    lines = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_table_of_a_network() -> None:
    text = to_markdown([_group(networks=2)])
    assert "2 networks together: `lp2-seed1`, `lp2-seed2`" in text
    header, _, *lines = _cells(text, "lp2")
    assert [line[0] for line in lines] == ["stem", "block.conv", "all layers"]
    first = dict(zip(header, lines[0], strict=True))
    assert first["masks"] == "4"
    assert first["p"] == "2.50 ± 0.50"
    assert (first["moved"], first["alpha (px)"], first["gamma"]) == ("50 %", "4.00", "1.50")
    assert (first["above 3"], first["oriented"], first["near 0"], first["near 90"]) == ("0 %", "2", "0 %", "100 %")
    assert lines[2][2] == "8"
    assert "A demonstration" not in text
    assert "side by side" not in text


def test_layers_that_start_apart_have_no_line_together() -> None:
    group = _group()
    apart = replace(group, layers=[group.layers[0], replace(group.layers[1], p_init=16.0)])
    assert [line[0] for line in _cells(to_markdown([apart]), "lp2")[2:]] == ["stem", "block.conv"]


def test_networks_with_the_same_layers_stand_side_by_side() -> None:
    other = _group("other")
    other = replace(other, layers=other.layers[:1])
    text = to_markdown([_group("b", p=6.0), _group("a", p_init=1.5), other])  # the first column starts lowest
    assert _cells(text, "p side by side") == [
        ["", "layer", "a", "b"],
        ["--", "-" * 10, "-" * 10 + ":", "-" * 10 + ":"],
        ["1", "stem", "2.50 ± 0.50", "4.00 ± 2.00"],
        ["2", "block.conv", "2.50 ± 0.50", "4.00 ± 2.00"],
    ]


def test_csv() -> None:
    lines = _lines(to_csv([_group("a"), _group("b")]))
    assert [(line["network"], line["layer"]) for line in lines] == [
        (name, layer) for name in "ab" for layer in ("stem", "block.conv", "all layers")
    ]
    assert float(lines[0]["p_median"]) == 2.5
    assert lines[0]["kernel"] == "7x7"


def test_csv_of_all_masks() -> None:
    lines = _lines(masks_to_csv([_group(networks=2)]))
    assert len(lines) == 8
    assert [(line["network"], line["layer"], line["channel"]) for line in lines[:5]] == [
        *(("lp2-seed1", "stem", channel) for channel in "01"),
        *(("lp2-seed2", "stem", channel) for channel in "01"),
        ("lp2-seed1", "block.conv", "0"),
    ]
    second = {name: value for name, value in lines[1].items() if name not in ("network", "layer")}
    assert [float(second[name]) for name in ("p", "p_init", "alpha", "gamma", "theta")] == [3, 2, 4, 2, 90]
    assert float(second["sigma_height"]) == pytest.approx(2 * float(second["sigma_width"]), rel=1e-5)
    assert lines[0]["theta"] == "nan"


def test_json_has_null_where_nothing_is_known() -> None:
    group = _group()
    degenerate = replace(group.layers[0], C=torch.zeros(2, 2, 2, dtype=torch.float64))
    content = json.loads(json.dumps(to_json([replace(group, layers=[degenerate])]), allow_nan=False))
    (found,) = content["groups"]
    assert (content["demonstration"], found["name"], found["networks"]) == (False, "lp2", ["lp2-seed1"])
    (line,) = found["layers"]
    assert (line["alpha"], line["gamma"], line["vertical"]) == (None, 1.0, None)
    assert (line["layer"], line["masks"], line["p_median"]) == ("stem", 2, 2.5)


def test_a_demonstration_says_so_everywhere() -> None:
    groups = [demonstration()]
    assert "Nothing was learned" in to_markdown(groups)
    assert to_json(groups)["demonstration"] is True
    for text in (to_csv(groups), masks_to_csv(groups)):
        assert all("untrained" in line["network"] for line in _lines(text))


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (0.004, "< 1 %"), (0.01, "1 %"), (0.5, "50 %"), (0.996, "> 99 %"), (1.0, "100 %"), (math.nan, "-")],
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text
