"""`python -m hub_export`, and the console command `timm-lp-hub`."""

from timm_lp.command import failures_in_one_line

from .flags import parse_arguments


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: If it fails; the message says why.
    """
    with failures_in_one_line("timm-lp-hub"):
        parse_arguments()  # before the imports, which take seconds
        from .cli import main

        main()


if __name__ == "__main__":
    main()
