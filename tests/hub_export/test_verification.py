"""What a folder must not be: damaged, or made by an enemy."""

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from hub_export import VerificationError, verify
from hub_export.files import PUBLISHED
from hub_export.verification import reference_logits, seal_manifest, tensor_digests
from timm_lp.files import file_digest

Change = Callable[[dict[str, Any]], Any]


def flip(path: Path, index: int) -> None:
    content = bytearray(path.read_bytes())
    content[index] ^= 0x01
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["README.md", "config.json", "manifest.json", "masks.png", "model.safetensors"])
def test_a_flipped_bit_in_any_file_is_found(name: str, staged: Path) -> None:
    size = (staged / name).stat().st_size
    for index in (0, size // 4, size // 2, 3 * size // 4, -1):
        flip(staged / name, index)
        with pytest.raises(VerificationError, match=name):
            verify(staged)
        flip(staged / name, index)
    verify(staged)


def test_the_damaged_tensor_is_named(staged: Path) -> None:
    path = staged / "model.safetensors"
    (header_size,) = struct.unpack("<Q", path.read_bytes()[:8])
    header = json.loads(path.read_bytes()[8 : 8 + header_size])
    start = header["layer2.0.conv1.C"]["data_offsets"][0]
    flip(path, 8 + header_size + start + 3)
    with pytest.raises(VerificationError, match=r"differs from what was staged \(layer2\.0\.conv1\.C\)\. Stage"):
        verify(staged)


def test_a_cut_file_is_found(staged: Path) -> None:
    path = staged / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(VerificationError, match=r"(?i)model\.safetensors differs from what was staged \(.*incomplete"):
        verify(staged)


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.safetensors", "masks.png"])
def test_a_missing_file_is_named(name: str, staged: Path) -> None:
    (staged / name).unlink()
    with pytest.raises(VerificationError, match=rf"network: {name} is missing\. Stage or pull it again"):
        verify(staged)


def test_a_folder_that_nobody_staged(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"there is no manifest\.json: this was not staged by this package"):
        verify(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 1}', "[" * 100_000, "\xff"])
def test_a_manifest_of_another_form(text: str, staged: Path) -> None:
    (staged / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(VerificationError, match=r"manifest\.json is damaged"):
        verify(staged)


def _number(value: Any) -> Change:
    return lambda manifest: manifest["logits"].__setitem__(0, value)


NUMBERS = {"nan": float("nan"), "inf": float("inf"), "text": "1.5", "bool": True, "int": 10**400, "nested": [1.5]}
DIGEST = "0" * 64


@pytest.mark.parametrize(
    "change",
    [
        *(pytest.param(_number(value), id=name) for name, value in NUMBERS.items()),
        pytest.param(lambda manifest: manifest.update(logits=[-float("inf")] * 7), id="all"),
        pytest.param(lambda manifest: manifest.update(logits={"0": 1.5}), id="by name"),
        pytest.param(lambda manifest: manifest.update(logits=[]), id="none"),
        pytest.param(lambda manifest: manifest["files"].update({"../../secret": DIGEST}), id="other"),
        pytest.param(lambda manifest: manifest["files"].update({"config.json": True}), id="file"),
        pytest.param(lambda manifest: manifest["files"].update({"config.json": "0"}), id="short"),
        pytest.param(lambda manifest: manifest["tensors"].update({"fc.bias": [DIGEST]}), id="tensor"),
    ],
)
def test_a_manifest_holds_digests_and_finite_numbers(change: Change, staged: Path) -> None:
    reseal(staged, change)
    with pytest.raises(VerificationError, match=r"manifest\.json is damaged"):
        verify(staged)


def test_a_number_beyond_the_range_of_floats(staged: Path) -> None:
    reseal(staged, _number(0.123456789))
    path = staged / "manifest.json"
    path.write_text(path.read_text().replace("0.123456789", "1e999"))
    with pytest.raises(VerificationError, match=r"manifest\.json is damaged"):
        verify(staged)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_network_that_computes_no_numbers(value: float, staged: Path) -> None:
    weights = load_file(staged / "model.safetensors")
    weights["fc.bias"][0] = value
    save_file(weights, staged / "model.safetensors")
    changed = timm.create_model(f"local-dir:{staged}", pretrained=True).eval()
    logits = reference_logits(changed)
    reseal(staged, lambda manifest: manifest.update(tensors=tensor_digests(changed), logits=logits))
    with pytest.raises(VerificationError, match=r"manifest\.json is damaged"):
        verify(staged)
    finite = [logit if math.isfinite(logit) else 1e300 for logit in logits]
    reseal(staged, lambda manifest: manifest.update(logits=finite))
    with pytest.raises(VerificationError, match=r"gives logits that are off by (inf|nan) of the largest"):
        verify(staged)


def test_a_logit_that_float32_cannot_hold(staged: Path) -> None:
    reseal(staged, _number(1e300))
    with pytest.raises(VerificationError, match="but gives logits that are off by 1 of the largest"):
        verify(staged)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_configuration_with_numbers_that_json_does_not_have(constant: str, staged: Path) -> None:
    text = (staged / "config.json").read_text()
    (staged / "config.json").write_text(text.replace('"model_args": {', f'"model_args": {{"drop_rate": {constant}, '))
    reseal(staged)
    with pytest.raises(VerificationError, match=r"config\.json must say .* got one that is no JSON"):
        verify(staged)


@pytest.mark.parametrize(("key", "value"), [("num_classes", True), ("input_size", [True, 64, 64])])
def test_a_configuration_counts_with_whole_numbers(key: str, value: Any, staged: Path) -> None:
    make_hostile(staged, lambda c: (c["pretrained_cfg"] if key == "input_size" else c).update({key: value}))
    with pytest.raises(VerificationError, match=f"got one with {key} = .*True"):
        verify(staged)


def test_other_logits_are_found(staged: Path) -> None:
    reseal(staged, lambda manifest: manifest["logits"].__setitem__(0, manifest["logits"][0] + 1.0))
    with pytest.raises(VerificationError, match=r"must compute what was staged, but gives logits that are off by"):
        verify(staged)
    reseal(staged, lambda manifest: manifest["logits"].pop())
    with pytest.raises(VerificationError, match="7 logits instead of 6"):
        verify(staged)


def test_a_configuration_that_fails_after_loading(staged: Path) -> None:
    make_hostile(staged, lambda config: config["pretrained_cfg"].update(first_conv=5))
    with pytest.raises(VerificationError, match=r"must say what timm can load and run, but that gives TypeError: "):
        verify(staged)
    make_hostile(staged, lambda config: config["model_args"].update(drop_rate="x"))
    with pytest.raises(VerificationError, match=r"must say what timm can load and run, but that gives \w+Error: "):
        verify(staged)


def test_other_tensors_are_found(staged: Path) -> None:
    reseal(staged, lambda manifest: manifest["tensors"].update({"fc.bias": "0" * 64}))
    with pytest.raises(VerificationError, match=r"timm must load what was saved, but changes fc\.bias"):
        verify(staged)


def reseal(folder: Path, change: Change | None = None) -> None:
    """Let a folder's manifest agree with its files, as whoever means harm does, and change it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]
    manifest["files"] = {
        name: file_digest(folder / name) for name in PUBLISHED if name != "manifest.json" and (folder / name).is_file()
    }
    if change is not None:
        change(manifest)
    seal_manifest(folder, manifest)


def make_hostile(folder: Path, change: Change) -> None:
    config = json.loads((folder / "config.json").read_text())
    replaced = change(config)
    (folder / "config.json").write_text(json.dumps(config if replaced is None else replaced))
    if (folder / "manifest.json").exists():
        reseal(folder)


HOSTILE: dict[str, tuple[Change, str]] = {
    "unknown": (lambda c: c.update(architecture="evil_net"), "unknown architecture 'evil_net'"),
    "traversal": (lambda c: c.update(architecture="../../../etc/passwd"), "unknown architecture"),
    "module": (lambda c: c.update(architecture="os.system"), "unknown architecture"),
    "no_name": (lambda c: c.update(architecture=None), "unknown architecture None"),
    "other": (lambda c: c.update(architecture="lp2_resnet50"), r"weights of lp2_resnet50, but .* and \d+ more"),
    "unmasked": (lambda c: c.update(architecture="large_resnet18"), r"conv1\.C is not of this network"),
    "wide": (lambda c: c["model_args"].update(channels=[2**20] * 4), r"instead of \(1048576,"),
    "deep": (lambda c: c["model_args"].update(layers=[10**9] * 4), "OverflowError: more than 300 layers"),
    "classes": (lambda c: c.update(num_classes=10**12), "num_classes = 1000000000000"),
    "many": (lambda c: c.update(num_classes=10**6, label_names=None), r"fc\.weight is \(7, 32\) .* of \(1000000, 32\)"),
    "image": (lambda c: c["pretrained_cfg"].update(input_size=[3, 10**6, 10**6]), "input_size = .3, 1000000, 1000000"),
    "no_image": (lambda c: c["pretrained_cfg"].update(input_size="big"), "input_size = 'big'"),
    "file": (
        lambda c: c["pretrained_cfg"].update(file="/etc/passwd"),
        "where else weights are .file = '/etc/passwd'",
    ),
    "pickle": (lambda c: c["pretrained_cfg"].update(hf_hub_filename="evil.bin"), "where else weights are"),
    "custom": (lambda c: c["pretrained_cfg"].update(custom_load="hf"), "where else weights are"),
    "argument": (lambda c: c["model_args"].update(checkpoint_path="/x"), "model arguments \\['checkpoint_path'\\]"),
    "nonsense": (lambda c: c["model_args"].update(layers="none"), "must say what timm can build"),
    "arguments": (lambda c: c.update(model_args=["layers"]), "model_args = \\['layers'\\]"),
    "labels": (lambda c: c.update(label_names=["a"]), "1 label_names for 7"),
    "label": (lambda c: c.update(label_names={"0": "a"}), "label_names are no list of names"),
    "list": (lambda c: [c], "without `pretrained_cfg`"),
    "no_config": (lambda c: c.update(pretrained_cfg=[]), "without `pretrained_cfg`"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_configuration_is_refused_before_anything_is_built(
    kind: str, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, message = HOSTILE[kind]
    make_hostile(staged, change)
    build = timm.create_model

    def build_without_memory(*args: Any, **kwargs: Any) -> Any:
        assert not kwargs.get("pretrained")
        assert torch.empty(0).is_meta
        return build(*args, **kwargs)

    monkeypatch.setattr("timm.create_model", build_without_memory)
    monkeypatch.setattr("hub_export.untrusted._MAX_MODULES", 300)  # the whole number takes seconds
    with pytest.raises(VerificationError, match=message):
        verify(staged)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, " " * (2**24 + 1)], ids=["empty", "cut", "nested", "long"])
def test_a_configuration_that_is_none(text: str, staged: Path) -> None:
    (staged / "config.json").write_text(text)
    reseal(staged)
    with pytest.raises(VerificationError, match=r"config\.json must say what timm can build a network from, got one"):
        verify(staged)


def test_weights_of_other_types_and_shapes_are_refused(staged: Path) -> None:
    path = staged / "model.safetensors"
    weights = load_file(path)
    for change, message in (
        ({"fc.bias": weights["fc.bias"].half()}, r"fc\.bias is \(7,\) F16 instead of \(7,\) torch\.float32"),
        ({"fc.bias": weights["fc.bias"].double()}, r"fc\.bias is \(7,\) F64 instead of"),
        ({"fc.bias": weights["fc.bias"][:3].clone()}, r"fc\.bias is \(3,\) torch\.float32 instead of \(7,\)"),
        ({"../evil": torch.ones(1)}, r"\.\./evil is not of this network"),
    ):
        save_file({**weights, **change}, path)
        reseal(staged)
        with pytest.raises(VerificationError, match=message):
            verify(staged)


def test_weights_that_promise_more_than_there_is(staged: Path) -> None:
    header = json.dumps(
        {"fc.weight": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4 * 10**18]}}
    ).encode()
    (staged / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    reseal(staged)
    with pytest.raises(VerificationError, match=r"model\.safetensors is not a whole safetensors file"):
        verify(staged)
