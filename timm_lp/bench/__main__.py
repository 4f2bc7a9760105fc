"""`python -m timm_lp.bench`."""

from ..command import failures_in_one_line, require_packages

PACKAGES = ("numpy", "PIL", "timm", "torch", "torchvision", "tqdm")  # without matplotlib there is no plot


def main() -> None:
    """Run the command line, if what it needs is installed.

    Raises:
        SystemExit: If it fails; the message says why.
    """
    require_packages("python -m timm_lp.bench", "bench", PACKAGES)
    with failures_in_one_line("python -m timm_lp.bench"):
        from .flags import parse_arguments

        parse_arguments()  # before the imports, which take seconds
        from .cli import main

        main()


if __name__ == "__main__":
    main()
