"""``sadr completion``: shell completion of commands, options and their values."""

from __future__ import annotations

from typing import Annotated

import typer

from sadr_cli.cli.output import Output

SHELLS = ("bash", "zsh", "fish")


def completion(
    shell: Annotated[
        str,
        typer.Argument(
            metavar="|".join(SHELLS), help="Your shell.", autocompletion=lambda: list(SHELLS)
        ),
    ],
) -> None:
    """Print the completion script for a shell.

    bash: put `eval "$(sadr completion bash)"` into ~/.bashrc; zsh: put
    `eval "$(sadr completion zsh)"` into ~/.zshrc, after compinit; fish: write the script to
    ~/.config/fish/completions/sadr.fish.

    Example: sadr completion fish > ~/.config/fish/completions/sadr.fish
    """
    from typer.completion import get_completion_script

    from sadr_cli.errors import UsageError

    if shell not in SHELLS:
        raise UsageError(f"no completion for {shell!r}: choose one of {', '.join(SHELLS)}")
    script = get_completion_script(prog_name="sadr", complete_var="_SADR_COMPLETE", shell=shell)
    Output(results=True).document(script)
