"""`python -m hub_export`, and the console command `timm-lp-hub`: the same as `timm-lp hub`."""

from functools import partial

from timm_lp.cli import start

main = partial(start, "hub")

if __name__ == "__main__":
    main()
