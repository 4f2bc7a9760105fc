import json
import re
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import ModelCard
from PIL import Image
from timm.models import save_for_hf
from torch import nn

from hub_export.cards.card import REPOSITORY, fill_repo_id
from hub_export.cards.evaluation import Trials
from hub_export.cards.records import Speed
from timm_lp import LpConv2d, lp_merge
from timm_lp.masks import conformation_matrix
from timm_lp.masks.overview import draw_overview
from timm_lp.masks.statistics import layer_masks
from timm_lp.start import Start
from timm_lp.trials.record import DataInfo, TrialRecord

from ...models.networks import create
from ...trials.records import record
from .conftest import NAMES, SEEDS, SIZES, TRIALS, build, render

HUB = Start("hub", hub_id="timm/convnextv2_tiny.fcmae_ft_in1k", license="cc-by-nc-4.0")
RANDOM = Start("random")


def meta(name: str) -> nn.Module:
    return create(name, device="meta")


def changed(**changes: Any) -> Trials:
    """Return the trials with changes to each."""
    return Trials(tuple(replace(trial, **changes) for trial in SEEDS), replace(SEEDS[1], **changes))


def of(*trials: TrialRecord, trained: TrialRecord | None = None) -> Trials:
    return Trials(trials, trained)


def failed(seed: int) -> TrialRecord:
    return record("lp2", seed, None, error="the loss became nan")


def rows(card: str, heading: str, place: int = 0) -> list[list[str]]:
    """Return the cells of the first table under a heading, or of a later one."""
    section = card.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"(?:^\|.*\n)+", section + "\n", re.MULTILINE)[place].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def fact(card: str, name: str) -> str:
    match = re.search(rf"^- \*\*{name}:\*\* (.*)$", card, re.MULTILINE)
    assert match
    return match[1]


class TestMetadata:
    def test_all(self, card: str) -> None:
        data = ModelCard(card).data
        assert (data.license, data.base_model, data.datasets) == ("apache-2.0", "timm/resnet18.a1_in1k", ["org/dtd"])
        assert (data.library_name, data.pipeline_tag) == ("timm", "image-classification")
        assert data.metrics == ["accuracy", "balanced_accuracy"]
        assert data.tags == ["image-classification", "timm", "transformers", "lp-convolution"]
        assert data.model_name == "lp2_resnet18"

    def test_results_are_those_of_the_weights(self, card: str) -> None:
        top1, mean, per_class, _ = ModelCard(card).data.eval_results or []
        assert (top1.metric_type, top1.metric_value) == ("accuracy", 70.8)
        assert (mean.metric_type, mean.metric_value) == ("accuracy", 71.2)
        assert (per_class.metric_type, per_class.metric_value) == ("balanced_accuracy", 69.8)
        assert top1.metric_name == "16-shot top-1 (%), seed 2"
        assert mean.metric_name == "16-shot top-1 (%), mean of 3 seeds"
        assert per_class.metric_name == "16-shot mean per-class accuracy (%), seed 2"
        assert (top1.dataset_type, top1.dataset_name, top1.dataset_split) == ("org/dtd", "DTD", "test")
        assert top1.dataset_revision == "1" * 40

    def test_without_results(self) -> None:
        card = render()
        assert ModelCard(card).data.to_dict().keys() == {"library_name", "pipeline_tag", "tags"}
        assert not re.search("## Results|## Speed|## Training|Top-1", card)
        assert "No accuracy was reported with it." in card

    @pytest.mark.parametrize("id", ["images", "mteb/dtd"])
    def test_data_without_a_commit_may_be_a_folder(self, id: str) -> None:
        name = 'mine: "private" # yes'
        card = render(trials=changed(dataset=DataInfo(id, name), data_sha256="5" * 64))
        data = ModelCard(card).data
        assert data.datasets is None
        assert {result.dataset_type for result in data.eval_results or []} == {name}
        local = f"{name} is a local data set, which was read from no repository of the Hub (sha256 of its contents: "
        assert card.count(f"{local}`{'5' * 64}`).") == 1

    @pytest.mark.parametrize("trained", [None, record("lp2", 9, 50.0)])
    def test_weights_of_an_unknown_seed_have_no_result(self, trained: TrialRecord | None) -> None:
        card = render(trials=replace(TRIALS, trained=trained))
        data = ModelCard(card).data
        assert (data.eval_results, data.metrics) == (None, None)
        assert "Top-1: 71.2 ± 0.4 % on DTD, 16-shot (mean of 3 seeds; that of these weights is not recorded)" in card
        assert len(rows(card, "Results")) == 2 + 2

    def test_other_metrics_keep_their_names(self) -> None:
        data = ModelCard(render(trials=changed(metrics={"top1": 71.0, "f1": 60.0, "top5": 90.0}))).data
        assert data.metrics == ["accuracy", "f1", "top5"]
        assert [result.metric_type for result in (data.eval_results or [])[::2]] == ["accuracy", "f1", "top5"]

    def test_features_only(self) -> None:
        card = render(build(num_classes=0))
        assert ModelCard(card).data.pipeline_tag == "image-feature-extraction"
        assert "features = model(image)" in card
        assert "transformers" not in card

    def test_channels_that_transformers_does_not_take(self) -> None:
        assert "transformers" not in render(build(in_chans=2))


