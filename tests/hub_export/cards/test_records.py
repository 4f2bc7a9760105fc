"""A trial's record and the bench's times, from anywhere, give a card or one sentence that says what is wrong."""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hub_export.cards.evaluation import Trials
from hub_export.cards.records import read_speed, read_trials, without_paths
from timm_lp.bench.benchmark import run_benchmark
from timm_lp.bench.cases import registered as bench_case
from timm_lp.bench.modes import Mode
from timm_lp.start import Start
from timm_lp.trials.record import DataInfo, TrialRecord, as_json

from ...trials.records import changed, record
from .conftest import SEEDS, SIZES, build, read, render, write

COMMAND = "accelerate launch finetune.py --variants lp2 --seeds {} --lr 0.1"
TRIAL = replace(SEEDS[0], command=COMMAND.format(1))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build(**{**SIZES, "channels": [4, 4, 4, 4]})


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
    """Return a record in which something is otherwise."""
    content = copy.deepcopy(as_json(TRIAL))
    for _ in range(draw(st.integers(1, 2))):
        container, key = draw(st.sampled_from(places(content)))
        like = JSON if draw(st.booleans()) else st.just(container[key]).flatmap(similar)
        if draw(st.booleans()):
            container[key] = draw(like)
        elif isinstance(container, dict):
            container[draw(st.text(max_size=8))] = draw(JSON)
    return content


def similar(value: Any) -> st.SearchStrategy[Any]:
    """Return values of a value's type."""
    kinds = {str: st.text(max_size=8), int: st.integers(), float: st.floats(allow_nan=False), bool: st.booleans()}
    return kinds.get(type(value), JSON)


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(content=mutated() | JSON)
def test_anything_is_a_whole_card_or_refused(model: nn.Module, tmp_path: Path, content: Any) -> None:
    (tmp_path / "trial.json").write_text(json.dumps(content), encoding="utf-8")
    trials = card = None
    try:
        trials = read_trials(tmp_path)
        card = render(model, trials)
    except ValueError as error:
        refusal = str(error)
    if trials is None or card is None:
        sentence = r"(A trial's record|`trial\.json`) must .*trial\.json.*|`results` must (hold some of|be those of) .*"
        assert re.fullmatch(sentence, refusal, re.DOTALL)
        return
    assert yaml.safe_load(card.split("---\n")[1])["pipeline_tag"] == "image-classification"
    assert ModelCard(card).data.base_model == (trials.start.hub_id if trials.start else None)
    assert card.count("\n# ") == 1
    headings = ["## Model", "## Results", "## Use", "## Masks", "## Training", "## Intended use and limits"]
    assert [line for line in card.splitlines() if line.startswith("## ")] == [*headings, "## Citation"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("image 3 (/home/Kim Lee/our cats/1.jpg) cannot be read", "image 3 (1.jpg) cannot be read"),
        ("image 0 (row 3 of test, ~/data/x.jpg)", "image 0 (row 3 of test, x.jpg)"),
        ("in file:///home/kim/data/1.jpg, in C:/Users/kim/2.jpg", "in 1.jpg, in 2.jpg"),
        (r"[Errno 2] 'C:\\Users\\kim\\a.jpg' and \\nas\kim\b.jpg", "[Errno 2] 'a.jpg' and b.jpg"),
        ("moved /home/a/b c to /home/c/d e", "moved b c to d e"),
        ("| a | /home/me/x | `../../me/y` |", "| a | x | `y` |"),
        ("see https://huggingface.co/a/b, 3 images / s, and/or 5/10", None),
    ],
)
def test_a_path_in_a_text_is_not_published(text: str, shown: str | None) -> None:
    assert without_paths(text) == (shown or text)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/me/my data/cats", "cats"),
        (r"C:\Users\me\cats", "cats"),
        (r"\\server\me\cats", "cats"),
        ("file:///home/me/cats", "cats"),
        ("C:/Users/me/cats", "cats"),
        ("../../home/me/cats", "cats"),
        ("~/me/cats", "cats"),
        ("data/cats", "data/cats"),
        ("org/cats", "org/cats"),
        ("https://example.org/cats", "https://example.org/cats"),
    ],
)
def test_a_path_of_the_user_s_machine_is_not_published(
    path: str, shown: str, model: nn.Module, tmp_path: Path
) -> None:
    command = f"finetune.py --dataset '{path}' --checkpoint '{path}' --model-kwargs 'a={path}' --seeds 1"
    local = {"checkpoint": path, "model_kwargs": {"a": [path]}}
    trial = changed(replace(TRIAL, dataset=DataInfo(path, path), dataset_argument=path, command=command), **local)
    trials = read(tmp_path, trial, replace(trial, variant="base", folder="dtd/resnet18/base-seed1"))
    card = render(model, trials)
    for text in (card, json.dumps(trials.content)):
        assert (path in text.replace("\\\\", "\\")) == (path == shown)
        assert "/home/me" not in text
        assert "Users" not in text
    assert f"--dataset {shown} --checkpoint {shown} --model-kwargs a={shown} --seeds 1\n" in card


