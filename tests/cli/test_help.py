"""Help: quick, complete, with an example for every command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from sadr_cli.cli import COMMANDS, app

HEAVY = ("torch", "cv2", "open3d", "trimesh", "face_alignment", "scipy", "numpy", "PIL")


def _commands() -> Iterator[tuple[str, ...]]:
    group = typer.main.get_command(app)
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        subs = getattr(command, "commands", None)
        yield from [(name, sub) for sub in subs] if subs else [(name,)]


ALL = list(_commands())


def test_every_command_is_there() -> None:
    assert {names[0] for names in ALL} == set(COMMANDS)


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_each_command_has_an_example(names: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*names, "--help"])
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert f"Example: sadr {' '.join(names)}" in text


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_every_option_says_what_it_takes_and_does(names: tuple[str, ...]) -> None:
    command = typer.main.get_command(app)
    for name in names:
        command = command.get_command(typer.Context(command), name)
    for parameter in command.params:
        assert parameter.help, parameter.name
        takes_nothing = getattr(parameter, "is_flag", False) or getattr(parameter, "count", False)
        assert takes_nothing or parameter.metavar, parameter.name


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["reconstruct", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['sadr', *{arguments}]\n"
        "try:\n    runpy.run_module('sadr_cli', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"


def test_errors_are_one_sentence_and_a_code() -> None:
    result = CliRunner().invoke(app, ["detect", "photo.jpg", "--detector", "none-such"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--min-score", "x"], "--min-score takes a number from 0 to 1, not 'x'"),
        (["--min-score", "2"], "--min-score takes a number from 0 to 1, not '2'"),
        (["--min-score", "nan"], "--min-score takes a number from 0 to 1, not 'nan'"),
        (["--min-size", "-3"], "--min-size takes a number of at least 0, not '-3'"),
        (["--frame-step", "1.5"], "--frame-step takes a whole number of at least 1, not '1.5'"),
        (["--end", "inf"], "--end takes a number, not 'inf'"),
        (["--recursiv"], "there is no option --recursiv: did you mean --recursive?"),
        (["--xyz"], "there is no option --xyz (see"),
    ],
)
def test_wrong_options_are_said_in_our_words(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["detect", "photo.jpg", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {said}"), result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_numbers_reach_the_command() -> None:
    """Defaults and values given, of every kind."""
    result = CliRunner().invoke(
        app, ["detect", "nowhere.jpg", "--frame-step", "2", "--min-score", "0.5", "--end", "3"]
    )
    assert "takes" not in result.stderr and result.exit_code != 2
