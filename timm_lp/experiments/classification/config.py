"""Settings of a benchmark run: one dataclass, from which the flags and the recipe files' keys are made."""

import re
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

from ...files import file_digest
from ...module_path import is_module_path
from ...settings import SEEDS, TINY, TRACK_MASKS_HELP, TRACKER_HELP, TRACKERS, Settings, check_lists, setting
from ...variants import BASE, DEPTHWISE, PART, split_layers, with_layers
from ..data.presets import ReadOptions

DEFAULT_VARIANTS = [BASE, "large", "lp2", "lp16"]

# What timm's `create_model` takes beside the arguments of a network itself.
_DECIDED = (
    *("num_classes", "in_chans", "features_only", "feature_cfg", "preserve", "lp_layers", "device", "dtype"),
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_filter_fn"),
    *("pretrained_model_args", "checkpoint_path", "cache_dir", "kwargs_filter", "scriptable", "exportable", "no_jit"),
)
_PART = re.compile(r"[\w-]+@[\w.*?!\[\]-]+(,[\w.*?!\[\]-]+)*")  # a variant that names the layers it converts
_LONGEST = 120  # letters of its name, which folders have too
_NOT_PYTHON = ("true", "false", "yes", "no", "on", "off")  # as text they would all count as true


def _shots(text: str) -> int:
    return 0 if text == "all" else int(text)


_shots.__name__ = "number of shots"  # what argparse calls it in its message