def started(**start: Any) -> TrialRecord:
    return replace(TRIAL, start=Start(**start))


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        (started(kind="hub"), "name its start's hub_id, got None"),
        (started(kind="hub", hub_id="a b"), "name its start's hub_id, got 'a b'"),
        (started(kind="url", url="x"), "name its start's url, got 'x'"),
        (started(kind="checkpoint", file="a/b"), "name its start's file, got 'a/b'"),
        (started(kind="random", sha256="0"), "name its start's sha256, got '0'"),
        (started(kind="random", license="a\nb"), "have a name or null as its start's license, got 'a"),
        (replace(TRIAL, command="a 'b"), "have a command line as its command, got \"a 'b\" .No closing quotation"),
        (replace(TRIAL, command="a\nb"), "have text on one line as its command, got 'a"),
        (replace(TRIAL, dataset=DataInfo("x", "a\u2028b")), "have text on one line as its dataset's name"),
        (replace(TRIAL, dataset=DataInfo(" ", "x")), "have text on one line as its dataset's id, got ' '"),
        (replace(TRIAL, dataset=DataInfo("x", "x", split="\x00")), "have text on one line as its dataset's split"),
        (replace(TRIAL, dataset=DataInfo("x", "x", "\n")), "have text on one line as its dataset's revision"),
        (replace(TRIAL, dataset=DataInfo("x", "a\ud800b")), "hold what JSON can, got 'utf-8' codec can't encode"),
        (replace(TRIAL, model="res net", folder="dtd/res net/lp2-seed1"), "have a name as its model, got 'res net'"),
        (replace(TRIAL, variant="l~p", folder="dtd/resnet18/l~p-seed1"), "have a name as its variant, got 'l~p'"),
        (replace(TRIAL, shots=0), "have a whole number above 0 or null as its shots, got 0"),
        (replace(TRIAL, num_test=-1), "have a whole number above 0 or null as its num_test, got -1"),
        (changed(TRIAL, lr=True), "have a number or null as its lr, got True"),
        (changed(TRIAL, lr=10**400), "have a number or null as its lr, got 1000"),
        (changed(TRIAL, a=float("inf")), "hold what JSON can, got Out of range float"),
        (replace(TRIAL, metrics={"a\nb": 1.0}), "have metrics with names on one line, got 'a"),
    ],
)
def test_what_no_card_can_show(trial: TrialRecord, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"`trial\.json` must {message}.* in .*trial\.json\. Run its trial again\."):
        read(tmp_path, trial)


