"""Image classification: few-shot transfer (section 4 of the paper, Figure 3, Table 4) and training from scratch.

`accelerate launch finetune.py`, or `accelerate launch -m timm_lp.experiments.classification` from anywhere.
"""