class TestStated:
    """What the publisher says."""

    @pytest.mark.parametrize(
        ("license", "start", "metadata"),
        [
            ("mit", None, {"license": "mit"}),
            ("CC-BY-SA-4.0", RANDOM, {"license": "cc-by-sa-4.0"}),
            ("openrail++", Start("checkpoint", file="cats.pth"), {"license": "openrail++"}),
            ("my-license-1.0", RANDOM, {"license": "other", "license_name": "my-license-1.0"}),
        ],
    )
    def test_licence(self, start: Start | None, license: str, metadata: dict[str, str]) -> None:
        card = render(start=start, license=license)
        data = ModelCard(card).data.to_dict()
        assert {key: value for key, value in data.items() if key.startswith("license")} == metadata
        assert fact(card, "Licence") == f"{license}, as its publisher says"

    def test_licence_beside_an_inherited_one(self) -> None:
        card = render(start=HUB, license="mit")
        assert ModelCard(card).data.license == "mit"
        assert fact(card, "Licence") == "mit, as its publisher says; the base weights are under cc-by-nc-4.0"
        assert "The licence of its base weights (cc-by-nc-4.0) forbids commercial use.\n" in card

    def test_licence_that_forbids_commercial_use(self) -> None:
        card = render(start=RANDOM, license="cc-by-nc-sa-4.0")
        assert "- Its licence (cc-by-nc-sa-4.0) forbids commercial use.\n" in card

    @pytest.mark.parametrize(
        ("start", "text"),
        [
            (None, ""),
            (Start("hub", hub_id="me/cats"), ""),
            (RANDOM, "; the training recorded: none, trained from random weights"),
            (Start("hub", hub_id="me/dogs"), "; the training recorded: [me/dogs](https://huggingface.co/me/dogs)"),
        ],
    )
    def test_base_model(self, start: Start | None, text: str) -> None:
        card = render(start=start, base_model="me/cats")
        data = ModelCard(card).data
        assert (data.license, data.base_model) == (None, "me/cats")
        told = f"[me/cats](https://huggingface.co/me/cats), as its publisher says{text}"
        assert fact(card, "Base weights") == told
        assert "What its base weights learned is in it too" in card

    def test_what_is_no_licence_or_base_model(self) -> None:
        model = build()
        for license in ("", "My Licence", "mit\n", "a|b", 5):
            with pytest.raises(ValueError, match=r"`license` must be an identifier without spaces, got .*'mit'"):
                render(model, license=license)
        for base_model in ("", "resnet18", "me/cats/dogs", "../cats", "https://hf.co/me/cats", 5):
            with pytest.raises(ValueError, match=r"`base_model` must be a repository on the Hub, got .* 'owner/name'"):
                render(model, base_model=base_model)


