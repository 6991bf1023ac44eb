from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeDetector, FakeReconstructor, photo_with
from PIL import Image
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.detection import SelectiveDetector


@pytest.fixture
def sadr(monkeypatch):
    """Runs ``sadr`` in this process with a fake network and detector."""

    def make(weights=None, device="auto", batch_size=None):
        fake = FakeReconstructor()
        fake.batch_size = batch_size or 4
        return fake

    monkeypatch.setattr("sadr_cli.reconstructor.Reconstructor", make)
    monkeypatch.setattr(
        "sadr_cli.detection.create_detector",
        lambda name, device, faces, *limits: SelectiveDetector(FakeDetector(), *limits),
    )

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
        process.wait(timeout=600)  # with its standard input still open
        rest, errors = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130, errors
    assert json.loads(rest.splitlines()[-1])["summary"]["interrupted"] and "Fatal" not in errors


def test_small_and_doubtful_faces_are_left_out(sadr, photos, tmp_path):
    photo_with(photos / "c.png", [(20, 30, 20)])
    out = tmp_path / "small"
    result = sadr(photos, "--out", out, "--min-size", 50, "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [len(line["faces"]) for line in lines[:-1]] == [0, 1, 0]
    assert lines[0]["status"] == "no_face" and lines[0]["reason"] == "no face found"
    # Other limits, other files: what was done before is done again.
    again = sadr(photos, "--out", out, "--min-score", 0.6)
    assert "3 faces in 2 photos, 1 without a face" in again.stderr
    assert sadr(photos, "--out", out, "--min-score", 0.6).stderr.count("done before") == 1


def test_faces_of_low_confidence_are_counted_or_left_out(sadr, photos, tmp_path, monkeypatch):
    real = FakeReconstructor._face

    def doubtful(self, crop, detection):
        sure = 0.9 if crop.size > 80 else 0.5
        return replace(real(self, crop, detection), confidence=sure)

    monkeypatch.setattr(FakeReconstructor, "_face", doubtful)
    result = sadr(photos, "--out", tmp_path / "all", "--json")
    assert "3 faces in 2 photos, 2 of low confidence" in result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["summary"]["doubtful"] == 2
    out = tmp_path / "sure"
    result = sadr(photos, "--out", out, "--min-confidence", 0.6, "--json", "--overlay")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [len(line["faces"]) for line in lines[:-1]] == [0, 1]
    assert lines[0]["reason"] == "no face found but 1 of too low a confidence"
    assert "a.png: no face found but 1 of too low a confidence" in result.stderr
    assert {p.name for p in out.glob("*.obj")} == {"b.obj"}
    assert {p.name for p in (out / "overlays").iterdir()} == {"b.jpg"}
    assert len((out / "poses.csv").read_text().splitlines()) == 2


def test_overlays_show_the_layers_that_were_asked_for(sadr, photos, tmp_path):
    def overlay(name, *options):
        assert sadr(photos, "--out", tmp_path / name, *options).exit_code == 0
        path = tmp_path / name / "overlays" / "b.jpg"
        return np.asarray(Image.open(path)).astype(int) if path.is_file() else None

    plain = np.asarray(Image.open(photos / "b.png")).astype(int)
    everything, box = overlay("1", "--overlay"), overlay("2", "--layers", "box")
    assert overlay("3") is None
    changed = [(np.abs(picture - plain).max(-1) > 60).mean() for picture in (box, everything)]
    assert 0 < changed[0] < 0.1 < changed[1]
    # The numbers are above the faces, where nothing else is drawn.
    numbers = overlay("4", "--layers", "number")
    rows, _ = np.nonzero(np.abs(numbers - plain).max(-1) > 60)
    assert rows.size and rows.max() < 70


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layers", "mesh,hair"], "--layers takes any of mesh, contours"),
        (["--layers", " "], "--layers takes any of"),
        (["--min-score", "2"], "--min-score"),
        (["--min-confidence", "-1"], "--min-confidence"),
        (["--boxes", "-", "--min-size", "5"], "filter its lines"),
    ],
)
def test_wrong_choices_are_named(sadr, tmp_path, arguments, words):
    inputs = [] if "--boxes" in arguments else ["photo.jpg"]
    result = sadr(*inputs, "--out", tmp_path / "o", *arguments)
    assert result.exit_code == 2 and words in result.stderr and not (tmp_path / "o").exists()


def test_a_folder_named_like_a_mesh_is_taken_for_a_mistake(sadr, photos, tmp_path):
    result = sadr(photos, "--out", tmp_path / "face.glb")
    assert result.exit_code == 2 and "use --out face --format glb" in result.stderr
    (tmp_path / "face.glb").mkdir()
    assert sadr(photos, "--out", tmp_path / "face.glb").exit_code == 0
