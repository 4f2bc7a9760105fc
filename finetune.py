"""Compare base, large and Lp networks on few-shot transfer: `accelerate launch finetune.py --help`."""

from timm_lp.cli import start

if __name__ == "__main__":
    start("finetune")
