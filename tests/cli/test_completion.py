"""The scripts of ``sadr completion``, run by the shells themselves where they are installed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from shell import run
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.cli.options import complete_formats

BASH = """
eval "$(sadr completion bash)"
try() { COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _sadr_completion sadr; echo "${COMPREPLY[@]}"; }
COMP_WORDS=(sadr re); try
COMP_WORDS=(sadr detect --detector c); try
COMP_WORDS=(sadr reconstruct --weights m); try
"""
FISH = """
sadr completion fish | source
complete -C 'sadr re' | string split -f1 \\t
complete -C 'sadr detect --detector c'
complete -C 'sadr reconstruct --weights m'
"""
ZSH = """
autoload -Uz compinit; compinit -u -d "$HOME/.zcompdump"
eval "$(sadr completion zsh)"
[[ ${_comps[sadr]} == _sadr_completion ]] || exit 1
# What the function evaluates inside a completion.
_arguments() { print -r -- $1 }
for line in 'sadr re' 'sadr detect --detector c' 'sadr reconstruct --weights m'; do
  words=(${(z)line}); CURRENT=${#words}
  _sadr_completion
done
"""


@pytest.mark.parametrize(
    ("shell", "script"), [("bash", BASH), ("fish", FISH), ("zsh", ZSH)], ids=["bash", "fish", "zsh"]
)
def test_the_shell_completes_commands_and_values(shell, script, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    output = run(tmp_path, program, "-c", script)
    # zsh gets (("value":"help")), bash and fish the bare values.
    values = [re.sub(r'.*\(\("(\w+)".*', r"\1", line) for line in output.splitlines()]
    assert values == ["reconstruct", "centerface", "mobile"]


def test_other_shells_are_refused() -> None:
    result = CliRunner().invoke(app, ["completion", "tcsh"])
    assert result.exit_code == 2 and "bash, zsh, fish" in result.stderr


def test_lists_by_commas_complete_their_last_word() -> None:
    assert complete_formats("obj,vis") == ["obj,visibility"]
    assert complete_formats("g") == ["glb"]


def test_completed_formats_are_those_there_are() -> None:
    from sadr_cli.writers import FORMATS

    assert sorted(complete_formats("")) == sorted(FORMATS)


def test_only_detectors_that_run_here_are_completed(monkeypatch) -> None:
    from sadr_cli import detection
    from sadr_cli.cli.options import complete_detectors

    found = {"centerface": None, "sfd": "needs a file", "none": None}
    monkeypatch.setattr(detection, "available_detectors", lambda: found)
    assert complete_detectors("") == ["centerface", "none"] and complete_detectors("s") == []
