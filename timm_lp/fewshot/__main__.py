"""`python -m timm_lp.fewshot`: the same door as `finetune.py`."""

from .cli import main

if __name__ == "__main__":
    main()
