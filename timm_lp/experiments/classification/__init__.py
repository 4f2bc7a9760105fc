"""Image classification: few-shot transfer (section 4 of the paper, Figure 3, Table 4) and training from scratch.

`accelerate launch finetune.py`, or `accelerate launch -m timm_lp.experiments.classification` from anywhere; from Python
`compare`.
"""

from typing import TYPE_CHECKING

from ...lazy import lazy_names

if TYPE_CHECKING:
    from .comparison import Comparison, compare

__all__ = ["Comparison", "compare"]

__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(__all__, ".comparison"))