class TestStart:
    @pytest.mark.parametrize(
        ("name", "license", "metadata", "text"),
        [
            ("convnextv2_tiny.fcmae_ft_in1k", "cc-by-nc-4.0", "cc-by-nc-4.0", "commercial use, and so does its"),
            ("resnet18.tv_in1k", "bsd-3-clause", "bsd-3-clause", "bsd-3-clause, inherited from the base weights\n"),
            ("resnet18.of_somebody", "unknown", None, "not known: the base weights' licence applies"),
            ("resnet50.bamboo", None, None, "not known: the base weights' licence applies"),
        ],
    )
    def test_licence_of_weights_on_the_hub(
        self, name: str, license: str | None, metadata: str | None, text: str
    ) -> None:
        start = Start("hub", hub_id=f"timm/{name}", license=license)
        card = render(meta(f"large_{name.partition('.')[0]}"), start=start)
        data = ModelCard(card).data
        assert (data.license, data.base_model) == (metadata, f"timm/{name}")
        assert fact(card, "Base weights") == f"[timm/{name}](https://huggingface.co/timm/{name})"
        assert text in card

    def test_licence_that_the_hub_does_not_list(self) -> None:
        hub_id = "timm/convnext_tiny.dinov3_lvd1689m"
        data = ModelCard(render(start=Start("hub", hub_id=hub_id, license="dinov3-license"))).data
        assert (data.license, data.license_name) == ("other", "dinov3-license")
        assert data.license_link == f"https://huggingface.co/{hub_id}"

    @pytest.mark.parametrize("digest", [None, "5" * 64])
    def test_checkpoint(self, digest: str | None) -> None:
        card = render(start=Start("checkpoint", file="cats.pth", sha256=digest))
        data = ModelCard(card).data
        assert (data.license, data.base_model) == (None, None)
        named = f"`cats.pth` (sha256 `{digest}`)" if digest else "`cats.pth`"
        assert fact(card, "Base weights") == f"a checkpoint file, {named}; what that was trained from is not recorded"
        assert fact(card, "Licence").startswith("not known: that of the checkpoint applies, and of what it was trained")
        assert "What its base weights learned is in it too" in card

    def test_random_weights(self) -> None:
        card = render(start=RANDOM)
        assert ModelCard(card).data.to_dict().keys() == {"library_name", "pipeline_tag", "tags"}
        assert fact(card, "Base weights") == "none, trained from random weights"
        assert fact(card, "Licence") == "not stated; none is inherited, since no base weights were used"
        assert "base weights learned" not in card

    def test_no_weights_are_known(self) -> None:
        card = render(meta("large_replknet31"))
        assert fact(card, "Base weights") == "not stated"
        assert fact(card, "Licence").startswith("not known: look up what it was trained from")
        assert ModelCard(card).data.license is None

    def test_weights_that_only_the_configuration_names(self) -> None:
        card = render(meta("large_convnextv2_tiny"))
        data = ModelCard(card).data
        assert (data.license, data.base_model) == (None, None)
        assert "whether they were loaded is not recorded" in fact(card, "Base weights")
        assert (
            fact(card, "Licence") == "not stated; cc-by-nc-4.0 if the base weights were loaded, whose licence that is"
        )
        assert "If they were loaded, what they learned is in it too" in card
        assert "forbids commercial use, and so does its own if they were loaded" in card

    def test_a_tag_in_a_saved_model_s_configuration(self, tmp_path: Path) -> None:
        save_for_hf(build(), str(tmp_path), safe_serialization=True)  # timm leaves out where the weights were from
        card = render(timm.create_model(f"local-dir:{tmp_path}", pretrained=True))
        assert "timm/resnet18.a1_in1k" in fact(card, "Base weights")
        assert ModelCard(card).data.license is None

    @pytest.mark.parametrize(
        ("config", "text"),
        [
            ({"tag": "mine", "url": None, "hf_hub_id": None}, "not stated"),  # a tag that timm does not know
            ({"file": "/home/me/cats.pth"}, "a checkpoint file, `cats.pth`, as the model's configuration says"),
            ({"state_dict": {"fc.bias": torch.zeros(3)}}, "not stated"),
            (
                {"hf_hub_id": "someone/lp2@v1", "source": "hf-hub", "license": "mit"},
                "[someone/lp2](https://huggingface.co/someone/lp2), as the model's",
            ),
        ],
        ids=["tag", "file", "tensors", "hub"],
    )
    def test_what_a_configuration_says(self, config: dict[str, Any], text: str) -> None:
        model = build()
        model.pretrained_cfg = {**model.pretrained_cfg, **config}
        card = render(model)
        assert fact(card, "Base weights").startswith(text)
        assert ModelCard(card).data.license is None
        assert "/home/me" not in card

    @pytest.mark.parametrize(
        ("variant", "text"),
        [
            ("lp2-paper", ", in kernels that the masks damped"),
            ("large-reinit", ", but for the enlarged kernels, which started at random"),
        ],
    )
    def test_variants_that_start_otherwise(self, variant: str, text: str) -> None:
        card = render(build(f"{variant.partition('-')[0]}_resnet18"), changed(variant=variant))
        assert text in fact(card, "Base weights")
        assert "71.20" in card


