from __future__ import annotations

import json
import sys
import time

import pytest
from fakes import FakeDetector, FakeReconstructor, photo_with
from typer.testing import CliRunner

from sadr_cli.cli import app


@pytest.fixture
def sadr(monkeypatch):
    """Runs ``sadr`` in this process with a fake network and detector."""

    def make(weights=None, device="auto", batch_size=None):
        fake = FakeReconstructor()
        fake.batch_size = batch_size or 4
        return fake

    monkeypatch.setattr("sadr_cli.reconstructor.Reconstructor", make)
    monkeypatch.setattr("sadr_cli.detection.create_detector", lambda *a: FakeDetector())

    def call(*arguments, input=None):
        return CliRunner().invoke(app, ["reconstruct", *map(str, arguments)], input=input)

    return call


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    photo_with(folder / "a.png")
    photo_with(folder / "b.png", [(20, 30, 40), (110, 60, 60)])
    return folder


def test_a_folder_with_all_formats(sadr, photos, tmp_path):
    out = tmp_path / "meshes"
    result = sadr(
        photos, "--out", out, "--format", "obj,ply,glb,stl,npz", "--overlay", "--frame", "metric"
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "" and "3 faces in 2 photos" in result.stderr
    for stem in ("a", "b", "b_face1"):
        for suffix in ("obj", "ply", "glb", "stl", "npz", "json"):
            assert (out / f"{stem}.{suffix}").stat().st_size > 500
    assert json.loads((out / "a.json").read_text())["mesh"]["units"] == "millimetres"
    assert "millimetres" in (out / "a.obj").read_text()[:100]


def test_json_lines_on_stdout_everything_else_on_stderr(sadr, photos, tmp_path):
    (photos / "z.png").write_bytes(b"not a photo")
    result = sadr(photos, "--out", tmp_path / "o", "--json")
    assert result.exit_code == 3
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("status") for line in lines[:-1]] == ["ok", "ok", "failed"]
    assert lines[1]["faces"][1]["obj"] == "b_face1.obj" and "yaw" in lines[0]["faces"][0]
    assert lines[-1]["summary"]["faces"] == 3 and lines[-1]["summary"]["failed"] == 1
    assert "z.png: not a photo" in result.stderr


def test_exit_codes(sadr, photos, tmp_path):
    empty = photo_with(tmp_path / "none.png", [])
    assert sadr(photos / "a.png", "--out", tmp_path / "1").exit_code == 0
    assert sadr(photos / "a.png", "--out", tmp_path / "1").exit_code == 0  # done before
    assert sadr(photos / "a.png", tmp_path / "missing.png", "--out", tmp_path / "2").exit_code == 3
    assert sadr(empty, "--out", tmp_path / "3").exit_code == 4
    assert sadr(empty, "--out", tmp_path / "3").exit_code == 4
    assert sadr(empty, photos, "--out", tmp_path / "4").exit_code == 0
    assert sadr(empty, photos, "--out", tmp_path / "5", "--fail-on-no-face").exit_code == 3
    result = sadr(tmp_path / "typo.png", "--out", tmp_path / "6")
    assert result.exit_code == 4 and not (tmp_path / "6").exists()
    (tmp_path / "file").write_text("")
    result = sadr(photos, "--out", tmp_path / "file")
    assert result.exit_code == 1 and "cannot write" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format", "fbx"],
        ["--format", ","],
        ["--frame", "world"],
        ["--faces", "0"],
        ["--batch-size", "many"],
        ["--boxes", "boxes.jsonl"],
        ["--jobs", "0"],
    ],
)
def test_wrong_usage_is_said_before_anything_is_made(sadr, photos, tmp_path, arguments):
    result = sadr(photos, "--out", tmp_path / "o", *arguments)
    assert result.exit_code == 2 and arguments[0].lstrip("-") in result.stderr
    assert not (tmp_path / "o").exists()
    assert sadr(photos).exit_code == 2  # no --out


def lines_for(path, *boxes):
    return [json.dumps({"file": str(path), "face": k, "box": b}) for k, b in enumerate(boxes)]


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_boxes(sadr, photos, tmp_path, monkeypatch, way):
    lines = lines_for(photos / "b.png", [20, 30, 60, 70], [110, 60, 170, 120])
    lines += ["", *lines_for(photos / "a.png", [60, 50, 100, 90]), '{"summary": {}}']
    if way == "file":
        lines = [lines[0], *lines[2:], lines[1]]  # a photo's lines need not be neighbours
        (tmp_path / "boxes.jsonl").write_text("\n".join(lines))
        result = sadr("--boxes", tmp_path / "boxes.jsonl", "--out", tmp_path / "o", "--json")
    else:
        result = sadr("--boxes", "-", "--out", tmp_path / "o", "--json", input="\n".join(lines))
    assert result.exit_code == 0, result.stderr
    entries = [json.loads(line) for line in result.stdout.splitlines()][:-1]
    assert [e["name"] for e in entries] == ["b", "a"] and len(entries[0]["faces"]) == 2


