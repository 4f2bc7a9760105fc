"""Compare base, large and Lp networks on few-shot transfer: `accelerate launch finetune.py --help`."""

from timm_lp.experiments.classification.__main__ import main

if __name__ == "__main__":
    main()
