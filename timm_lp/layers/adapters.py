"""peft's adapters around `LpConv2d`: those that ignore its masks are refused. Nothing here imports peft."""

import sys

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from .lp_conv2d import LpConv2d

# Methods that scale a layer's input or output, or train a whole copy of it; its masks stay in force.
_EXACT = {"peft.tuners.ia3.layer": "IA3Layer", "peft.tuners.ln_tuning.layer": "LNTuningLayer"}


def is_adapter(module: nn.Module) -> bool:
    """Tell whether a module is one of peft's layers around another layer."""
    return isinstance(module, _loaded("peft.tuners.tuners_utils", "BaseTunerLayer"))


def refuse_adapter(module: nn.Module, name: str, layer: nn.Module | None) -> None:
    """Refuse an adapter of peft that ignores masks, when it is put around an `LpConv2d`.

    torch calls this for every submodule that a module gets. An adapter that knows masks has the attribute
    `adapts_lp_conv2d`.

    Args:
        module: What gets a submodule.
        name: The submodule's name.
        layer: The submodule.

    Raises:
        ValueError: If `module` is such an adapter.
    """
    if name != "base_layer" or layer is None or not is_adapter(module):
        return
    while is_adapter(layer):
        layer = layer.base_layer  # type: ignore[assignment] # a module
    exact = tuple(_loaded(home, kind) for home, kind in _EXACT.items())
    if isinstance(layer, LpConv2d) and not (getattr(module, "adapts_lp_conv2d", False) or isinstance(module, exact)):
        method = type(module).__module__.removesuffix(".layer").rpartition(".")[2]
        raise ValueError(
            f"`target_modules` must name no LpConv2d for this adapter ({type(module).__name__} of peft's {method}), "
            f"got LpConv2d({layer.extra_repr()}). It would ignore the masks. Take LoRA, with `timm_lp.lora."
            "lp_lora_config(config)` as its configuration, in `PeftModel.from_pretrained(..., config=...)` too, or IA3."
        )


def _loaded(home: str, kind: str) -> type | tuple[()]:
    """Return a class, or what nothing is an instance of while its module is not imported."""
    return getattr(sys.modules.get(home), kind, ())


register_module_module_registration_hook(refuse_adapter)
