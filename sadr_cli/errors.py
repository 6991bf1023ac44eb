"""Errors a user can cause, each with its exit code.

Every error carries one clear sentence: what is wrong, with which file, and what to do.
Commands print it on stderr without a traceback and exit with :attr:`SadrError.exit_code`.
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
    MISSING = 5  # missing or damaged weights or data
    INTERRUPTED = 130
    STALLED = 142  # 128 + SIGALRM: no progress for too long


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
    """Weights or data are missing, damaged or laid out differently than expected."""

    exit_code = ExitCode.MISSING


class OutputError(SadrError):
    """The output cannot be written (read-only folder, full disk...); the run can be resumed."""


class TrainingError(SadrError):
    """Training failed (the loss is not a number); the last good state is kept."""


def exit_code(
    done: int,
    failed: int,
    faces: int | None = None,
    no_face: int = 0,
    fail_on_no_face: bool = False,
) -> ExitCode:
    """The exit code of a run over many inputs.

    done: processed inputs, including those without a face; failed: inputs with an error; faces:
    total number of faces (None: the run does not look for faces); no_face: inputs among ``done``
    without a face.
    """
    if failed or (fail_on_no_face and no_face):
        return ExitCode.SOME_FAILED
    if done == 0 or faces == 0:
        return ExitCode.NOTHING
    return ExitCode.OK
