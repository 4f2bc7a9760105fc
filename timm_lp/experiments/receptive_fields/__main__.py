"""`python -m timm_lp.experiments.receptive_fields`."""

from ...command import failures_in_one_line, require_packages

PACKAGES = ("matplotlib", "numpy", "PIL", "scipy", "sklearn", "statsmodels", "timm", "torch", "torchvision", "tqdm")


def main() -> None:
    """Run the command line, if what it needs is installed.

    Raises:
        SystemExit: If it fails; the message says why.
    """
    require_packages("python -m timm_lp.experiments.receptive_fields", "experiments", PACKAGES)
    with failures_in_one_line("python -m timm_lp.experiments.receptive_fields"):
        from .flags import parse_arguments

        parse_arguments()  # before the imports, which take seconds
        from .cli import main

        main()


if __name__ == "__main__":
    main()