@dataclass(frozen=True)
class FinetuneConfig(Settings):
    """Settings of a run; the same for every variant, as in the paper (Table 4)."""

    model: list[str] = setting(
        ["convnext_tiny"],
        "one or more: base networks in timm's registry, with or without a tag, or classes or functions of your own, "
        "mypackage.nets:MyNet",
    )
    model_kwargs: dict[str, Any] = setting(
        {}, "further arguments of the models, key=value, or of one of them, model={'key': value}"
    )
    small_stem: bool = setting(False, "give the models a 3x3 stem of stride 1, for images of 32 pixels")
    pretrained: bool = setting(True, "start from timm's pretrained weights")
    checkpoint: str | None = setting(None, "start from this checkpoint of the (one) base network instead", str)
    variants: list[str] = setting(
        DEFAULT_VARIANTS,
        "base, large, large-reinit, lp2, lp4, lp8, lp16, lp256f; a mask's '-paper' form (lp2-paper) damps the kernels; "
        "lp2@layer1,layer2 converts these layers alone",
    )
    lp_layers: list[str] = setting(
        [],
        "convert these layers alone, in variants that name none: their names, or those of modules that they are in, "
        "with wildcards (layer1 or 'blocks.*.conv_dw'), or depthwise",
    )

    dataset: list[str] = setting(
        ["digits"],
        "one or more: flowers102 dtd pets aircraft ucf101 cifar100 cifar10 tiny-imagenet digits, a Hub id (org/name), "
        "a folder with train/<class>/ and test/<class>/ images, with <class>/ images or with parquet files, or a split "
        "file of CoOp's",
    )
    dataset_config: str | None = setting(None, "configuration of the Hub data set", str)
    dataset_revision: str | None = setting(None, "commit, branch or tag of the Hub data set", str)
    image_column: str | None = setting(None, "column of the images", str)
    label_column: str | None = setting(None, "column of the classes", str)
    train_split: str | None = setting(None, "split to draw from, or several joined by +", str)
    test_split: str | None = setting(None, "split to test on", str)
    test_share: float | None = setting(
        None,
        "share of each class that is kept for the test where a folder has <class>/ images and no splits; if not given "
        "a fifth, and with fewer than 100 images another fifth for each seed",
        float,
        (0.01, 0.99),
    )
    shots: int = setting(16, "training images of each class; all or 0 for all", limits=(0, inf), parse=_shots)
    sampler: str = setting("nested", "how images are drawn; coop as CoOp does", choices=("nested", "coop"))
    seeds: list[int] = setting([1, 2, 3, 4, 5], "one trial of each variant for each seed", int, SEEDS)

    epochs: int = setting(100, "passes over the training images", limits=(1, inf))
    batch_size: int = setting(
        32,
        "images of an update, over all processes and accumulation steps; what is left of an epoch is left out",
        limits=(1, inf),
    )
    grad_accum_steps: int = setting(1, "parts in which a process computes its share of a batch", limits=(1, inf))
    opt: str = setting("adamw", "optimizer, by timm's name")
    opt_eps: float | None = setting(None, "epsilon of the optimizer; timm's default if not given", float, (0, inf))
    opt_betas: list[float] = setting([], "betas of the optimizer; timm's default if not given", float, (0, 1))
    momentum: float = setting(0.9, "momentum, of optimizers that have it", limits=(0, 1))
    lr: float = setting(1e-4, "peak learning rate", limits=(TINY, inf))
    lr_sweep: list[float] = setting(
        [], "choose the rate among these, with the base network on held-out images of all seeds", float, (TINY, inf)
    )
    mask_lr_scale: float = setting(1.0, "learning rate of the masks over that of their layer", limits=(0, inf))
    weight_decay: float = setting(0.05, "weight decay; never of norms, biases and masks", limits=(0, inf))
    layer_decay: float | None = setting(None, "learning rate of a layer over that of the next one", float, (1e-6, 1))
    warmup_epochs: int = setting(5, "epochs of linear warm-up, at most half of all, then cosine", limits=(0, inf))
    warmup_lr: float | None = setting(
        None, "learning rate at the start of the warm-up; a hundredth of the peak if not given", float, (0, inf)
    )
    min_lr: float = setting(0.0, "learning rate at the end", limits=(0, inf))
    smoothing: float = setting(0.1, "label smoothing", limits=(0, 1))
    mixup: float = setting(0.0, "alpha of mixup, none at 0", limits=(0, inf))
    cutmix: float = setting(0.0, "alpha of cutmix, none at 0", limits=(0, inf))
    mixup_prob: float = setting(1.0, "probability of mixup or cutmix, of a batch or an image", limits=(0, 1))
    mixup_switch_prob: float = setting(0.5, "probability of cutmix where there are both", limits=(0, 1))
    mixup_mode: str = setting("batch", "what is mixed alike", choices=("batch", "pair", "elem"))
    reprob: float = setting(0.0, "probability of random erasing", limits=(0, 1))
    remode: str = setting("pixel", "what is put in place of what is erased", choices=("const", "rand", "pixel"))
    recount: int = setting(1, "most rectangles that are erased of an image", limits=(1, 100))
    drop_rate: float | None = setting(None, "dropout, of networks that have it", float, (0, 1))
    drop_path_rate: float | None = setting(None, "stochastic depth, of networks that have it", float, (0, 1))
    zero_init_last: bool | None = setting(
        None, "start a ResNet's blocks at 0, as timm does, or at 1, as torchvision; timm's default if not given", bool
    )
    clip_grad: float | None = setting(None, "largest norm of the gradient", float, (TINY, inf))
    model_ema_decay: float | None = setting(None, "test a moving average of the weights, of this decay", float, (0, 1))

    img_size: int | None = setting(None, "image size, pixels; the model's own if not given", int, (1, inf))
    hflip: float = setting(0.5, "probability of a horizontal flip", limits=(0, 1))
    train_crop_mode: str = setting(
        "rrc",
        "random crops of random size (rrc), or of the whole image with an eighth more around it (pad)",
        choices=("rrc", "pad"),
    )
    crop_scale_min: float = setting(0.35, "least area of a random crop (rrc), a fraction", limits=(0.01, 1))
    ratio: list[float] = setting(
        [3 / 4, 4 / 3], "least and largest width of a random crop (rrc) over its height", float, (0.01, 100)
    )
    auto_augment: str | None = setting(None, "timm's AutoAugment policy, rand-m9-mstd0.5 for instance", str)
    crop_pct: float | None = setting(
        None, "part of the image that the test sees; the model's own if not given", float, (0.01, 1)
    )

    mixed_precision: str | None = setting(
        None, "number format; what `accelerate launch` says if not given", str, choices=("no", "fp16", "bf16")
    )
    compile: bool = setting(False, "compile the network with torch.compile")
    channels_last: bool = setting(False, "keep images and kernels in the channels-last format")
    workers: int | None = setting(None, "processes that load images; chosen by the device if not given", int, (0, 1024))
    cpu_threads: int | None = setting(
        None, "threads of a process on CPUs; if not given, OMP_NUM_THREADS or its share of the cores", int, (1, 1024)
    )
    cache_mib: int = setting(4096, "keep decoded images in memory up to this size, MiB", limits=(0, inf))
    jpeg_draft: bool = setting(
        False,
        "decode only a half, a quarter or an eighth of a large JPEG's rows and columns, as many as its crops need: "
        "faster, with slightly other pixels",
    )
    check_images: bool = setting(
        True,
        "decode each image that is needed once before the first trial; if not, damaged ones show when they are met",
    )
    checkpoint_seconds: float = setting(
        60.0, "least time between a trial's checkpoints, within epochs too, seconds", limits=(0, inf)
    )
    tracker: str | None = setting(None, TRACKER_HELP, str, choices=TRACKERS)
    track_masks: bool = setting(False, TRACK_MASKS_HELP)
    track_accuracy: bool = setting(False, "test after each epoch too, and after the last on the training images")
    track_share: float = setting(
        1.0, "share of the test images, and of the training images, that --track-accuracy looks at", limits=(0.001, 1)
    )
    save_models: bool = setting(True, "save the trained model of each trial")
    push_to_hub: str | None = setting(None, "push the best trial's model to this repository (org/name)", str)
    output_dir: str = setting("output/finetune", "where trials and results go")

    def __post_init__(self) -> None:
        """Take a name for a list of one, and `"all"` shots for 0, before the settings are checked."""
        for name in ("model", "dataset"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, [value])
        if self.shots == "all":
            object.__setattr__(self, "shots", 0)
        super().__post_init__()

    def check_together(self) -> None:
        """Refuse what no run could use."""
        self._name_layers()
        self._check_names()
        self._check_paths()
        if len(self.ratio) != 2 or self.ratio[0] > self.ratio[1]:
            raise ValueError(f"`ratio` must be two numbers, the least first, got {self.ratio}.")
        if self.track_share < 1 and not self.track_accuracy:
            raise ValueError(f"`track_share` must come with track_accuracy, got {self.track_share:g} alone.")
        if self.checkpoint is not None and len(self.model) > 1:
            raise ValueError(
                f"`checkpoint` must be used with one model, got {self.checkpoint!r} with {', '.join(self.model)}. Run "
                "each network with its own."
            )
        if self.push_to_hub is not None:
            self._check_push(self.push_to_hub)
        self._check_model_kwargs()  # from here on it may take timm's registry
        if self.small_stem:
            self._give_small_stems()
            self._check_names()

    def _name_layers(self) -> None:
        """Let each variant's name say which layers it converts, so that it is the same variant in every run."""
        given = [layer for word in self.lp_layers for layer in word.split(",")]
        named = [with_layers(whole, layers or given) for whole, layers in map(split_layers, self.variants)]
        parts = [variant for variant in named if PART in variant]
        if self.lp_layers and not any(variant not in self.variants for variant in parts):
            raise ValueError(
                f"`lp_layers` must be used with variants that convert layers and name none, got "
                f"{' '.join(self.variants)}. Leave it out."
            )
        for part in parts:
            if not _PART.fullmatch(part) or len(part) > _LONGEST:
                raise ValueError(
                    "`lp_layers` must be names of layers, with wildcards or without, in at most "
                    f"{_LONGEST} letters with the variant's, got {part!r}. Give layer1 or 'blocks.*.conv_dw' for "
                    f"instance, or {DEPTHWISE}."
                )
        for setting_name, value in (("variants", named), ("lp_layers", [])):
            object.__setattr__(self, setting_name, value)

    def _check_names(self) -> None:
        check_lists(self, "model", "variants", "seeds", "dataset", *(["lr_sweep"] if self.lr_sweep else []))

    def _check_paths(self) -> None:
        for model in self.model:
            if ":" in model and not is_module_path(model):
                raise ValueError(
                    f"`model` must be a name of timm's, or a class or function by its module, got {model!r}. Write "
                    "mypackage.nets:MyNet."
                )

    def _give_small_stems(self) -> None:
        """Put the names of the networks with a small stem in place of the others, so that the settings show them."""
        from ...models.small_stem import with_small_stem

        names = {model: with_small_stem(model) for model in self.model}
        if not any(name.endswith("_small_stem") for name in names.values()):
            raise ValueError(
                f"`small_stem` must be used with networks that have a strided stem, got {', '.join(self.model)}. Leave "
                "it out."
            )
        kwargs = {names.get(name, name): value for name, value in self.model_kwargs.items()}
        for setting_name, value in (("model", list(names.values())), ("model_kwargs", kwargs), ("small_stem", False)):
            object.__setattr__(self, setting_name, value)

    def _check_model_kwargs(self) -> None:
        """Refuse arguments that the data set or another setting decides, and truth values of other languages."""
        decided = (*_DECIDED, *self.network_arguments)
        for model in self.model:
            if not isinstance(self.model_kwargs.get(model, {}), dict):
                raise ValueError(
                    f"`model_kwargs` must hold a network's arguments under its name, got {self.model_kwargs[model]!r} "
                    f"for {model}."
                )
        arguments = [(name, value) for model in self.model for name, value in self.kwargs_of(model).items()]
        for name, value in arguments:
            if name in decided:
                raise ValueError(
                    f"`model_kwargs` must not hold what the data set or another setting decides, got {name}={value!r}. "
                    "Leave it out."
                )
            if isinstance(value, str) and value.lower() in _NOT_PYTHON:
                raise ValueError(
                    f"`model_kwargs` must have True and False as Python writes them, got {name}={value!r}."
                )

    def _check_push(self, repo: str) -> None:
        """Refuse now what would fail when everything is trained."""
        from huggingface_hub.utils import HFValidationError, validate_repo_id  # takes long, and few settings need it

        try:
            validate_repo_id(repo)
            is_valid = "/" in repo and repo.isascii()  # older clients check neither
        except HFValidationError:
            is_valid = False
        if not is_valid:
            raise ValueError(f"`push_to_hub` must be org/name as the Hub allows it, got {repo!r}.")
        if len(self.dataset) > 1 or len(self.model) > 1 or not self.save_models:
            raise ValueError(
                f"`push_to_hub` must be used with one data set, one model and saved models, got {repo!r} with "
                f"{len(self.dataset)} data sets, {len(self.model)} models and save_models={self.save_models}."
            )

    def kwargs_of(self, model: str) -> dict[str, Any]:
        """Return the further arguments of one of the models: those of all models, and those under its name."""
        shared = {name: value for name, value in self.model_kwargs.items() if not self._is_network(name)}
        return {**shared, **self.model_kwargs.get(model, {})}

    def _is_network(self, name: str) -> bool:
        if name in self.model or is_module_path(name):
            return True
        from timm.models import is_model, split_model_name_tag  # takes seconds, and few settings need it

        return is_model(split_model_name_tag(name)[0])

    @property
    def mixes(self) -> bool:
        """Whether images are mixed."""
        return self.mixup_prob > 0 and (self.mixup > 0 or self.cutmix > 0)

    @property
    def network_arguments(self) -> dict[str, Any]:
        """Arguments of the networks that separate settings give."""
        settings = {name: getattr(self, name) for name in ("drop_rate", "drop_path_rate", "zero_init_last")}
        return {name: value for name, value in settings.items() if value is not None}

    @property
    def read_options(self) -> ReadOptions:
        """How the data sets are read."""
        return ReadOptions(**{option.name: getattr(self, option.name) for option in fields(ReadOptions)})

    def trial_settings(self, model: str) -> dict[str, Any]:
        """Return the settings on which the result of a model's trial depends, but for what its record has beside them.

        Those are its data set, model, variant, seed and shots.
        """
        settings = {
            name: value
            for name, value in asdict(self).items()
            if name not in _ELSEWHERE and (value or name not in _NEW)
        }
        return settings | {"model_kwargs": self.kwargs_of(model), "checkpoint_sha256": self.checkpoint_sha256}

    @cached_property
    def checkpoint_sha256(self) -> str | None:
        """Digest of the checkpoint's contents, None where there is none."""
        return None if self.checkpoint is None else file_digest(Path(self.checkpoint))


_NEW = {"jpeg_draft", "test_share"}  # settings that records have only where they are given, so that earlier runs go on
_ELSEWHERE = {
    *("model", "variants", "lp_layers", "seeds", "shots", "dataset", "lr_sweep"),
    *("workers", "cpu_threads", "cache_mib", "check_images", "checkpoint_seconds"),
    *("tracker", "track_masks", "track_accuracy", "track_share", "save_models", "push_to_hub", "output_dir"),
}
