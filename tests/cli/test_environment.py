"""The process around a command: streams, environment and signals as service managers, GUIs,
containers and pipes leave them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from shell import ROOT

from sadr_cli import process
from sadr_cli.cli import output

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX shells, signals and users")

SADR = f"'{sys.executable}' -m sadr_cli"


def shell(line: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """``line`` in a shell, with SADR for the command; a variable that is None is left out."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    variables = {k: v for k, v in variables.items() if v is not None}
    command = ["/bin/sh", "-c", line.replace("SADR", SADR)]
    return subprocess.run(
        command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=600
    )


@pytest.mark.parametrize("columns", ["0", "1"])
def test_messages_do_not_depend_on_the_width(columns: str) -> None:
    done = shell("SADR weights list && SADR weights show nofile", COLUMNS=columns, LINES="0")
    assert done.returncode == 5
    assert done.stderr.startswith("error: no weights 'nofile'") and done.stderr.count("\n") == 1
    assert "mobile.safetensors" in done.stdout and len(done.stdout.splitlines()) >= 2


@pytest.mark.parametrize("columns", ["0", "-5", "abc", "", "1.5"])
def test_widths_that_are_none_are_left_out(columns: str, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    process._clean_environment()
    assert "COLUMNS" not in os.environ


@pytest.mark.slow
def test_without_a_home_folder_everything_works_but_the_cache(tmp_path: Path) -> None:
    done = shell(
        f"SADR weights list && SADR weights show '~/x'; SADR weights import '{tmp_path}/x.pth'",
        HOME=None,
        SADR_HOME=None,
        XDG_CACHE_HOME=None,
        PYTHONPATH=f"{_nobody(tmp_path)}{os.pathsep}{ROOT}",
    )
    assert "mobile (default)" in done.stdout, done.stderr
    assert done.stderr.splitlines()[0].startswith("error: no weights '~/x'")
    assert "no home folder" in done.stderr.splitlines()[1]


def _nobody(folder: Path) -> Path:
    """A sitecustomize that makes this user one without an entry in the user database."""
    (folder / "sitecustomize.py").write_text(
        "import pwd\n\ndef getpwuid(uid):\n    raise KeyError(uid)\n\npwd.getpwuid = getpwuid\n"
    )
    return folder


@pytest.mark.parametrize("threads", ["0", "-1", "abc", "2,x", "1.5"])
def test_odd_thread_counts_are_said_and_ignored(threads: str, monkeypatch, capfd) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    process._clean_environment()
    assert "OMP_NUM_THREADS" not in os.environ
    message = f"warning: OMP_NUM_THREADS={threads!r} is not a thread count and is ignored\n"
    assert capfd.readouterr().err == message


def test_thread_counts_of_nested_regions_are_left_alone(monkeypatch, capfd) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4, 2")
    process._clean_environment()
    assert os.environ["OMP_NUM_THREADS"] == "4, 2" and capfd.readouterr().err == ""


def test_a_working_folder_that_was_deleted_is_said(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    done = shell(f"mkdir '{gone}' && cd '{gone}' && rmdir '{gone}' && SADR detect /x.jpg")
    assert done.returncode == 2
    assert done.stderr == "error: the working folder no longer exists: change to another one\n"


# Streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["detect - ", "reconstruct --boxes - --out '{}/o'"])
def test_a_closed_standard_input_is_wrong_usage(command: str, tmp_path: Path) -> None:
    done = shell(f"SADR {command.format(tmp_path)} <&-")
    assert done.returncode == 2
    assert done.stderr == "error: nothing to read: standard input is closed\n"
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("to", "why"),
    [(">&-", "standard output is closed"), (">/dev/full", "no space left on device")],
)
@pytest.mark.parametrize(
    "command", ["weights list", "weights list --json", "weights show mobile", "completion bash"]
)
def test_results_that_cannot_be_written_are_code_1(command: str, to: str, why: str) -> None:
    if to == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = shell(f"SADR {command} {to}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write results") and why in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_closed_standard_error_leaves_the_results_clean() -> None:
    done = shell("SADR weights list --json nonsense 2>&-; SADR weights list --json 2>&-")
    assert done.stdout.startswith('{"name": "mobile"') and "rror" not in done.stdout


def test_closed_streams_are_never_taken_by_files(tmp_path: Path) -> None:
    """The first file opened would become standard output, and get what libraries print."""
    done = shell(
        f"'{sys.executable}' -c 'import os; from sadr_cli.process import prepare; prepare();"
        f' print(os.open("{tmp_path}/file", os.O_CREAT | os.O_WRONLY), file=open("{tmp_path}/n",'
        ' "w"))\' <&- >&- 2>&-'
    )
    assert done.returncode == 0
    assert int((tmp_path / "n").read_text()) > 2


def test_a_terminal_that_is_gone_stops_nothing() -> None:
    class Gone:
        encoding = "utf-8"

        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

        flush = isatty = lambda self: False

    messages = output._Messages(Gone())
    assert messages.write("x") == 1 and messages.encoding == "utf-8"
    messages.flush()


# Signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_end_in_one_sentence_even_within_imports(name: str, tmp_path: Path) -> None:
    """The module imported swallows every exception, as some libraries do."""
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text(
        "import time\nprint('importing', flush=True)\n"
        "try:\n    time.sleep(600)\nexcept BaseException:\n    pass\nraise ImportError('broken')\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "sadr_cli", "weights", "show", "nofile"]
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, text=True, env=environment) as child:
        assert child.stdout.readline() == "importing\n"
        child.send_signal(getattr(signal, name))
        assert child.communicate(timeout=600)[1] == "error: interrupted\n"
    assert child.returncode == 130


def test_outside_imports_a_signal_unwinds() -> None:
    with pytest.raises(KeyboardInterrupt):
        process._interrupt(signal.SIGTERM, sys._getframe())


def test_ignored_signals_stay_ignored() -> None:
    """nohup ignores SIGHUP; a script's jobs in the background ignore SIGINT."""
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "from sadr_cli.process import prepare; from sadr_cli.pipeline.settings import StopFlag;"
        "prepare(); stop, said = StopFlag(), [];"
        "context = stop.on_signals(said.append); context.__enter__();"
        "signal.raise_signal(signal.SIGHUP); print(bool(stop));"
        "signal.raise_signal(signal.SIGTERM); stop._event.wait(300); print(bool(stop));"
        "context.__exit__(None, None, None); print(*said)"  # once its thread has ended
    )
    done = shell(f"'{sys.executable}' -c '{code}'")
    hangup, term, said = done.stdout.splitlines()
    assert (hangup, term) == ("False", "True") and said.startswith("stopping"), done.stderr


