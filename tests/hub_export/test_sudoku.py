"""A Sudoku network on the Hub: its folder, its card, and back."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hub_export import push_run, stage
from hub_export.cards.benchmark import kind_of
from hub_export.cli import main
from hub_export.errors import VerificationError
from timm_lp.experiments.sudoku.report import read_trials, write_report
from timm_lp.files import write_json
from timm_lp.models.sudoku import SudokuNet, create_network, load_sudoku, save_network
from timm_lp.trials.folder import read_records
from timm_lp.trials.record import as_json, trial_folder

from ..experiments.sudoku.records import record as sudoku_record
from ..hub_server import HubServer
from ..trials.records import record, write_trial

ARGUMENTS = {"variant": "lp2", "channels": 4, "depth": 1, "inputs": "one-hot"}


@pytest.fixture
def network() -> SudokuNet:
    torch.manual_seed(0)
    return create_network(**ARGUMENTS).eval()


@pytest.fixture
def trial(network: SudokuNet, tmp_path: Path) -> Path:
    name = "sudoku4x1-one-hot"
    path = "/home/alice/sudoku.csv"
    settings = {"command": f"timm-lp sudoku --data {path}", "dataset_argument": path, "num_train": 40, "num_test": 5}
    folder = trial_folder("generated", name, "lp2", 1)
    metrics = {"loss": 0.5, "blank": 51.25, "stepwise_exact": 12.5}
    written = replace(record("lp2", 1, 50.0), folder=folder, model=name, metrics=metrics, history={}, **settings)
    (tmp_path / folder).mkdir(parents=True)
    save_network(tmp_path / folder, network, ARGUMENTS)
    write_json(tmp_path / folder / "trial.json", as_json(written))
    return tmp_path / folder


def test_goes_to_the_hub_and_back(
    hub: HubServer, trial: Path, network: SudokuNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["push", str(trial), "alice/sudoku", "--license", "mit", "--dry-run"])
    assert "Nothing was uploaded" in capsys.readouterr().out
    main(["push", str(trial), "alice/sudoku", "--license", "mit"])
    files = hub.repositories["models", "alice/sudoku"].head.files
    assert {"config.json", "model.safetensors", "results.json", "manifest.json", "masks.png"} <= {*files}
    assert not [name for name, file in files.items() if b"/home/alice" in file.content]
    card = files["README.md"].content.decode()
    for text in ("license: mit", "- lp-convolution", "| 51.25 |", "| 12.50 |", "timm-lp sudoku --data sudoku.csv"):
        assert text in card, text
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(code, {})
    assert len(capsys.readouterr().out.splitlines()) > 9, "the board"
    main(["pull", "alice/sudoku", "--folder", str(tmp_path / "pulled")])
    for name, value in load_sudoku(tmp_path / "pulled").state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name


def test_a_run_goes_as_a_collection(hub: HubServer, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for variant in ("base", "lp2"):
        trial = sudoku_record(variant, 1, 40.0 if variant == "base" else 51.25)
        write_json(run / trial.folder / "trial.json", as_json(replace(trial, dataset_argument="/home/alice/x.csv")))
        arguments = {**ARGUMENTS, "variant": variant}
        save_network(run / trial.folder, create_network(**arguments), arguments)
    write_report(run, read_trials(run))
    published = push_run(run, "alice/sudoku", license="mit")
    assert [*published.networks] == ["alice/sudoku-base-seed1", "alice/sudoku-lp2-seed1"]
    (collection,) = hub.collections.values()
    assert [item["note"]["text"] for item in collection.row()["items"]][1:] == [
        "base, seed 1: blank cells right 40.00 %",
        "lp2, seed 1: blank cells right 51.25 %",
    ]
    contents = {key: repository.head.files for key, repository in hub.repositories.items()}
    card = contents["models", "alice/sudoku-lp2-seed1"]["README.md"].content.decode()
    assert "with the same settings: blank cells right (%) on the test puzzles by seed" in card
    assert "| `base`  | [40.00](" in card
    results = contents["datasets", "alice/sudoku-results"]["README.md"].content.decode()
    assert "the blank cells right (%) of a trial on the test puzzles" in results
    assert "as `timm-lp sudoku --report\n  --output-dir records` reads them" in results
    assert not [name for files in contents.values() for name, file in files.items() if b"/home/alice" in file.content]


def test_what_is_not_for_it_is_refused(trial: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    for record_ in (record("lp2", 1, 50.0), sudoku_record("lp2", 1, 50.0)):
        write_trial(mixed, record_)
    with pytest.raises(ValueError, match=r"with a top-1 accuracy, or Sudoku trials, got generated/.* Only runs of"):
        kind_of([*read_records(mixed).values()])
    with pytest.raises(ValueError, match="`merged` must be left out with a Sudoku network, got it with "):
        stage(trial, tmp_path / "staged", merged=True)
    weights = load_file(trial / "model.safetensors")
    weights["head.weight"].fill_(torch.nan)
    save_file(weights, trial / "model.safetensors")
    with pytest.raises(ValueError, match="`model` must have finite weights, got nan or inf in "):
        stage(trial, tmp_path / "staged")
    assert not (tmp_path / "staged").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({**ARGUMENTS, "channels": 10**7}, r"must hold the weights of sudoku, but blocks\.0\.conv\.weight is "),
        pytest.param(
            *({**ARGUMENTS, "depth": 10**6}, "OverflowError: more than 20000 layers"), marks=pytest.mark.exhaustive
        ),
        ({**ARGUMENTS, "variant": "lp3"}, "ValueError: `variant` must be one of "),
        (None, "got one without `model_args`"),
    ],
)
def test_nothing_large_is_built(trial: Path, tmp_path: Path, arguments: object, message: str) -> None:
    (trial / "config.json").write_text(json.dumps({"architecture": "sudoku", "model_args": arguments}))
    with pytest.raises(VerificationError, match=message):
        stage(trial, tmp_path / "staged")
    assert not (tmp_path / "staged").exists()
