"""From any network to a published one: trained, reported, looked at, tested, staged, pushed, pulled, loaded anew."""

import pickle
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import hub_export.cli
import timm_lp.experiments.classification.cli
import timm_lp.experiments.robustness.cli
import timm_lp.masks.cli
from timm_lp import LpConv2d
from timm_lp.models import register_network
from timm_lp.trials.networks import find_networks
from timm_lp.trials.record import trial_folder

from ..experiments.conftest import forget_format
from ..experiments.images import make_folder
from ..hub_server import HubServer
from ..processes import WarmPython

pytestmark = pytest.mark.usefixtures("no_pictures")

ROOT = Path(__file__).parents[2]
NETWORKS = {  # a size of images that they take, pixels, and a variant with masks
    "tests.user_networks:Tiny": (16, "lp2@blocks.*"),
    **dict.fromkeys(("mobilenetv4_conv_small_035", "tf_efficientnetv2_b0", "regnety_002"), (32, "lp2")),
    "torchvision.models:squeezenet1_1": (32, "lp2"),
}
LOAD = """if True:
    import pickle, sys, timm, torch
    from timm_lp.models import register_network
    path, size, subject, *folders, out = sys.argv[1:]
    with open(subject, "rb") as file:
        networks = [pickle.load(file).load().eval()]
    if ":" in path:
        register_network(path)
    images = torch.randn(2, 3, int(size), int(size), generator=torch.Generator().manual_seed(0))
    networks += [timm.create_model(f"local-dir:{folder}", pretrained=True).eval() for folder in folders]
    torch.save([network(images).detach() for network in networks], out)
"""


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=[pytest.mark.exhaustive] * ("tests" not in name)) for name in NETWORKS]
)
def test_a_network_goes_all_the_way(model: str, hub: HubServer, tmp_path: Path, python: WarmPython) -> None:
    (size, variant), run, data = NETWORKS[model], tmp_path / "run", tmp_path / "bugs"
    for split, first in (("train", 0), ("test", 50)):
        make_folder(data, split, ("dark", "light"), count=4, first=first)
    command = f"--model {model} --dataset {data} --no-pretrained --img-size {size} --output-dir {run} --cpu-threads 1"
    short = f"--variants base large {variant} --seeds 1 2 --shots 4 --batch-size 4 --epochs 1"
    forget_format()
    timm_lp.experiments.classification.cli.main([*command.split(), *short.split()])
    assert {path.name for path in run.iterdir()} >= {"report.md", "report.csv", "results.json", "bugs"}
    timm_lp.masks.cli.main([str(run), "--output-dir", str(tmp_path / "masks")])
    forget_format()
    robustness = f"{run} --compute --severities 1 --cpu-threads 1 --output-dir {tmp_path / 'robustness'}"
    timm_lp.experiments.robustness.cli.main(robustness.split())
    for folder in ("masks", "robustness"):
        assert variant in (tmp_path / folder / "report.md").read_text()

    trial, pulled = run / trial_folder("bugs", model, variant, 1), tmp_path / "pulled"
    hub_export.cli.main(["stage", str(trial), str(tmp_path / "staged")])
    hub_export.cli.main(["push", str(tmp_path / "staged"), "alice/network"])
    hub_export.cli.main(["pull", "alice/network", "--folder", str(pulled)])
    card = (pulled / "README.md").read_text()
    assert f"--model {model} " in card
    assert f"--variants {shlex.quote(variant)} " in card
    assert card.count("| seed 1 | seed 2 |") == 1, "the trials of its variant and of the base network beside it"
    assert (f'register_network("{model}")' in card) == (":" in model)
    (network,) = find_networks([str(trial)]).networks
    subject = tmp_path / "subject"
    subject.write_bytes(pickle.dumps(network))  # as what measures memory in a process of its own gets it
    arguments = [model, str(size), *map(str, (subject, trial, pulled, tmp_path / "outputs"))]
    python("-c", LOAD, *arguments)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    expected = network.load().eval()(images).detach()
    for outputs in torch.load(tmp_path / "outputs"):
        torch.testing.assert_close(outputs, expected)


def test_code_that_timm_does_not_have_is_named_by_its_user(tmp_path: Path, python: WarmPython) -> None:
    name = register_network("tests.user_networks:Tiny")
    network = timm.create_model(f"lp2_{name}", num_classes=3, lp_layers=["stem"])
    folder = str(hub_export.stage(network, tmp_path / "staged"))
    hub_export.verify(hub_export.stage(network, tmp_path / "merged", merged=True))
    code = """if True:
        import sys, hub_export.cli
        for words in ([], ["--code", "tests.user_networks:Tiny"]):
            try:
                hub_export.cli.main(["verify", sys.argv[1], *words])
            except SystemExit as refused:
                print(refused)
    """
    refused, whole = python("-c", code, folder).stdout.splitlines()
    said = "of 'lp2_tests_user_networks_Tiny', which is built by {0}, .* --code {0}"
    assert re.search(said.format("tests.user_networks:Tiny"), refused)
    assert "is whole" in whole


def test_the_first_pages_code_runs_as_it_stands(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With random weights where timm has its own on the Hub."""
    monkeypatch.chdir(tmp_path)
    for name in ("resnet18.a1_in1k", "mobilenetv3_small_100.lamb_in1k"):
        base = timm.create_model(name)
        timm.models.save_for_hf(base, name, safe_serialization=True)
        hub.seed(Path(name), f"timm/{name}")
    page = (ROOT / "README.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    scopes: list[dict[str, Any]] = [{} for _ in snippets]
    for code, scope in zip(snippets, scopes, strict=True):
        exec(code, scope)
    merged, converted = (scope["model"].eval() for scope in scopes)
    assert not any(isinstance(module, LpConv2d) for module in merged.modules())
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(converted(images), base.eval()(images), rtol=1e-3, atol=1e-5)

    timm.models.push_to_hf_hub(converted, "alice/my-network")
    (command,) = re.findall(r"`timm-lp (hub push\s+my-network) YOU/my-network`", page)
    hub_export.cli.main([*command.split()[1:], "alice/with-card"])
    hub_export.cli.main(["pull", "alice/with-card", "--folder", "pulled"])
    assert "converted by lp_convert, p starting at 4" in Path("pulled", "README.md").read_text()
    for name in ("hf-hub:alice/my-network", "local-dir:pulled"):
        assert torch.equal(timm.create_model(name, pretrained=True).eval()(images), converted(images))
