"""``python -m sadr_cli`` is ``sadr``."""

from sadr_cli.cli import main

if __name__ == "__main__":
    main()
