"""`python -m timm_lp.experiments.robustness`."""

from ...command import failures_in_one_line, require_packages

COMMAND = "python -m timm_lp.experiments.robustness"
# Without matplotlib there is no picture, and datasets is not needed by every run.
PACKAGES = (
    *("accelerate", "numpy", "PIL", "psutil", "scipy", "sklearn", "statsmodels", "timm", "torch", "torchvision"),
    *("tqdm", "yaml"),
)


def main() -> None:
    """Run the command line, if what it needs is installed.

    Raises:
        SystemExit: If it fails; the message says why.
    """
    require_packages(COMMAND, "experiments", PACKAGES)
    with failures_in_one_line(COMMAND):
        from .flags import parse_arguments

        parse_arguments()  # before the imports, which take seconds
        from .cli import main

        main()


if __name__ == "__main__":
    main()
