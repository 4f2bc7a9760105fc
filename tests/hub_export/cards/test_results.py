"""A results.json from anywhere gives a card, or one sentence that says what is wrong with it."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import yaml
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hub_export import stage
from hub_export.cards.card import render_card
from hub_export.cards.results import Results, parse_results

TINY = {"layers": [1, 1, 1, 1], "channels": [4, 4, 4, 4], "num_classes": 3}
HUB = {"kind": "hub", "hub_id": "timm/resnet18.a1_in1k", "license": "apache-2.0"}
TIMES = {"lp": {"median_ms": 1.5}, "merged": {"median_ms": 1}}
RESULTS: dict[str, Any] = {
    "recipe": {
        "command": "accelerate launch finetune.py --dataset mteb/dtd",
        "variant": "lp2",
        "seed": 1,
        "start": HUB,
        "settings": {"epochs": 100, "lr": 0.1, "checkpoint": None, "model_kwargs": {"layers": [1]}},
    },
    "results": [
        {
            "dataset": {"id": "mteb/dtd", "name": "DTD", "revision": "9672618", "split": "test", "config": None},
            "shots": 16,
            "variant": variant,
            "lr": 0.01,
            "num_test": 1880,
            "metrics": {"top1": {"1": 71.2, "2": None}, "mean_per_class": {"1": 70.0, "2": None}},
        }
        for variant in ("lp2", "base")
    ],
    "speed": {
        "machine": {"device": "a CPU", "threads": 2, "torch": "2.9"},
        "runs": 5,
        "results": [{"name": "lp2_resnet18, 64 px", "training": TIMES, "evaluation": TIMES}],
    },
}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return timm.create_model("lp2_resnet18", **TINY).eval()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def places(content: Any) -> list[tuple[Any, Any]]:
    """Return each place in JSON, as a container and a key."""
    items = list(content.items() if isinstance(content, dict) else enumerate(content))
    inner = [place for _, value in items if isinstance(value, (dict, list)) for place in places(value)]
    return [(content, key) for key, _ in items] + inner


@st.composite
def mutated(draw: Callable[..., Any]) -> Any:
    """Return results of the benchmark's form in which something is otherwise, or anything at all."""
    content = copy.deepcopy(RESULTS)
    for _ in range(draw(st.integers(0, 2))):
        container, key = draw(st.sampled_from(places(content)))
        change = draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "replace":
            container[key] = draw(JSON)
        elif change == "remove":
            del container[key]
        elif isinstance(container, dict):
            container[draw(st.text(max_size=8))] = draw(JSON)
        if not content:
            break
    return content


def parse(content: Any) -> Results | None:
    """Return the results, or None where one sentence refuses them."""
    try:
        return parse_results(content)
    except ValueError as error:
        refusal = str(error)
    assert re.fullmatch(r"`results` must .*, got .*\. The benchmark's results\.json is of that form\.", refusal)
    return None


def render(model: nn.Module, results: Results) -> str | None:
    """Return the card, or None where one sentence refuses the results."""
    try:
        return render_card(model, merged=False, label_names=None, results=results)
    except ValueError as error:
        refusal = str(error)
    assert re.fullmatch(r"`results` must (hold some of|say whether|be those of) .*", refusal)
    return None


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_anything_is_results_or_refused(content: Any) -> None:
    parse(content)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_what_is_taken_gives_a_whole_card(model: nn.Module, content: Any) -> None:
    results = parse(content)
    card = render(model, results) if results else None
    if results is None or card is None:
        return
    metadata = yaml.safe_load(card.split("---\n")[1])
    data = ModelCard(card).data
    start = results.recipe.start
    assert metadata["pipeline_tag"] == "image-classification"
    assert data.base_model == (start.hub_id if start and start.kind == "hub" else None)
    assert card.count("\n# ") == 1
    headings = ["## Model", "## Results", "## Use", "## Masks", "## Speed", "## Training", "## Intended use and limits"]
    found = [line for line in card.splitlines() if line.startswith("## ")]
    assert found == [heading for heading in [*headings, "## Citation"] if heading in found]
    if results.evaluations:
        assert f"\n# lp2_resnet18: {' '.join(results.evaluations[0].setting.split())}"[:20] in card


LOCAL = {
    "posix": ("/home/me/my data/cats", "cats"),
    "windows": (r"C:\Users\me\cats", "cats"),
    "share": (r"\\server\me\cats", "cats"),
    "url": ("file:///home/me/cats", "cats"),
    "relative": ("data/cats", "data/cats"),
    "hub": ("org/cats", "org/cats"),
    "address": ("https://example.org/cats", "https://example.org/cats"),
}


