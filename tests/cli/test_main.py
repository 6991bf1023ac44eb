"""How every command ends: codes, one sentence, the traceback only when asked for."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress
from shell import ROOT
from typer.testing import CliRunner

from sadr_cli import cli
from sadr_cli.cli import app, common
from sadr_cli.cli.common import Output, ProgressBar, json_line, printable
from sadr_cli.errors import UsageError


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object):
        raise error

    monkeypatch.setattr("sadr_cli.doctor.examine", fail)


def test_what_nobody_expected_is_one_line_and_code_1(monkeypatch) -> None:
    failing(monkeypatch, RuntimeError("no idea\nsecond line"))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1 and "Traceback" not in result.stderr
    assert result.stderr.strip() == (
        "error: internal error, RuntimeError: no idea (SADR_DEBUG=1 shows the traceback)"
    )
    failing(monkeypatch, RuntimeError())
    assert "internal error, RuntimeError (" in CliRunner().invoke(app, ["doctor"]).stderr


def test_the_traceback_comes_when_asked_for(monkeypatch) -> None:
    failing(monkeypatch, RuntimeError("no idea"))
    monkeypatch.setenv("SADR_DEBUG", "1")
    assert "Traceback" in CliRunner().invoke(app, ["doctor"]).stderr
    monkeypatch.setenv("SADR_DEBUG", "0")
    assert "Traceback" not in CliRunner().invoke(app, ["doctor"]).stderr
    monkeypatch.setitem(common._state, "verbose", 0)
    assert "Traceback" in CliRunner().invoke(app, ["doctor", "-vv"]).stderr


def test_interrupted(monkeypatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 130 and result.stderr.strip() == "error: interrupted"


def test_a_reader_that_went_away_is_no_error() -> None:
    command = [sys.executable, "-m", "sadr_cli", "weights", "list", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.close()
        errors = process.stderr.read().decode()
        assert process.wait(60) == 141, errors
    assert "Traceback" not in errors and "error" not in errors


@pytest.mark.parametrize("arguments", [["nothing"], ["detect", "--nothing"], ["weights", "none"]])
def test_wrong_usage_is_2(arguments) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and result.stdout == ""


def test_main_answers_version_and_completion(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["sadr", "--version"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code and capsys.readouterr().out.startswith("sadr ")
    monkeypatch.setattr(sys, "argv", ["sadr"])
    monkeypatch.setenv("_SADR_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "sadr doc")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().out.split() == ["doctor"]


# Output ----------------------------------------------------------------------------------------


def test_quiet_and_verbose_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        Output(quiet=True, verbose=1)


def test_json_lines_hold_what_json_can() -> None:
    values = {
        "array": np.array([1.5, np.nan], np.float32),
        "path": ROOT,
        "number": np.int64(3),
        "infinite": float("inf"),
        "nested": [{"a": (1, np.float32(2))}],
    }
    back = json.loads(json_line(values))
    assert back["array"] == [1.5, None] and back["infinite"] is None
    assert back["path"] == str(ROOT) and back["number"] == 3 and back["nested"] == [{"a": [1, 2]}]
    with pytest.raises(TypeError, match="object does not fit into JSON"):
        json_line({"a": object()})


def test_messages_stay_on_one_line() -> None:
    assert printable("a\nb\x1b[31m") == "a\\nb\\x1b[31m"


def test_the_bar_counts_and_is_drawn_on_terminals() -> None:
    stream = io.StringIO()
    with Progress(console=Console(file=stream, force_terminal=True)) as progress:
        bar = ProgressBar(progress, progress.add_task("Working", total=2))
        bar.advance()
        bar.update(total=4, label="Still\nworking")
        bar.advance(3)
    assert bar.completed == 4 and progress.finished
    assert "Still\\nworking" in stream.getvalue() and "100%" in stream.getvalue()
    silent = ProgressBar()
    silent.advance(2)
    silent.update(total=9)
    assert silent.completed == 2
