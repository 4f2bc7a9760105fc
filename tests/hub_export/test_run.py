"""A run as a collection: what is published, what a failure leaves, and what the same command does again."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
from huggingface_hub import DatasetCard, HfApi, ModelCard

from hub_export import HubError, pull
from hub_export.cli import main
from hub_export.flags import parse_arguments
from hub_export.run import find_run
from hub_export.run_upload import StagedRun, staged_run
from timm_lp.experiments.classification.report import read_trials, write_report

from ..hub_server import HubServer
from ..trials.records import record, save_trial, write_trial

pytestmark = pytest.mark.usefixtures("no_pictures")

NAME = "alice/bench"
NAMES = [f"{NAME}-base-seed1", f"{NAME}-lp2-seed1"]
INPUT = {"pretrained_cfg": {"input_size": [3, 64, 64]}, "label_names": ["a", "b", "c"]}


def save(run: Path, variant: str, seed: int = 1, top1: float = 50.0, **changes: Any) -> Path:
    metrics = {"top1": top1, "mean_per_class": top1 - 1}
    return save_trial(run, variant, seed, model_config=INPUT, metrics=metrics, **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants with a seed that saved its network, and base with another one that failed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    save(folder, "lp2", top1=62.5, command="finetune.py --dataset /home/me/digits --seeds 1")
    save(folder, "base", dataset_argument="/home/me/digits")
    failed = record("base", 2, None, "digits", error="its result could not be written to /home/me/run: no space")
    write_trial(folder, replace(failed, dataset_argument="/home/me/digits"))
    write_report(folder, read_trials(folder))
    return folder


@pytest.fixture(scope="module")
def staged(run: Path) -> Iterator[StagedRun]:
    """The run's networks of seed 1, staged once."""
    with staged_run(find_run(run, NAME, 1), license="mit") as staged:
        yield staged


@pytest.fixture
def state(hub: HubServer) -> Callable[[], object]:
    """Return a function that tells what the Hub shows."""

    def show() -> object:
        return (
            {key: sorted(repository.commits) for key, repository in hub.repositories.items()},
            {slug: collection.row() for slug, collection in hub.collections.items()},
        )

    return show


def short(name: str) -> str:
    return name.removesuffix("-seed1")


BASE, LP2, RESULTS = short(NAMES[0]), short(NAMES[1]), f"{NAME}-results"


def test_a_run_is_published_and_again_nothing_changes(
    hub: HubServer, staged: StagedRun, state: Callable[[], object]
) -> None:
    published = staged.push()
    assert [*published.networks] == [BASE, LP2]
    collection = HfApi(endpoint=hub.url).get_collection(published.collection)
    assert (collection.title, published.url) == ("bench", collection.url)
    assert [(item.item_type, item.item_id, item.note) for item in collection.items] == [
        ("dataset", RESULTS, "The report, with all tables, and the records of all trials"),
        ("model", BASE, "base, seed 1: top-1 50.00 %"),
        ("model", LP2, "lp2, seed 1: top-1 62.50 %"),
    ]
    head = hub.repositories["datasets", RESULTS].head
    files = {path: blob.content.decode(errors="replace") for path, blob in head.files.items()}
    manifest = json.loads(files["manifest.json"])
    assert manifest["collection"] == published.collection
    assert {row["repository"]: row["commit"] for row in manifest["networks"]} == published.networks
    assert [(row["variant"], row["seed"]) for row in manifest["networks"]] == [("base", 1), ("lp2", 1)]
    assert all(row["record"] in files for row in manifest["networks"])
    for network, row in zip(published.networks, manifest["networks"], strict=True):
        assert hub.commit(network) == row["commit"]
    card = DatasetCard(files["README.md"])
    assert (card.data.license, card.data.configs[0]["data_files"]) == ("mit", "report.csv")
    assert f"[the collection]({published.url})" in files["README.md"]
    assert "Failed: base on DIGITS, seed 2: its result could not be written to run: no space" in files["README.md"]
    assert r"\begin{tabular}" in files["report.tex"]
    assert not [name for name, text in files.items() if "/home" in text]

    before = state()
    assert staged.push() == published
    assert state() == before
    shown = staged.preview()
    assert {status for files in shown.files.values() for _, status in files.values()} == {"same"}
    assert {status for status, _ in shown.items.values()} == {"same"}


