"""The ``sadr`` command: one module per subcommand, imported only when that command is run.

A command is a function ``<name>`` in ``cli/<name>.py`` with typer's ``Annotated`` options and
groups of them (:mod:`.options`) or, if it has subcommands, a ``typer.Typer`` named ``app``; and a
line in :data:`COMMANDS`. At module level it imports nothing heavier than typer. It parses its
options, calls the library and reports the results.

Exit codes are those of :class:`sadr_cli.errors.ExitCode`, and 141 (128 + SIGPIPE) if the reader of
standard output has gone, as usual for tools in a pipe.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from inspect import getdoc
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from sadr_cli.cli.command import Command, expand_groups
from sadr_cli.cli.output import print_error, print_traceback, standard_output_error, wants_traceback
from sadr_cli.errors import ExitCode, SadrError
from sadr_cli.process import BROKEN_PIPE, check_working_folder, flush, prepare

# In the order of `sadr --help`.
COMMANDS = (
    "detect",
    "reconstruct",
    "live",
    "evaluate",
    "export",
    "compare",
    "train",
    "weights",
    "bench",
    "doctor",
    "completion",
)

# Some versions of typer bundle click: this is the class that typer actually raises.
_USAGE_ERRORS: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"
)


class _Ended(Exception):
    """Carries an exception past typer, which would handle it in its own way."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__()
        self.reason = reason


class Group(TyperGroup):
    """Commands that report errors as one sentence and an exit code, with unabridged help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args[:1] == ["help"]:  # sadr help detect
            args = [*args[1:], "--help"]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            ctx.fail(f"there is no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        names = self.list_commands(ctx)
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.line_on(ctx, name)) for name in names])

    def line_on(self, ctx: Any, name: str) -> str:
        """The line on the command ``name`` in the help of all."""
        command: Any = self.get_command(ctx, name)
        return str(command.get_short_help_str(200))

    def invoke(self, ctx: Any) -> Any:
        check_working_folder()
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, OSError) as error:
            raise _Ended(error) from error

    def main(self, *args: Any, **settings: Any) -> NoReturn:
        try:
            code = super().main(*args, **{**settings, "standalone_mode": False})
        except _Ended as end:
            code = _report(end.reason)
        except OSError as error:  # while printing help or the version
            code = _report(standard_output_error(error))
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            code = _report(error)
        flush()
        sys.exit(code if isinstance(code, int) else 0)


class _LazyGroup(Group):
    """The group of :data:`COMMANDS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def line_on(self, ctx: Any, name: str) -> str:
        module = import_module(f"{__name__}.{name}")
        if hasattr(module, "app"):
            return super().line_on(ctx, name)
        # Without making its options, which takes a hundred times as long.
        return " ".join((getdoc(getattr(module, name)) or "").partition("\n\n")[0].split())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"{__name__}.{cmd_name}")
        sub = getattr(module, "app", None)
        if sub is None:
            sub = new_app()
            add_command(sub, cmd_name, getattr(module, cmd_name))
        command = typer.main.get_command(sub)
        command.name = cmd_name
        return command


def _report(error: BaseException) -> int:
    """Print the error as one sentence; returns the exit code."""
    code, message = _judge(error)
    if wants_traceback() and not isinstance(error, (*_ENDS, _USAGE_ERRORS)):
        print_traceback(error)
    if message:
        print_error(message)
    return code


_ENDS = (SystemExit, BrokenPipeError)


def _judge(error: BaseException) -> tuple[int, str]:
    """Exit code and message of an error; an empty message prints nothing."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0, ""
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE, ""
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return int(ExitCode.INTERRUPTED), "interrupted"
    if isinstance(error, SadrError):
        return int(error.exit_code), str(error)
    if isinstance(error, _USAGE_ERRORS):
        return int(ExitCode.USAGE), _usage(error)
    if isinstance(error, ImportError) and not (error.name or "").startswith("sadr_cli"):
        return int(ExitCode.MISSING), f"{_first_line(error)}: sadr doctor shows how to install it"
    return int(ExitCode.INTERNAL), _unexpected(error)


def _usage(error: Any) -> str:
    context: Any = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(context.get_help(), err=True)
        return ""
    text = error.format_message().strip().rstrip(".")
    near = getattr(error, "possibilities", None)
    if near is not None:  # an unknown option
        text = f"there is no option {error.option_name}"
        text += f": did you mean {' or '.join(sorted(near))}?" if near else ""
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    return text[:1].lower() + text[1:] + hint


def _unexpected(error: BaseException) -> str:
    text = _first_line(error)
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"internal error, {reason} (SADR_DEBUG=1 shows the traceback)"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")


def new_app(**settings: Any) -> typer.Typer:
    """A typer application with this project's settings."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        **{"cls": Group, **settings},
    )


def add_command(app: typer.Typer, name: str, function: Callable[..., None]) -> None:
    """Add ``function`` as a command; its parameters may be groups of options."""
    app.command(name, cls=Command)(expand_groups(function))


def _print_version(wanted: bool) -> None:
    if wanted:
        from sadr_cli.version import __version__

        print(f"sadr {__version__}")
        raise typer.Exit


app = new_app(cls=_LazyGroup, no_args_is_help=True)


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """3-D face reconstruction from photos: detection, reconstruction, evaluation, training."""


def main() -> None:
    """Entry point of the ``sadr`` command."""
    prepare()
    if "_SADR_COMPLETE" in os.environ:  # called by the script of `sadr completion`
        from typer.completion import completion_init

        completion_init()
    try:
        app(prog_name="sadr")
    except KeyboardInterrupt:
        sys.exit(int(ExitCode.INTERRUPTED))