class TestResults:
    def test_table(self, card: str) -> None:
        header, _, top1, per_class = rows(card, "Results")
        assert header == ["", "seed 1", "seed 2", "seed 3", "mean", "std"]
        assert top1 == ["DTD, 16-shot: top-1 (%)", "71.20", "70.80", "71.60", "71.20", "0.40"]
        assert per_class == ["DTD, 16-shot: mean per-class accuracy (%)", "70.20", "69.80", "70.60", "70.20", "0.40"]
        assert "1,880 images of its test split" in card
        assert f"[org/dtd](https://huggingface.co/datasets/org/dtd) at `{'1' * 40}`" in card
        assert card.partition("---\n\n")[2].startswith("# lp2_resnet18: DTD, 16-shot\n")
        assert "Top-1: 70.8 % on DTD, 16-shot (these weights, seed 2; mean of 3 seeds: 71.2 ± 0.4 %), see below" in card
        assert "the weights here are those of seed 2." in card

    def test_failed_seeds(self) -> None:
        trials = of(failed(1), SEEDS[1], SEEDS[2], trained=SEEDS[1])
        card = render(trials=trials)
        assert rows(card, "Results")[2][1:] == ["failed", "70.80", "71.60", "71.20", "0.57"]
        figures = "70.8 % on DTD, 16-shot (these weights, seed 2; mean of 2 seeds, 1 more failed: 71.2 ± 0.6 %)"
        assert f"Top-1: {figures}, see below." in card
        assert [result.metric_value for result in ModelCard(card).data.eval_results or []] == [70.8, 71.2, 69.8, 70.2]
        card = render(trials=of(failed(1), SEEDS[1]))
        assert ModelCard(card).data.eval_results is None
        assert "Top-1: 70.8 % on DTD, 16-shot (one seed, 1 more failed; that of these weights is not recorded)" in card

    def test_one_seed(self) -> None:
        card = render(trials=of(record("lp2", 4, 71.0)))
        assert "Top-1: 71.0 % on DTD, 16-shot (one seed), see below." in card
        assert "standard deviation" not in card
        assert "the weights here are those of one run." in card
        top1, _ = ModelCard(card).data.eval_results or []
        assert (top1.metric_name, top1.metric_value) == ("16-shot top-1 (%), seed 4", 71.0)

    def test_other_variants_and_networks_are_there_to_compare(self) -> None:
        others = [record("base", 1, 68.0), record("lp2-paper", 1, 60.0), record("lp2", 1, 9.0, model="alexnet")]
        trials = of(*(replace(trial, model="resnet18.a1_in1k") for trial in (others[0], *SEEDS, others[1])), others[2])
        card = render(trials=trials)
        variants = [row[1] for row in rows(card, "Results")]
        assert variants == ["variant", "---------", "lp2", "lp2", "base", "base", "lp2-paper", "lp2-paper"]
        assert "Top-1: 71.2 ± 0.4 % on DTD" in card
        assert "Top-1: 60.0 % on DTD" in render(build(preserve=False), trials)

    @pytest.mark.parametrize(
        ("name", "trials", "message"),
        [
            ("lp2_resnet18", of(record("base", 1, 9.0)), r"hold some of 'lp2', got those of base\. Give the model's"),
            ("lp2_resnet18", of(record("lp2", 1, 9.0, model="alexnet")), r"some of resnet18, got those of alexnet\."),
            ("lp2_resnet18", of(*SEEDS, record("lp2", 1, 9.0, "pets")), "the model was trained on, got DTD, 16-shot a"),
            ("lp2_resnet18", of(*SEEDS, SEEDS[0]), r"be those of one run, got dtd/resnet18/lp2-seed1 of two\."),
            (
                "lp2_resnet18",
                of(record("lp16", 1, 9.0), trained=record("lp16", 1, 9.0)),
                r"be those of lp2_resnet18, got those of 'lp16'\. Give",
            ),
            (
                "large_resnet18",
                of(record("large", 1, 9.0), record("large-reinit", 1, 9.0)),
                "say whether large_resnet18 is large or large-reinit, got those of both. Give the trial's folder",
            ),
        ],
    )
    def test_results_of_another_network(self, name: str, trials: Trials, message: str) -> None:
        with pytest.raises(ValueError, match=f"`results` must .*{message}"):
            render(build(name), trials)
        with pytest.raises(ValueError, match=r"`results` must hold some of 'lp2-paper', got those of lp2\."):
            render(build(preserve=False), replace(TRIALS, trained=None))

    def test_all_images(self) -> None:
        card = render(trials=changed(shots=None))
        assert "DTD, all images: top-1 (%)" in card
        assert "images of each class" not in card

    def test_recipe(self) -> None:
        command = "accelerate launch finetune.py --seeds 2 --epochs 5"
        card = render(trials=changed(command=command, settings={"epochs": 5, "lr": 0.1, "clip_grad": None, "a b": "é"}))
        assert "```bash\naccelerate launch finetune.py --seeds 1 2 3 --epochs 5\n```" in card
        assert '```yaml\nmodel: "resnet18"\nshots: 16\nepochs: 5\nlr: 0.1\n"a b": "é"\n```' in card

    def test_speed(self) -> None:
        times = {("training", "lp"): 12.34, ("evaluation", "lp"): 12.34, ("evaluation", "merged"): 5.67}
        mode = "NCHW float32, 2 threads"
        cases = {(f"{name}, 64 px, batch 16", mode): times for name in ("lp2_resnet18", "lp2_resnet18d")}
        cases["lp2_resnet18, 8 px", mode] = {("evaluation", "large"): 9.0}
        card = render(speed=Speed("a CPU", "2.9", 5, cases, {}))
        first, second = rows(card, "Speed")[2:]
        assert first == ["lp2_resnet18, 64 px, batch 16", mode, "12.3", "12.3", "5.7"]
        assert second == ["lp2_resnet18, 8 px", mode, "-", "-", "-"]
        assert "Medians of 5 runs of `timm-lp bench` on a CPU, torch 2.9." in card
        assert "a new lp2_resnet18 with timm's default arguments, not of the weights here." in card