def test_names_from_standard_input_and_lists(sadr, photos, tmp_path, monkeypatch):
    names = f"{photos / 'a.png'}\n{photos / 'b.png'}\n"
    assert sadr("-", "--out", tmp_path / "1", input=names).exit_code == 0
    assert (tmp_path / "1" / "b.obj").exists()
    (tmp_path / "list.txt").write_text(names)
    assert sadr("--from-file", tmp_path / "list.txt", "--out", tmp_path / "2").exit_code == 0
    picture = (photos / "a.png").read_bytes()
    assert sadr("-", "--out", tmp_path / "3", input=picture).exit_code == 0
    assert (tmp_path / "3" / "stdin.obj").exists()


def test_quiet_and_verbose(sadr, photos, tmp_path):
    assert sadr(photos, "--out", tmp_path / "o", "-q").stderr == ""
    result = sadr(photos, "--out", tmp_path / "o", "-v")
    assert "a.png: 1 face, done before" in result.stderr and "2 done before" in result.stderr


def test_help_is_light():
    import subprocess

    code = (
        "import sys; from sadr_cli.cli import main\n"
        "sys.argv = ['sadr', 'reconstruct', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'cv2', 'numpy', 'trimesh', 'open3d'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--frame" in done.stdout


def test_shards_are_parts_of_the_whole(sadr, tmp_path):
    photos = tmp_path / "photos"
    for k in range(7):
        photo_with(photos / f"{k}" / "face.png")  # one stem: names depend on the whole listing
    whole = tmp_path / "whole"
    assert sadr(photos, "-r", "--out", whole, "--no-index").exit_code == 0
    found: list[str] = []
    for part in (1, 2, 3):
        out = tmp_path / f"part{part}"
        assert sadr(photos, "-r", "--out", out, "--no-index", "--shard", f"{part}/3").exit_code == 0
        objs = sorted(p.name for p in out.glob("*.obj"))
        assert all((out / n).read_bytes() == (whole / n).read_bytes() for n in objs)
        found += objs
    assert sorted(found) == sorted(p.name for p in whole.glob("*.obj")) and len(found) == 7
    result = sadr(photos / "0", "--out", tmp_path / "o", "--shard", "2/3")
    assert result.exit_code == 4 and "shard 2/3" in result.stderr
    for wrong in ("0/3", "4/3", "3", "a/b", "1/0"):
        assert sadr(photos, "-r", "--out", tmp_path / "o", "--shard", wrong).exit_code == 2
    assert not (tmp_path / "o").exists()


SCRIPT = """
import sys
import time
sys.path.insert(0, {tests!r})
import sadr_cli.detection, sadr_cli.reconstructor
from fakes import FakeDetector, FakeReconstructor
sadr_cli.reconstructor.Reconstructor = lambda *a, **k: FakeReconstructor()
sadr_cli.detection.create_detector = lambda *a: FakeDetector()
from sadr_cli.cli import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("command", ["reconstruct", "detect"])
def test_a_pipe_in_which_nothing_comes(photos, tmp_path, command):
    """What came is done without waiting for more; a signal ends the waiting."""
    import signal
    import subprocess
    from pathlib import Path

    tests = Path(__file__).parents[1]
    arguments = [sys.executable, "-c", SCRIPT.format(tests=str(tests)), command, "-", "--json"]
    if command == "reconstruct":
        arguments += ["--out", str(tmp_path / "out")]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(arguments, **pipes, text=True, cwd=tests.parent) as process:
        process.stdin.write(f"{photos / 'a.png'}\n")
        process.stdin.flush()
        assert (
            "a.png"
            in json.loads(process.stdout.readline())[
                "source" if command == "reconstruct" else "file"
            ]
        )
        process.send_signal(signal.SIGTERM)
        for _ in range(100):
            if process.poll() is not None:
                break
            time.sleep(0.1)
        rest, errors = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130, errors
    assert json.loads(rest.splitlines()[-1])["summary"]["interrupted"] and "Fatal" not in errors
