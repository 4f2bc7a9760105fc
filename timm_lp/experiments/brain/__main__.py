"""`python -m timm_lp.experiments.brain`."""

from ...command import failures_in_one_line, require_packages

# Without matplotlib there is no picture; h5py is needed by `prepare` only, which says so.
PACKAGES = ("numpy", "PIL", "scipy", "statsmodels", "timm", "torch", "tqdm")


def main() -> None:
    """Run the command line, if what it needs is installed.

    Raises:
        SystemExit: If it fails; the message says why.
    """
    require_packages("python -m timm_lp.experiments.brain", "brain", PACKAGES)
    with failures_in_one_line("python -m timm_lp.experiments.brain"):
        from .flags import parse_arguments

        parse_arguments()  # before the imports, which take seconds
        from .cli import main

        main()


if __name__ == "__main__":
    main()
