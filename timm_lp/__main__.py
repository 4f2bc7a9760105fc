"""`python -m timm_lp`: the same as `timm-lp`."""

from .cli import main

if __name__ == "__main__":
    main()
