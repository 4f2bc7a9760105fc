"""Speed and memory of Lp-convolution beside plain PyTorch: `python -m timm_lp.bench`."""
