"""The ``sadr`` command: one file a subcommand, each imported only when it is asked for.

A command lives in ``cli/<name>.py`` as a function ``<name>`` with typer's ``Annotated`` options
(or, for a command with subcommands, a ``typer.Typer`` named ``app``) and one line in
:data:`COMMANDS`. At module level it imports nothing heavier than typer and :mod:`.common`.

Exit codes are those of :class:`sadr_cli.errors.ExitCode`; 141 (128 + SIGPIPE) when the reader
of standard output went away, as with any other tool in a pipe.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sadr_cli.errors import ExitCode, SadrError

# In the order of the help.
COMMANDS = (
    "detect",
    "reconstruct",
    "evaluate",
    "export",
    "train",
    "weights",
    "bench",
    "doctor",
    "completion",
)

_BROKEN_PIPE = 141
# typer carries its own copy of click in some versions: take the class it really raises.
_USAGE_ERRORS: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"
)


class _LazyGroup(TyperGroup):
    """Commands come from :data:`COMMANDS`; every error leaves as one sentence and a code."""

    def list_commands(self, ctx: Any) -> list[str]:
        here = Path(__file__).parent
        return [name for name in COMMANDS if (here / f"{name}.py").is_file()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = import_module(f"{__name__}.{cmd_name}")
        sub = getattr(module, "app", None)
        if sub is None:
            sub = _new_app()
            sub.command(cmd_name)(getattr(module, cmd_name))
        command = typer.main.get_command(sub)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (_USAGE_ERRORS, typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:
            # What is still buffered has no reader; keep the interpreter's last flush silent.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_BROKEN_PIPE) from None
        except KeyboardInterrupt as error:
            _report(error, "interrupted")
            raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
        except SadrError as error:
            _report(error, str(error))
            raise typer.Exit(int(error.exit_code)) from None
        except Exception as error:
            _report(error, _unexpected(error))
            raise typer.Exit(int(ExitCode.INTERNAL)) from None


def _report(error: BaseException, message: str) -> None:
    from sadr_cli.cli.common import print_error, print_traceback, wants_traceback

    if wants_traceback():
        print_traceback(error)
    print_error(message)


def _unexpected(error: Exception) -> str:
    text = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    return f"internal error, {reason} (SADR_DEBUG=1 shows the traceback)"


def _new_app(**settings: Any) -> typer.Typer:
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


def _print_version(wanted: bool) -> None:
    if wanted:
        from sadr_cli.version import __version__

        print(f"sadr {__version__}")
        raise typer.Exit


app = _new_app(cls=_LazyGroup, no_args_is_help=True)


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """3-D faces from photographs: detection, reconstruction, evaluation, training."""


def main() -> None:
    """Entry point of the ``sadr`` command."""
    if not sys.warnoptions:  # what libraries think of a damaged file is not for the user
        warnings.simplefilter("ignore")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    if "_SADR_COMPLETE" in os.environ:  # asked by the script of `sadr completion`
        from typer.completion import completion_init

        completion_init()
    try:
        app(prog_name="sadr")
    except KeyboardInterrupt:
        sys.exit(int(ExitCode.INTERRUPTED))
