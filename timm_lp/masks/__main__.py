"""`python -m timm_lp.masks`."""

from ..command import failures_in_one_line, require_packages

PACKAGES = ("timm", "torch", "tqdm")  # without matplotlib there are no pictures


def main() -> None:
    """Run the command line, if what it needs is installed.

    Raises:
        SystemExit: If it fails; the message says why.
    """
    require_packages("python -m timm_lp.masks", "masks", PACKAGES)
    with failures_in_one_line("python -m timm_lp.masks"):
        from .flags import parse_arguments

        parse_arguments()  # before the imports, which take seconds
        from .cli import main

        main()


if __name__ == "__main__":
    main()
