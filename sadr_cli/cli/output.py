"""Output of commands: results and JSON lines on standard output, messages on standard error.

    out = messages.open(results=True)
    with out.progress("Detecting") as bar:
        for item in ...:
            out.result("photo.jpg: 1 face")           # nothing with --json
            out.emit({"file": ..., "box": ...})       # one JSON line; nothing without --json
            out.warn("photo.jpg: no face found")
            bar.advance()
    out.info("12 faces in 3 photos")

Text is never interpreted as markup, and control characters are escaped, so any file name can be
printed. Without a standard error, messages are dropped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TextIO, cast

from sadr_cli.cli.progress import LinesBar, ProgressBar, TerminalBar
from sadr_cli.documents import compact, plain
from sadr_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_state = {"verbose": 0}
_FORCED = ("FORCE_COLOR", "TTY_COMPATIBLE", "JPY_PARENT_PID")  # with these rich may use colours


def remember_verbosity(value: int) -> int:
    """Callback of --verbose: remember its value for :func:`wants_traceback`."""
    _state["verbose"] = value
    return value


def wants_traceback() -> bool:
    return _state["verbose"] >= 2 or os.environ.get("SADR_DEBUG", "") not in ("", "0")


class _Messages:
    """Standard error for messages and the bar. Once its reader or terminal is gone, what is
    written is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@lru_cache(maxsize=2)
def _make_console(stream: Any) -> Console:
    from rich.console import Console

    return Console(file=cast(TextIO, _Messages(stream)), highlight=False, soft_wrap=True)


def _is_log(stream: Any) -> bool:
    """Whether ``stream`` shows no colours; rich, which finds out too, takes 0.1 s to import."""
    try:
        return not stream.isatty() and not any(os.environ.get(name) for name in _FORCED)
    except ValueError:  # closed
        return True


def console() -> Console:
    """The rich console on the current ``sys.stderr``: colours on terminals, unless NO_COLOR."""
    return _make_console(sys.stderr)


def printable(text: str, stream: Any = None) -> str:
    """``text`` on one line: control characters, and characters that ``stream`` (default: standard
    error) cannot encode, are escaped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    encoding = getattr(stream or sys.stderr, "encoding", None) or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _say(text: str, label: str = "", label_style: str = "", style: str = "") -> None:
    if _is_log(sys.stderr):
        stream = _Messages(sys.stderr)
        stream.write(label + printable(text) + "\n")
        stream.flush()
        return
    from rich.text import Text

    console().print(Text.assemble((label, label_style), (printable(text), style)))


def print_error(text: str) -> None:
    _say(text, "error: ", "bold red")


def print_traceback(error: BaseException) -> None:
    import traceback

    traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)


class Output:
    """The output of one command; see the module's docstring.

    quiet: print only warnings and errors. verbose: print details as well. json: print JSON lines
    instead of text. results: results go to standard output; OutputError if it is closed.
    """

    def __init__(
        self, quiet: bool = False, verbose: int = 0, json: bool = False, results: bool = False
    ) -> None:
        if quiet and verbose:
            raise UsageError("--quiet and --verbose exclude each other")
        self.quiet = quiet
        self.verbose = verbose
        self.json = json
        self._bar: ProgressBar | None = None
        if json or results:
            _check_standard_output()

    def info(self, text: str) -> None:
        """A message, unless --quiet."""
        if not self.quiet:
            _say(text)

    def detail(self, text: str) -> None:
        """A message with -v."""
        if self.verbose:
            _say(text, style="dim")

    def warn(self, text: str) -> None:
        """A message that --quiet keeps: something was skipped or failed, and the run continues."""
        _say(text, "warning: ", "yellow")

    def result(self, text: str, style: str = "") -> None:
        """A line of results, in ``style`` on a terminal; nothing with --json."""
        if not self.json:
            line = printable(text, sys.stdout)
            self._write(line, _styled(line, style) if style else None)

    def document(self, text: str) -> None:
        """Trusted text, unchanged, of any number of lines."""
        self._write(text)

    def table(self, rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
        """Rows of cells as aligned results; nothing with --json.

        styles: for each row, the colour of its second to last cell on a terminal.
        """
        if self.json:
            return
        shown = [[printable(cell, sys.stdout) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        for i, row in enumerate(shown):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            style = styles[i] if i < len(styles) else ""
            self._write("  ".join(cells).rstrip(), _marked(cells, style))

    def emit(self, record: dict[str, Any]) -> None:
        """``record`` as one JSON line, only with --json; NaN and infinity become null."""
        if self.json:
            self._write(json_line(record))

    def _write(self, line: str, marked: Text | None = None) -> None:
        """marked: the line with colours for terminals."""
        shares = isinstance(self._bar, TerminalBar)
        if sys.stdout.isatty() and (marked is not None or shares):
            # With results and a bar on one terminal, the bar's console prints above the bar.
            stream = console() if shares else _make_console(sys.stdout)
            stream.print(marked or _styled(line))
            return
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except OSError as error:
            raise standard_output_error(error) from error

    @contextmanager
    def progress(
        self, label: str, total: float | None = None, unit: str = ""
    ) -> Iterator[ProgressBar]:
        """A bar on a terminal, else a line every ten seconds; nothing with --quiet.

        Messages and results printed in the meantime appear above the bar.
        """
        bar = ProgressBar(label, total, unit)
        # FORCE_COLOR also makes is_terminal true, but a log file must not get a bar.
        plain = self.quiet or _is_log(sys.stderr)
        if not plain and console().is_terminal and sys.stderr.isatty():
            bar = TerminalBar(console(), label, total, unit)
        elif not self.quiet:
            bar = LinesBar(_say, label, total, unit)
        with bar:
            self._bar = bar
            try:
                yield bar
            finally:
                self._bar = None


def _styled(line: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(line, style)


def _marked(cells: Sequence[str], style: str) -> Text | None:
    """The cells as a line whose second to last cell is coloured."""
    if not style:
        return None
    from rich.text import Text

    *first, status, last = cells
    return Text.assemble("  ".join([*first, ""]), (status, style), f"  {last.rstrip()}")


def _check_standard_output() -> None:
    if sys.stdout is None or sys.stdout.closed:
        raise OutputError("cannot write results: standard output is closed")
    try:
        number = sys.stdout.fileno()
    except OSError:  # an in-memory stream of the caller
        return
    try:
        os.write(number, b"")
    except OSError as error:
        raise standard_output_error(error) from error


def standard_output_error(error: OSError) -> OSError | OutputError:
    """The error for results that cannot be written; a broken pipe is returned unchanged."""
    if isinstance(error, BrokenPipeError):  # the reader has all it wanted
        return error
    reason = error.strerror or str(error)
    return OutputError(f"cannot write results to standard output: {reason.lower()}")


def json_line(record: dict[str, Any]) -> str:
    """``record`` as one line of strict JSON in ASCII, so file names survive any encoding."""
    return compact(plain(record)).decode()


def plural(count: int, noun: str) -> str:
    """``1 face``, ``2 faces``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(first: str, *counts: tuple[int, str]) -> str:
    """``first`` and the counts that are not zero, separated by commas."""
    return ", ".join([first, *(f"{number} {what}" for number, what in counts if number)])