def test_cards_link_to_each_other_and_the_networks_load(hub: HubServer, staged: StagedRun, tmp_path: Path) -> None:
    staged.push()
    card = ModelCard((pull(LP2, folder=tmp_path / "lp2") / "README.md").read_text())
    section = card.text.partition("\n## Benchmark\n")[2].partition("\n## ")[0]
    url = "https://huggingface.co"
    lines = [re.sub(" +", " ", line) for line in section.splitlines() if line.startswith("| `")]
    assert lines == [
        f"| `base` | [50.00]({url}/{BASE}) | failed | 50.00 | 1,234,567 |",
        f"| `lp2` | [62.50]({url}/{LP2}) | | 62.50 | 1,234,567 |",
    ]
    assert f"[{RESULTS}]({url}/datasets/{RESULTS})" in section
    assert timm.create_model(f"local-dir:{tmp_path / 'lp2'}", pretrained=True).num_classes == 3


def test_notes_and_order_are_corrected_and_what_others_added_stays(hub: HubServer, staged: StagedRun) -> None:
    slug = staged.push().collection
    api = HfApi(endpoint=hub.url)
    api.create_repo("alice/other")
    api.add_collection_item(slug, "alice/other", "model", note="mine")
    report, base, lp2, other = api.get_collection(slug).items
    api.update_collection_item(slug, base.item_object_id, note="the best")
    api.update_collection_item(slug, lp2.item_object_id, position=0)
    api.update_collection_item(slug, other.item_object_id, position=0)
    api.delete_collection_item(slug, report.item_object_id)
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="records/old.json", repo_id=RESULTS, repo_type="dataset")
    shown = staged.preview()
    assert shown.files[RESULTS]["records/old.json"] == (0, "stale")
    states = {name: status for name, (status, _) in shown.items.items()}
    assert states == {RESULTS: "new", BASE: "changed", LP2: "moved"}
    staged.push()
    items = {item.item_id: item.note for item in api.get_collection(slug).items}
    assert [name for name in items if name != "alice/other"] == [RESULTS, BASE, LP2]
    assert "records/old.json" not in hub.repositories["datasets", RESULTS].head.files
    assert (items["alice/other"], items[BASE]) == ("mine", "base, seed 1: top-1 50.00 %")


FAILURES = [
    (f"POST /api/models/{LP2}/commit/", {"status": 503}, f"Of 2 networks 1 are on the Hub, verified ({BASE});"),
    ("POST /api/collections$", {"status": 500}, f"Of 2 networks 2 are on the Hub, verified ({BASE}, {LP2}); the"),
    ("POST /api/datasets/.*/commit/", {"status": 502}, "/collections/alice/bench-"),
    ("POST /api/collections/.*/items", {"status": 403}, f"and {RESULTS}; the same command goes on from here."),
]


def test_a_push_that_breaks_off_says_what_is_there_and_goes_on(hub: HubServer, staged: StagedRun) -> None:
    networks: dict[str, str] = {}
    for request, effects, message in FAILURES:
        fault = hub.inject(request, **effects)
        with pytest.raises(HubError, match=re.escape(message)) as caught:
            staged.push()
        assert "\n" not in str(caught.value)
        hub.faults.remove(fault)
        there = {name: hub.commit(name) for kind, name in hub.repositories if kind == "models"}
        assert there.items() >= networks.items()  # no second commit
        networks = there
    assert staged.push().networks == networks
    assert [len(collection.items) for collection in hub.collections.values()] == [3]


def test_lost_answers_make_nothing_twice(hub: HubServer, staged: StagedRun) -> None:
    for request in ("POST /api/collections$", "/items$", "POST /api/datasets/.*/commit/", f"{LP2}/commit/"):
        hub.inject(request, times=1, lose_answer=True)
    staged.push()
    assert [len(collection.items) for collection in hub.collections.values()] == [3]
    assert {len(repository.commits) for repository in hub.repositories.values()} == {2}


