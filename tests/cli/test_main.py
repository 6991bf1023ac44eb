"""How every command ends: codes, one sentence, the traceback only when asked for."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from rich.console import Console
from shell import ROOT
from typer.testing import CliRunner

from sadr_cli import cli
from sadr_cli.cli import app, output
from sadr_cli.cli.output import Output, json_line, printable
from sadr_cli.cli.progress import LinesBar, ProgressBar, TerminalBar, duration
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


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'cv2'", name="cv2"),
        ImportError("libGL.so.1: cannot open shared object file\nmore", name="cv2"),
    ],
)
def test_what_is_not_installed_is_no_internal_error(monkeypatch, error) -> None:
    failing(monkeypatch, error)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 5
    line = str(error).splitlines()[0]
    assert result.stderr == f"error: {line}: sadr doctor shows how to install it\n"


def test_the_traceback_comes_when_asked_for(monkeypatch) -> None:
    failing(monkeypatch, RuntimeError("no idea"))
    monkeypatch.setenv("SADR_DEBUG", "1")
    assert "Traceback" in CliRunner().invoke(app, ["doctor"]).stderr
    monkeypatch.setenv("SADR_DEBUG", "0")
    assert "Traceback" not in CliRunner().invoke(app, ["doctor"]).stderr
    monkeypatch.setitem(output._state, "verbose", 0)
    assert "Traceback" in CliRunner().invoke(app, ["doctor", "-vv"]).stderr


def test_interrupted(monkeypatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 130 and result.stderr.strip() == "error: interrupted"


def test_a_reader_that_went_away_is_no_error() -> None:
    command = [sys.executable, "-m", "sadr_cli", "weights", "list", "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(writer)
    errors = done.stderr
    assert done.returncode == 141, errors
    assert "Traceback" not in errors and "error" not in errors


@pytest.mark.parametrize("arguments", [["nothing"], ["detect", "--nothing"], ["weights", "none"]])
def test_wrong_usage_is_2(arguments) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [["detect", "x.jpg", "--crops", ""], ["reconstruct", "x.jpg", "--out="]],
)
def test_an_empty_name_is_not_the_working_folder(arguments) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and "the name is empty" in result.stderr
    assert arguments[-2 if "" in arguments else -1].rstrip("=") in result.stderr


def test_nothing_is_made_when_there_is_nothing_to_do(tmp_path) -> None:
    made = tmp_path / "crops"
    result = CliRunner().invoke(app, ["detect", str(tmp_path / "no.jpg"), "--crops", str(made)])
    assert result.exit_code == 4 and not made.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["detct"], "there is no command 'detct': did you mean detect? (see sadr --help)"),
        (["weights", "shw"], "did you mean show? (see sadr weights --help)"),
        (["detect", "x", "--detectr", "y"], "--detectr"),
        (["train", "x", "--nonsense"], "(see sadr train --help)"),
        (["detect", "x", "--min-score", "2"], "--min-score takes a number from 0 to 1, not '2'"),
    ],
)
def test_usage_errors_are_said_like_all_others(arguments, words) -> None:
    result = CliRunner().invoke(app, arguments, prog_name="sadr")
    assert result.exit_code == 2 and words in result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_help_is_a_command_too() -> None:
    for words, same in ((["help"], ["--help"]), (["help", "detect"], ["detect", "--help"])):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0
        assert result.stdout == CliRunner().invoke(app, same).stdout
    assert CliRunner().invoke(app, ["-V"]).stdout.startswith("sadr ")


def test_no_description_is_cut_short() -> None:
    for command in ([], ["weights"]):
        result = CliRunner().invoke(app, [*command, "--help"])
        listed = result.stdout[result.stdout.index("Commands:") :]
        assert "..." not in listed


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
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        json_line({"a": object()})


def test_messages_stay_on_one_line() -> None:
    assert printable("a\nb\x1b[31m") == "a\\nb\\x1b[31m"


def test_the_bar_counts_and_is_drawn_on_terminals() -> None:
    stream = io.StringIO()
    with TerminalBar(Console(file=stream, force_terminal=True, width=100), "Working", 2) as bar:
        bar.advance()
        bar.update(total=4, label="Still\\nworking")
        bar.advance(3)
    assert bar.completed == 4
    assert "Still\\nworking" in stream.getvalue() and "4/4" in stream.getvalue()
    silent = ProgressBar()
    silent.advance(2)
    silent.update(total=9)
    assert silent.completed == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("results", [io.StringIO, Terminal])
@pytest.mark.parametrize("messages", [io.StringIO, Terminal])
def test_results_are_where_they_were_sent_while_a_bar_is_drawn(
    results, messages, monkeypatch
) -> None:
    monkeypatch.setattr(sys, "stdout", results())
    monkeypatch.setattr(sys, "stderr", messages())
    monkeypatch.setenv("TERM", "xterm")
    out = Output(json=True)
    with out.progress("Detecting", 2) as bar:
        out.emit({"file": "a.jpg"})
        bar.advance()
    text = Output()
    with text.progress("Detecting", 2):
        text.result("a:smile: [bold].jpg: 1 face")
        text.table([("group", "ok", "fine")], ["green"])
    both = results is Terminal and messages is Terminal  # then it is drawn above the bar
    shown = (sys.stderr if both else sys.stdout).getvalue()
    assert '{"file": "a.jpg"}' in shown and "a:smile: [bold].jpg: 1 face" in shown
    assert "group" in shown and "fine" in shown
    if not both:
        assert "Detecting" not in shown and "file" not in sys.stderr.getvalue()


def test_without_a_terminal_lines_say_how_far_how_fast_and_how_long() -> None:
    clock = iter([0.0, 10.0, 20.0, 30.0, 40.0])
    bar = LinesBar([].append, "Detecting", None, clock=lambda: next(clock))
    assert bar.line() == "Detecting: 0 so far"
    bar.advance(40)
    assert bar.line() == "Detecting: 40 so far, 2.0/s"
    bar.update(total=640)
    bar.advance(20)
    assert bar.line() == "Detecting: 60 of 640, 2.0/s, 5 min left"
    bar.advance(580)
    assert bar.line() == "Detecting: 640 of 640, 16.0/s"
    clock = iter([0.0, 60.0])
    bar = LinesBar([].append, "Training", 100, "%", lambda: next(clock))
    bar.advance(12.4)
    assert bar.line() == "Training: 12 %, 7 min left"


def test_lines_come_while_a_run_is_silent(monkeypatch) -> None:
    monkeypatch.setattr("sadr_cli.cli.progress.EVERY", 0.01)
    said, heard = [], threading.Event()

    def say(line: str) -> None:
        said.append(line)
        heard.set()

    with LinesBar(say, "Training", 100):
        assert heard.wait(300)
    assert set(said) == {"Training: 0 of 100"}


def test_the_total_is_known_once_the_listing_is_over() -> None:
    bar = ProgressBar("Detecting")
    items = bar.counting(iter("abc"))
    assert next(items) == "a" and bar.total is None
    assert list(items) == ["b", "c"] and bar.total == 3


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.2, "3 s"), (100, "2 min"), (1560, "26 min"), (12000, "3 h 20 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
