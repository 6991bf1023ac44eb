"""``python -m sadr_cli``, and the installed command ``sadr``."""

from sadr_cli.process import prepare


def main() -> None:
    """Entry point of the ``sadr`` command."""
    prepare()
    from sadr_cli.cli import main as command

    command()


if __name__ == "__main__":
    main()