def test_what_no_card_can_show_beside_a_trial(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`trial\.json` must have a whole number .* in \S+lp2-seed2/trial\.json"):
        read(tmp_path, TRIAL, replace(SEEDS[1], shots=0))


def test_a_deep_file(tmp_path: Path) -> None:
    nested: list[Any] = []
    for _ in range(700):
        nested = [nested]
    folder = write(tmp_path, TRIAL)
    (folder / "trial.json").write_text(json.dumps(as_json(TRIAL)).replace('"epochs": 5', f'"epochs": {nested}'))
    with pytest.raises(ValueError, match=r"`trial\.json` must be nested less deeply in .*trial\.json"):
        read_trials(folder)
    (folder / "trial.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"must be JSON, got .*trial\.json: maximum recursion depth"):
        read_trials(folder)


def test_a_trial_stands_beside_its_other_seeds_and_the_base_network(tmp_path: Path) -> None:
    base = [record("base", seed, 60.0 + seed) for seed in (1, 2)]
    seeds = [replace(trial, command=COMMAND.format(trial.seed)) for trial in SEEDS]
    failure = replace(record("lp2", 12, None, error="the loss became nan"), command=COMMAND.format(12))
    others = [
        *(record("lp16", 1, 1.0), record("lp2", 1, 1.0, "pets"), record("lp2", 1, 1.0, model="alexnet")),
        *(record("base", 3, 1.0, held_out=True), changed(record("lp2", 7, 1.0), epochs=9)),
        *(replace(record("base", 8, 1.0), data_sha256="other"), replace(record("base", 9, 1.0), shots=4)),
    ]
    moved = replace(base[1], dataset_argument="/moved/dtd", dataset=DataInfo("dtd", "moved"))
    trials = read(tmp_path, seeds[1], seeds[0], seeds[2], failure, base[0], moved, *others)
    copy_of_seed = tmp_path / "dtd/resnet18/lp2-seed20"
    copy_of_seed.mkdir()
    (copy_of_seed / "trial.json").write_text((tmp_path / seeds[0].folder / "trial.json").read_text())
    assert read_trials(tmp_path / seeds[1].folder / "trial.json") == trials
    assert trials.trained == seeds[1]
    top1 = [(evaluation.trial.variant, evaluation.by_seed) for evaluation in trials.evaluations]
    assert top1[::2] == [("lp2", {1: 71.2, 2: 70.8, 3: 71.6, 12: None}), ("base", {1: 61.0, 2: 62.0})]
    assert trials.content["recipe"]["command"] == COMMAND.format("1 2 3 12")
    assert (trials.content["recipe"]["variant"], trials.content["recipe"]["seed"]) == ("lp2", 2)
    assert [entry["metrics"]["top1"] for entry in trials.content["results"]] == [
        {"1": 71.2, "2": 70.8, "3": 71.6, "12": None},
        {"1": 61.0, "2": 62.0},
    ]


def test_a_trial_that_was_moved_stands_alone(tmp_path: Path) -> None:
    folder = write(tmp_path, *SEEDS)
    folder.rename(tmp_path / "mine")
    assert read_trials(tmp_path / "mine") == Trials((SEEDS[0],), SEEDS[0])


def test_a_run_is_of_no_seed(tmp_path: Path) -> None:
    left_out = record("base", 1, 1.0, held_out=True), record("large", 1, None, error="x")
    write(tmp_path, *SEEDS, record("base", 1, 60.0), *left_out)
    trials = read_trials(tmp_path)
    assert trials == Trials((record("base", 1, 60.0), *SEEDS))
    assert trials.content["recipe"].keys() == {"command", "start", "settings"}


@pytest.mark.parametrize(
    "source", [{"results": []}, 5, "nothing", "run/results.json", "run/dtd/resnet18/lp2-seed1/results.json"]
)
def test_results_are_trials(source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write(Path("run"), TRIAL)
    for place in (Path("run"), folder):
        (place / "results.json").write_text("{}")
    rule = r"`results` must be a trial's folder, the folder of a run or a trial\.json, got .*Give the folder in which"
    with pytest.raises(ValueError, match=rule):
        read_trials(source)
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=r"must hold trials, got empty with no trial\.json in or below it"):
        read_trials("empty")


def test_a_trial_that_failed(tmp_path: Path) -> None:
    failure = record("lp2", 4, None, error="the loss became nan")
    for folder in (write(tmp_path / "run", failure), tmp_path / "run"):
        with pytest.raises(ValueError, match=r"`results` must be those of a trial that ended well, got .*\. Run it"):
            read_trials(folder)


SPEED: dict[str, Any] = {
    "machine": {"device": "a CPU", "torch": "2.9"},
    "runs": 5,
    "results": [
        {
            **{"name": "lp2, 64 px", "mode": f"{memory_format} float32"},
            **{"training": {"lp": {"median_ms": ms}}, "evaluation": {"lp": {"median_ms": 1}}},
        }
        for memory_format, ms in (("NCHW", 1.5), ("NHWC", 2.5))
    ],
}


def test_times_are_those_of_the_bench(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({**SPEED, "path": "/home/me/x"}))
    speed = read_speed(tmp_path / "results.json")
    assert (speed.device, speed.torch, speed.runs) == ("a CPU", "2.9", 5)
    assert speed.cases == {
        ("lp2, 64 px", f"{memory_format} float32"): {("training", "lp"): ms, ("evaluation", "lp"): 1}
        for memory_format, ms in (("NCHW", 1.5), ("NHWC", 2.5))
    }
    assert speed.content == {**SPEED, "path": "x"}


def test_a_file_that_the_bench_writes_now_is_read(tmp_path: Path) -> None:
    case = bench_case("lp2_test_resnet", 32, 1, training=False)
    content = run_benchmark([case], [Mode()], runs=1, clock="wall", memory=False, compiled=False)
    (tmp_path / "results.json").write_text(json.dumps(content))
    speed = read_speed(tmp_path / "results.json")
    speed.check_has("lp2_test_resnet")
    (row,) = speed.table("lp2_test_resnet").splitlines()[2:]
    assert row.startswith("| lp2_test_resnet, 32 px, batch 1 | NCHW float32, 1 thread | "), row
    with pytest.raises(ValueError, match="must have times of lp2_resnet18, got those of lp2_test_resnet, 32 px"):
        speed.check_has("lp2_resnet18")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["machine"].pop("torch"), "its machine must have a device and torch, got {'device'"),
        (lambda s: s["machine"].update(device="a\nb"), "its machine must have a device and torch"),
        (lambda s: s.update(runs="5"), "it must have a machine and its runs, got"),
        (lambda s: s.update(results=5), "it must have a list of results, got 5"),
        (lambda s: s["results"][0].pop("name"), "its results must have names"),
        (lambda s: s["results"][0].pop("training"), "its results must have times of training"),
        (lambda s: s["results"][0].update(training={"lp": 5}), "its results must have medians in ms"),
        (lambda s: s["results"][0].update(training={"lp": {"median_ms": 10**400}}), "its results must have medians"),
        (lambda s: s.update(x=float("nan")), "NaN is no number that JSON"),
        (lambda s: s.update(x="\ud800"), "hold what JSON can, got 'utf-8' codec"),
    ],
)
def test_what_is_not_the_bench_s(change: Callable[[Any], object], message: str, tmp_path: Path) -> None:
    content = copy.deepcopy(SPEED)
    change(content)
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"`speed` must be the results\.json of `timm-lp bench`, got .*: {message}"):
        read_speed(tmp_path / "r.json")


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000])
def test_times_in_no_file_of_the_bench(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match=r"`speed` must be the results\.json of `timm-lp bench`, got '.*r\.json': "):
        read_speed(tmp_path / "r.json")
