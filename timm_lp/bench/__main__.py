"""`python -m timm_lp.bench`."""

from .cli import main

if __name__ == "__main__":
    main()
