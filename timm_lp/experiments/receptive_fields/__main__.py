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
        from .cli import main  # takes seconds, in which the user may interrupt it

        main()


if __name__ == "__main__":
    main()
