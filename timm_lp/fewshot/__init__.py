"""The few-shot transfer benchmark (section 4 of the paper, Figure 3, Table 4).

`accelerate launch finetune.py`, or `accelerate launch -m timm_lp.fewshot` from anywhere.
"""