def test_the_command(
    hub: HubServer, run: Path, state: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["push", str(run), NAME, "--collection", "--seed", "1", "--private"]
    before = state()
    main([*command, "--dry-run"])
    out = capsys.readouterr().out
    assert re.search(rf"{LP2}:\n.*new +[\d,]+ bytes  README.md\n", out)
    assert f"new      {LP2}: lp2, seed 1: top-1 62.50 %\nNothing was uploaded;" in out
    assert state() == before

    main(command)
    ((slug, collection),) = hub.collections.items()
    assert capsys.readouterr().out == f"{hub.url}/collections/{slug}\n"
    assert collection.private
    assert all(repository.private for repository in hub.repositories.values())


def test_an_interruption_says_what_is_there(
    hub: HubServer, staged: StagedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hub_export.run_upload.make_collection", interrupt)
    with pytest.raises(KeyboardInterrupt, match=r"Of 2 networks 2 are on the Hub, verified .* goes on from here"):
        staged.push()


@pytest.mark.parametrize("what", ["collection", "results"])
def test_what_is_public_is_not_made_private(hub: HubServer, staged: StagedRun, what: str) -> None:
    api = HfApi(endpoint=hub.url)
    _ = api.create_collection("bench") if what == "collection" else api.create_repo(RESULTS, repo_type="dataset")
    with pytest.raises(ValueError, match=r"`private` must be False, got True: .* is public already"):
        staged.preview(private=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--seed 1", "`seed` must be used with --collection, got 1"),
        ("--collection --merged --tag v1", "`collection` must be used without .*, got --merged, --tag. Leave them"),
        ("--collection --revision next --create-pr", "without settings of a single network, got --revision, --create-"),
        ("--collection --results trial", "got --results. Leave them out"),
    ],
)
def test_flags_that_do_not_go_together(flags: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(["push", "run", NAME, *flags.split()])
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)


@pytest.mark.parametrize(
    ("repo_id", "seed", "message"),
    [
        (NAME, None, "got digits/resnet18/base-seed2, which failed: .* Run it again, or choose .*: --seed 1."),
        (NAME, 2, "got digits/resnet18/base-seed2, which failed: "),
        (NAME, 3, "`seed` must be one that each variant was trained with, got 3, which base of resnet18"),
        ("bench", 1, "`repo_id` must be 'owner/name', got 'bench'"),
        (f"alice/{60 * 'a'}", 1, "`repo_id` must have a name of at most 59 letters, and 96 .* Give a shorter one."),
    ],
)
def test_what_cannot_be_published(run: Path, repo_id: str, seed: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_run(run, repo_id, seed)


def test_what_is_no_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trial = run / "digits" / "resnet18" / "lp2-seed1"
    write_trial(tmp_path, record("large", 1, 50.0, "digits"))
    with pytest.raises(ValueError, match=r"`run` must be a run's folder with several networks, got .*seed1' with 1"):
        find_run(trial, NAME, None)
    with pytest.raises(ValueError, match=r"got 'resnet18' with 0\. Push a single one without --collection"):
        find_run("resnet18", NAME, None)
    with pytest.raises(ValueError, match=r"`NETWORK` must be a trial with its saved network, got .*large-seed1"):
        find_run(tmp_path, NAME, None)


def test_a_report_of_other_trials_is_refused_before_anything_is_published(
    hub: HubServer, staged: StagedRun, run: Path, tmp_path: Path
) -> None:
    for name, change in (("report.csv", None), ("report.csv", "62.5,"), ("report.md", None)):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        for file in ("report.md", "report.csv"):
            (folder / file).write_text((run / file).read_text())
        if change is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text((run / name).read_text().replace(change, "62.6,"))
        said = "the report of its trials, got .* with another" if change else f"its report, got .* without {name}"
        with pytest.raises(ValueError, match=rf"`run` must hold {said}\. `timm-lp finetune --report --output-dir"):
            replace(staged, run=replace(staged.run, folder=folder)).preview()
    assert not hub.repositories


def test_names(tmp_path: Path) -> None:
    for dataset in ("digits", "my pets"):
        for variant in ("base", "lp2"):
            save(tmp_path, variant, folder=f"{dataset}/resnet18/{variant}-seed1")
    names = [member.repo_id for member in find_run(tmp_path, NAME, None).members]
    assert names[:2] == [f"{NAME}-digits-base-seed1", f"{NAME}-digits-lp2-seed1"]
    assert re.fullmatch(rf"{NAME}-my-pets-[0-9a-f]{{6}}-base-seed1", names[2])
    save(tmp_path, "lp2", folder=f"{80 * 'd'}/resnet18/lp2-seed1")  # a part of it, and a hash
    names = [member.repo_id for member in find_run(tmp_path, NAME, None).members]
    assert re.fullmatch(rf"{NAME}-d{{40}}-[0-9a-f]{{6}}-lp2-seed1", names[0])
    with pytest.raises(ValueError, match="and 96 with what is added to it, got"):
        find_run(tmp_path, f"alice/{58 * 'a'}", None)