class TestStatements:
    """Nothing is stated that may be untrue."""

    def test_large_kernels_may_have_had_masks(self) -> None:
        assert "or what is left of one whose masks were folded in" in render(build("large_resnet18"))
        known = render(build("large_resnet18"), changed(variant="large"))
        assert "without masks: what networks with masks are compared with." in known

    def test_kernels_that_were_not_enlarged(self) -> None:
        assert "with its own kernels, but without masks" in render(meta("large_replknet31"))

    def test_calibration_is_not_denied(self, card: str) -> None:
        assert "How well its probabilities are calibrated is not reported." in card
        assert "Only the accuracy above is reported" in card

    @pytest.mark.parametrize(("name", "needed"), [("resnet18", False), ("lp2_resnet18", True)])
    def test_what_it_needs(self, name: str, needed: bool) -> None:
        card = render(build(name))
        assert ("The model needs timm and the timm-lp package" in card) == needed
        assert ("after timm-lp is installed" in fact(card, "Architecture")) == needed

    @pytest.mark.parametrize(("url", "command"), [(None, "."), ("https://x.org/lp", '"timm-lp @ git+https://x.org/lp"')])
    def test_where_the_package_is(self, url: str | None, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
        about = Message()
        if url is not None:
            about["Project-URL"] = f"Repository, {url}"
        monkeypatch.setattr("hub_export.cards.templates.metadata", lambda name: about)
        assert f"```bash\npip install {command}\n```" in render()

    def test_usage_of_other_channels_runs(self, tmp_path: Path) -> None:
        model = build(in_chans=2)
        save_for_hf(model, str(tmp_path / "model"), safe_serialization=True)
        card = render(timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True))
        (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        names: dict[str, Any] = {}
        exec(code.replace(f"hf-hub:{REPOSITORY}", f"local-dir:{tmp_path / 'model'}"), names)
        assert names["probabilities"].shape == (1, 3)

    def test_names_are_no_markup(self) -> None:
        card = render(trials=changed(dataset=DataInfo("x", "a|b  <i>", split="val")))
        assert "\n# lp2_resnet18: a\\|b &lt;i>, 16-shot\n" in card
        assert "1,880 images of its val split." in card


class TestForms:
    def test_both_forms_are_counted(self) -> None:
        model = build()
        masks = sum(layer.C.numel() + layer.log2p.numel() for layer in model.modules() if isinstance(layer, LpConv2d))
        total = sum(parameter.numel() for parameter in model.parameters())
        with_masks, merged = rows(render(model), "Model")[2:]
        assert with_masks[:2] == ["with masks (this repository)", f"{total:,}"]
        assert merged[:2] == ["merged by `timm_lp.lp_merge`", f"{total - masks:,}"]

    def test_masks(self, card: str) -> None:
        assert fact(card, "Lp-convolutions") == "13 (1 of 15x15, 8 of 7x7, 4 of 3x3 pixels)"
        assert fact(card, "Exponent p") == "2 to 2.14; new masks have 2"
        assert [row[0] for row in rows(card, "Masks", 1)[2:]] == ["15x15", "7x7", "3x3"]
        assert "](masks.png)" in card
        assert "| layer4.0.downsample.0 |" in card

    def test_untrained_masks(self) -> None:
        card = render(timm.create_model("lp2_resnet18", num_classes=3, **SIZES))
        assert fact(card, "Exponent p") == "2"
        assert "They are as new." in card
        assert "comparable with biology" not in card
        assert "Every layer" not in card

    def test_what_moved(self) -> None:
        model = timm.create_model("lp2_resnet18", num_classes=3, **SIZES)
        with torch.no_grad():
            model.conv1.log2p[:4] = 2
            model.conv1.C[0] = conformation_matrix(5.0, 4.0, 2.0)[0]
            model.conv1.C[1] = conformation_matrix(5.0, 2.0, 93.0)[0]
            model.conv1.C[2] = conformation_matrix(5.0, 2.0, 45.0)[0]
        card = render(model)
        assert sum(layer.out_channels for layer in model.modules() if isinstance(layer, LpConv2d)) == 208
        cells = {row[0]: row[1:3] for row in rows(card, "Masks")[2:]}
        assert cells["p"] == ["2", "2 (2 to 4); 2 % moved"]
        assert cells["sigma over its start"][0] == "1"
        assert cells["gamma: longest over shortest width"] == ["1", "1 (1 to 4); &lt; 1 % above 3"]
        directions = "3 have one: 33 % within 15 degrees of horizontal, 33 % of vertical (17 % each if at random)"
        assert cells["direction where gamma is above 1.2"] == ["-", directions]
        assert "as a tendency only" in card
        with torch.no_grad():
            model.conv1.C[:3] = model.conv1.C[3]
        assert rows(render(model), "Masks")[-1][2] == "none has one"

    def test_every_layer_has_a_line_once_masks_differ(self) -> None:
        model = timm.create_model("lp4_resnet18", num_classes=3, **SIZES)
        with torch.no_grad():
            model.conv1.log2p[0] = 3
        header, _, first, *others = rows(render(model), "Masks", 2)
        assert len(others) == 12
        assert dict(zip(header[:4], first, strict=False))["p start"] == "4"
        assert first[:9] == ["conv1", "15x15", "64", "4", "4.000", "4.000", "8.000", "3.5", "3.500"]
        assert first[-2:] == ["1.00", "1.00"]

    def test_masks_that_hardly_moved(self) -> None:
        model = timm.create_model("lp2_resnet18", num_classes=3, **SIZES)
        with torch.no_grad():
            model.conv1.log2p.add_(4e-4)
        assert "Their p and sigma are within 0.5 % of those of new masks." in render(model)

    def test_frozen_masks(self) -> None:
        model = timm.create_model("lp256f_resnet18", num_classes=3, **SIZES)
        card = render(model)
        assert fact(card, "Exponent p") == "256, frozen"
        assert "whose shape and exponent p are fixed" in card
        assert "whose shape and exponent p are fixed" in render(lp_merge(model), merged=True)
        assert fact(render(build("lp256f_resnet18")), "Exponent p") == "256 to 274, frozen; new masks have 256"

    def test_merged(self) -> None:
        card = render(lp_merge(build()), trials=TRIALS, merged=True)
        assert card.partition("---\n\n")[2].startswith("# lp2_resnet18 (merged): DTD, 16-shot\n")
        assert fact(card, "Architecture").startswith("`large_resnet18`")
        assert len(rows(card, "Model")) == 3
        assert "## Masks" not in card
        assert "folded into plain convolutions" in card

    def test_merged_under_the_name_that_it_loads_as(self) -> None:
        assert "71.20" in render(build("large_resnet18"), trials=TRIALS, merged=True)

    @pytest.mark.parametrize("name", ["large_resnet18", "resnet18"])
    def test_networks_to_compare_with(self, name: str) -> None:
        card = render(build(name))
        assert "compared with" in card
        assert not re.search("## Masks|Exponent p", card)

    def test_kernels_that_stay_as_they_are(self) -> None:
        assert "twice" not in render(meta("lp2_replknet31"), merged=True)


class TestText:
    def test_class_names_do_not_become_markup(self, card: str) -> None:
        assert "0 a cat · 1 a dog \\| or two · 2 &lt;b>neither&lt;/b>" in card

    def test_label_names_for_other_classes(self) -> None:
        with pytest.raises(ValueError, match="`label_names` must name each of the model's 3 classes, got 2 names"):
            render(label_names=["a", "b"])

    def test_unknown_model(self) -> None:
        overlay = {"architecture": "sofa"}
        with pytest.raises(ValueError, match=r"timm\.create_model builds, got .sofa., which timm"):
            render(timm.create_model("test_resnet", device="meta", pretrained_cfg_overlay=overlay))

    def test_limits(self, card: str) -> None:
        assert "one of 3 classes" in card
        assert "trained on 16 images of each class of DTD (48 at most)" in card
        assert "What its base weights learned is in it too" in card

    def test_citation_is_the_readme_s(self, card: str) -> None:
        readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
        (citation,) = re.findall(r"```bibtex\n.*?\n```", readme, re.DOTALL)
        assert citation in card

    def test_is_tidy(self, card: str) -> None:
        assert card.endswith("\n")
        assert "\n\n\n" not in card
        assert "None" not in card
        assert "{{" not in card


def test_usage_runs(card: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = build()
    folder, image = tmp_path / "model", tmp_path / "image.jpg"
    save_for_hf(model, str(folder), model_config={"label_names": NAMES}, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    del config["model_args"]["num_classes"]  # timm takes the one at the root, and transformers only that
    (folder / "config.json").write_text(json.dumps(config))
    draw_overview(layer_masks(model), folder / "masks.png")
    Image.new("RGB", (80, 60), "green").save(image)
    with_timm, with_transformers = re.findall(r"```python\n(.*?)```", card, re.DOTALL)

    exec(with_timm.replace(f"hf-hub:{REPOSITORY}", f"local-dir:{folder}").replace("image.jpg", str(image)), {})
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.rpartition(":")[0] for line in lines) == sorted(NAMES)
    assert sum(float(line.rpartition(":")[2].rstrip("%")) for line in lines) == pytest.approx(100, abs=0.2)

    exec(fill_repo_id(with_transformers, str(folder)).replace("image.jpg", str(image)), {})
    shown = capsys.readouterr().out
    assert all(f"'label': {name!r}" in shown for name in NAMES)


def test_repository_is_filled_in(card: str) -> None:
    filled = fill_repo_id(card, "me/lp2")
    assert 'timm.create_model("hf-hub:me/lp2", pretrained=True)' in filled
    assert 'model="me/lp2"' in filled
    assert REPOSITORY not in filled