def test_a_hangup_stops_a_run_like_ctrl_c() -> None:
    from sadr_cli.pipeline.settings import StopFlag

    said: list[str] = []
    before = signal.getsignal(signal.SIGHUP)
    with StopFlag().on_signals(said.append) as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop._event.wait(300)
    assert said[0].startswith("stopping") and signal.getsignal(signal.SIGHUP) is before


@pytest.mark.slow
def test_a_reader_that_goes_away_leaves_a_run_that_goes_on(tmp_path: Path, photos: Path) -> None:
    command = [sys.executable, "-m", "sadr_cli", "reconstruct", "-", "--json"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    first, *others = (f"{path}\n" for path in sorted(photos.glob("*.jpg")))
    with subprocess.Popen([*command, "--out", tmp_path / "o"], **pipes, text=True, cwd=ROOT) as run:
        run.stdin.write(first)
        run.stdin.flush()
        assert json.loads(run.stdout.readline())["status"] == "ok"
        run.stdout.close()  # before there is more to say
        run.stdin.writelines(others)
        run.stdin.close()
        errors = run.stderr.read()
    assert run.returncode == 141 and errors.count("error") == 0
    again = shell(f"SADR reconstruct '{photos}' --out '{tmp_path}/o'")
    assert again.returncode == 0 and "done before" in again.stderr
    rows = (tmp_path / "o" / "poses.csv").read_text().splitlines()[1:]
    assert len(rows) == len(set(rows)) == len(list((tmp_path / "o").glob("*.obj")))
