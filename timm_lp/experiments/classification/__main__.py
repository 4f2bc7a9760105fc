"""`python -m timm_lp.experiments.classification`, the same door as `finetune.py`."""

from ...command import failures_in_one_line, require_packages

# matplotlib and datasets are not needed by every run; what needs them says so.
PACKAGES = (
    *("accelerate", "numpy", "PIL", "psutil", "scipy", "sklearn", "statsmodels", "timm", "torch", "torchvision"),
    *("tqdm", "yaml"),
)


def main() -> None:
    """Run the command line, if what it needs is installed.

    Raises:
        SystemExit: If it fails; the message says why.
    """
    require_packages("finetune.py", "experiments", PACKAGES)
    with failures_in_one_line("finetune.py"):
        from .flags import parse_arguments

        parse_arguments()  # before the imports, which take seconds
        from .cli import main

        main()


if __name__ == "__main__":
    main()
