"""`python -m hub_export`."""

from .cli import main

if __name__ == "__main__":
    main()
