"""LoRA adapters, of the peft package, for networks with Lp-convolutions."""

from typing import TYPE_CHECKING

from .layers import LpConv2d

if TYPE_CHECKING:
    from peft import LoraConfig


def lp_lora_config(config: "LoraConfig") -> "LoraConfig":
    """Let a LoRA configuration of peft adapt `LpConv2d` layers.

    ```python
    config = lp_lora_config(LoraConfig(target_modules=["conv1", "conv2"], r=8))
    model = get_peft_model(timm.create_model("lp2_resnet18", pretrained=True), config)
    model.merge_and_unload()  # after training: the Lp network with the adapters in its kernels
    ```

    An adapter then updates the kernel under the mask, `y = conv(x, (W + B A * scaling) * mask)`, and merging is exact.
    An adapter that peft makes without this would ignore the masks, and is refused. What peft loads needs it as well:

    ```python
    config = lp_lora_config(LoraConfig.from_pretrained(folder))
    model = PeftModel.from_pretrained(timm.create_model("lp2_resnet18", pretrained=True), folder, config=config)
    ```

    Plain LoRA is supported, with dropout and `use_rslora`, for convolutions with and without groups. What is not
    (`use_dora`, `lora_bias` and so on) is refused when the adapter is added.

    Args:
        config: A `peft.LoraConfig`, changed in place. For other layers than `LpConv2d` it says what it said before.

    Returns:
        The configuration.

    Raises:
        ImportError: If peft is not installed, or older than version 0.20.
        TypeError: If `config` is not a `peft.LoraConfig`, or one of another method (AdaLoRA).
    """
    try:
        from peft import LoraConfig, PeftType

        from ._lora_layer import LoraLpConv2d
    except ImportError as error:
        raise ImportError('`lp_lora_config` needs peft 0.20 or newer: pip install "peft>=0.20".') from error
    if not isinstance(config, LoraConfig) or config.peft_type != PeftType.LORA:
        raise TypeError(f"`config` must be a peft.LoraConfig, got {type(config).__name__}. Other methods ignore masks.")
    config._register_custom_module({LpConv2d: LoraLpConv2d})
    return config
