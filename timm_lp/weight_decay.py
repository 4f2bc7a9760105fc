"""Keep weight decay from the masks."""

import fnmatch
from functools import partial

from torch import nn

from .selection import masked_layers

_MASK_PATTERNS = ("*.C", "*.log2p")


def spare_masks_from_weight_decay(model: nn.Module) -> None:
    """Let timm's optimizers spare the masks from weight decay, wherever in a model they are.

    Weight decay widens every mask until it masks nothing. `lp_convert` and timm's registry call this for the networks
    that they return; call it for a model that contains such a network (a segmentation or detection model, a model of
    transformers, a LightningModule, a wrapper for distributed training), just before the optimizer is created. The
    model's `no_weight_decay()`, which `timm.optim.create_optimizer_v2` asks, then names the masks' parameters, besides
    what it named before. Other libraries do not ask it: give transformers' `Trainer` timm's optimizer.

    ```python
    spare_masks_from_weight_decay(model)
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    trainer = transformers.Trainer(model, arguments, optimizers=(optimizer, None))
    ```

    For an optimizer of torch's own:

    ```python
    spare_masks_from_weight_decay(model)
    groups = timm.optim.param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay())
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    ```

    Args:
        model: A model with `LpConv2d` layers, the one that the optimizer is created for; changed in place. Where no
            other parameter has such a name, the patterns `*.C` and `*.log2p` are named too, which also match once the
            model is wrapped (by `torch.compile`, say).

    Raises:
        TypeError: If `model` is not an `nn.Module`.
        ValueError: If the model has no `LpConv2d`.
    """
    ids = {id(parameter) for layer in masked_layers(model).values() for parameter in (layer.C, layer.log2p)}
    own = getattr(model, "no_weight_decay", ())
    parameters = dict(model.named_parameters())  # wrappers may give them other names than those of their modules
    masks = {name for name, parameter in parameters.items() if id(parameter) in ids}
    others = parameters.keys() - masks
    patterns = {pattern for pattern in _MASK_PATTERNS if not fnmatch.filter(others, pattern)}
    names = {*(own() if callable(own) else own), *masks, *patterns}
    model.no_weight_decay = partial(set, names)  # type: ignore[assignment] # a method to those who ask
