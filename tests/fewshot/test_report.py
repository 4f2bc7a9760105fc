from typing import Any

import pytest

from timm_lp.fewshot.report import markdown_table, summarize


def _result(variant: str, top1: float | None, seconds: float = 2.0) -> dict[str, Any]:
    return {"variant": variant, "top1": top1, "parameters": 1234567, "train_seconds": seconds}


RESULTS = [
    _result("base", 80.0, 1.0),
    _result("lp2", 90.0),
    _result("base", 82.0, 3.0),
    _result("lp2", None),
    _result("large", None),
]


def test_summary() -> None:
    base, lp2, large = summarize(RESULTS)
    assert base == {
        "variant": "base",
        "trials": 2,
        "failed": 0,
        "top1_mean": 81.0,
        "top1_std": pytest.approx(2**0.5),
        "parameters": 1234567,
        "train_seconds": 2.0,
    }
    assert (lp2["trials"], lp2["failed"], lp2["top1_mean"], lp2["top1_std"]) == (1, 1, 90.0, None)
    assert (large["trials"], large["failed"], large["top1_mean"], large["parameters"]) == (0, 1, None, None)


def test_table() -> None:
    assert markdown_table(summarize(RESULTS)).splitlines() == [
        "| variant | top-1 (%) |  std |       trials | parameters | training (s) |",
        "| ------- | --------: | ---: | -----------: | ---------: | -----------: |",
        "| base    |     81.00 | 1.41 |            2 |  1,234,567 |          2.0 |",
        "| lp2     |     90.00 |    - | 1 (1 failed) |  1,234,567 |          2.0 |",
        "| large   |         - |    - | 0 (1 failed) |          - |            - |",
    ]
