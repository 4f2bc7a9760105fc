"""Robustness: trained networks on corrupted images, CIFAR-100-C for instance (section 4 of the paper, Table 2).

`python -m timm_lp.experiments.robustness`, or `timm-lp robustness`.
"""