@pytest.mark.parametrize("kind", LOCAL)
def test_a_path_of_the_user_s_machine_is_not_published(kind: str, model: nn.Module, tmp_path: Path) -> None:
    path, shown = LOCAL[kind]
    results = copy.deepcopy(RESULTS)
    results["recipe"]["command"] = f"finetune.py --dataset '{path}' --checkpoint '{path}' --model-kwargs 'a={path}'"
    results["recipe"]["settings"] = {"checkpoint": path, "model_kwargs": {"a": [path]}}
    results["results"][0]["dataset"] = {"id": path, "name": path}
    folder = stage(model, tmp_path / "network", results=results)
    for name in ("README.md", "results.json"):
        text = (folder / name).read_text()
        assert (path in text.replace("\\\\", "\\")) == (path == shown)
        assert "/home/me" not in text
        assert "Users" not in text
    assert f"--dataset {shown} --checkpoint {shown} --model-kwargs a={shown}\n" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["recipe"].update(start=5), r"a dictionary or null under 'recipe'\['start'\], got 5"),
        (
            lambda r: r["recipe"]["start"].update(kind="magic"),
            r"one of random, checkpoint, url, hub at .*, got 'magic'",
        ),
        (
            lambda r: r["recipe"]["start"].update(kind=["hub"]),
            r"one of random, checkpoint, url, hub at .*, got \['hub'\]",
        ),
        (
            lambda r: r["recipe"].update(start={"kind": "hub"}),
            r"what it names at 'recipe'\['start'\]\['hub_id'\], got N",
        ),
        (
            lambda r: r["recipe"]["start"].update(hub_id="a b"),
            r"what it names at 'recipe'\['start'\]\['hub_id'\], got 'a",
        ),
        (lambda r: r["recipe"].update(start={"kind": "url", "url": "x"}), r"\['start'\]\['url'\], got 'x'"),
        (
            lambda r: r["recipe"].update(start={"kind": "checkpoint", "file": "a/b"}),
            r"\['start'\]\['file'\], got 'a/b'",
        ),
        (
            lambda r: r["recipe"]["start"].update(sha256="0"),
            r"what it names at 'recipe'\['start'\]\['sha256'\], got '0'",
        ),
        (lambda r: r["recipe"]["start"].update(license="a\nb"), r"name or null at 'recipe'\['start'\]\['license'\]"),
        (lambda r: r["recipe"].update(command="a 'b"), r"a command line or null under 'recipe'\['command'\], got"),
        (lambda r: r["recipe"].update(command=["a"]), r"a command line or null under 'recipe'\['command'\], got \['a'"),
        (lambda r: r["recipe"].update(variant=5), r"a name or null under 'recipe'\['variant'\], got 5"),
        (lambda r: r["recipe"].update(seed="1"), r"a whole number or null under 'recipe'\['seed'\], got '1'"),
        (
            lambda r: r["results"][0].update(variant=["lp2"]),
            r"a name or null at 'results'\[0\]\['variant'\], got \['lp",
        ),
        (lambda r: r["results"][0].update(lr=True), r"a number or null at 'results'\[0\]\['lr'\], got True"),
        (lambda r: r["results"][0].update(lr=10**400), r"a number or null at 'results'\[0\]\['lr'\], got 1000"),
        (lambda r: r["results"][0].update(shots=True), r"above 0 or null at 'results'\[0\]\['shots'\], got True"),
        (lambda r: r["results"][0].update(num_test=0), r"above 0 or null at 'results'\[0\]\['num_test'\], got 0"),
        (lambda r: r["results"][0]["metrics"].update(top1={}), r"percent by seed at .*\['top1'\], got {}"),
        (lambda r: r["results"][0]["metrics"].update(top1={"1": True}), r"percent by seed at .*\['top1'\], got"),
        (lambda r: r["results"][0]["dataset"].update(split=5), r"a name or null at .*\['dataset'\]\['split'\], got 5"),
        (lambda r: r["results"][0]["dataset"].update(name="a\nb"), r"an 'id' and a 'name' at 'results'\[0\]"),
        (
            lambda r: r["results"][0]["dataset"].update(name="a\ud800b"),
            "what a JSON file can hold, got dict .*surrogate",
        ),
        (
            lambda r: r["recipe"]["settings"].update(lr=float("inf")),
            "what a JSON file can hold, got dict .Out of range",
        ),
        (
            lambda r: r["recipe"]["settings"].update(model=object()),
            "what a JSON file can hold, got dict .Object of type",
        ),
        (lambda r: r["speed"]["machine"].pop("torch"), "the benchmark of speed's file under 'speed'"),
        (lambda r: r["speed"]["results"][0].pop("training"), "the benchmark of speed's file under 'speed'"),
        (lambda r: r["speed"]["results"][0].update(training={"lp": 5}), "the benchmark of speed's file under 'speed'"),
        (
            lambda r: r["speed"]["results"][0].update(training={"lp": {"median_ms": 10**400}}),
            "the benchmark of speed's file under 'speed'",
        ),
    ],
)
def test_what_is_not_of_the_benchmark_s_form(change: Callable[[Any], object], message: str) -> None:
    results = copy.deepcopy(RESULTS)
    change(results)
    with pytest.raises(ValueError, match=rf"`results` must (have|be) .*{message}"):
        parse_results(results)


def test_a_deep_file(model: nn.Module, tmp_path: Path) -> None:
    nested: list[Any] = []
    for _ in range(700):
        nested = [nested]
    with pytest.raises(ValueError, match="`results` must be nested less deeply"):
        parse_results({"results": [], "x": nested})
    (tmp_path / "r.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"`results` must be a JSON file, got '.*r\.json': maximum recursion depth"):
        stage(model, tmp_path / "network", results=tmp_path / "r.json")


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_file_with_numbers_that_json_does_not_have(number: str, model: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(RESULTS).replace("71.2", number))
    with pytest.raises(ValueError, match=rf"`results` must be a JSON file, got '.*r\.json': {number} is no number"):
        stage(model, tmp_path / "network", results=tmp_path / "r.json")


def test_the_file_is_named(model: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"results": [5]}))
    with pytest.raises(
        ValueError, match=r"`results` must have a dictionary at 'results'\[0\], got 5 in .*r\.json\. The"
    ):
        stage(model, tmp_path / "network", results=tmp_path / "r.json")
