"""Errors a user can cause, each with its exit code.

Every error carries one clear sentence: what is wrong, with which file, and what to do.
Commands print it on stderr without a traceback and leave with :attr:`SadrError.exit_code`.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every ``sadr`` command."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    SOME_FAILED = 3
    NOTHING = 4  # nothing to do, or no face anywhere
    MISSING = 5  # weights or data missing or damaged
    INTERRUPTED = 130


class SadrError(Exception):
    """Base of all errors that are reported to the user as one sentence."""

    exit_code: ExitCode = ExitCode.INTERNAL


class UsageError(SadrError):
    """The command line or an argument of the library is wrong."""

    exit_code = ExitCode.USAGE


class InputError(SadrError):
    """One input cannot be used (unreadable, truncated, too large, no face...)."""

    exit_code = ExitCode.SOME_FAILED


class NothingToDoError(SadrError):
    """No input matched, or no face was found anywhere."""

    exit_code = ExitCode.NOTHING


class MissingDataError(SadrError):
    """Weights or data are missing, damaged or of another layout than expected."""

    exit_code = ExitCode.MISSING


class OutputError(SadrError):
    """The output cannot be written (read-only folder, full disk...): the run stops, resumable."""

    exit_code = ExitCode.INTERNAL


class TrainingError(SadrError):
    """A training went wrong (the loss is no number any more): the last good state is kept."""

    exit_code = ExitCode.INTERNAL
