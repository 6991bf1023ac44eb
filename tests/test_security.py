"""The promises of ``SECURITY.md``."""

from __future__ import annotations

import ast
import io
import json
import pickle
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import FakeDetector, FakeReconstructor, photo_with
from PIL import Image
from shell import ROOT, run
from typer.testing import CliRunner

from sadr_cli import InputError, MissingDataError, SadrError, read_image
from sadr_cli.cli import app
from sadr_cli.files import safe_name

MODULES = sorted((ROOT / "sadr_cli").rglob("*.py"))


class Bomb:
    """Unpickling it makes the file ``owned`` in the working folder."""

    def __reduce__(self):
        return (Path.write_text, (Path("owned"), "x"))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


# No code from files ----------------------------------------------------------------------------


def _calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(n.func), n) for n in ast.walk(tree) if isinstance(n, ast.Call)]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_evaluates_unpickles_or_starts_programs(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    roots = {name.split(".")[0] for name in imported}
    assert not roots & {"openvino", "onnxruntime", "av"}, "native.library loads them, in one thread"
    assert not roots & {"socket", "urllib", "requests", "http", "marshal", "shelve"}
    if path.parent.name != "bench":  # times a cold start of this very Python
        assert "subprocess" not in roots
    for name, call in _calls(tree):
        options = {k.arg: ast.unparse(k.value) for k in call.keywords}
        if name in ("import_module", "importlib.import_module"):
            assert not {"openvino", "onnxruntime", "av"} & set(ast.unparse(call).split("'"))
        assert name not in ("eval", "exec", "compile", "__import__"), name
        assert not name.startswith(("os.system", "os.popen", "os.exec", "os.spawn")), name
        assert not name.startswith(("pickle.load", "joblib.load", "torch.hub.")), name
        if name.startswith("subprocess."):
            assert ast.unparse(call.args[0]).startswith("[sys.executable, "), name
            assert "shell" not in options
        if name == "torch.load":
            assert options.get("weights_only") == "True"
        if name == "np.load":
            assert options.get("allow_pickle") == "False"


WATCH = """
import runpy, sys
seen = []
def watch(event, arguments):
    if event.split(".")[0] in ("socket", "subprocess", "pickle", "urllib", "http", "ftplib") or (
        event in ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork")
    ):
        if "/sbin/ldconfig" in str(arguments[0]) and "-p" in arguments[1]:
            return  # ctypes, looking for a library as PyTorch's CUDA build is imported
        seen.append((event, str(arguments)[:200]))
sys.addaudithook(watch)
"""
PHOTO = ROOT / "examples" / "photos" / "hopper.jpg"


@pytest.mark.slow
def test_a_run_opens_no_socket_starts_nothing_and_unpickles_nothing(tmp_path: Path) -> None:
    arguments = ["sadr", "reconstruct", str(PHOTO), "--out", "out", "--format", "obj,glb,npz"]
    script = f"""{WATCH}
sys.argv = {arguments!r}
try:
    runpy.run_module("sadr_cli", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print(seen)
"""
    assert run(tmp_path, sys.executable, "-c", script).strip() == "[]"
    page = (tmp_path / "out" / "index.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


@pytest.mark.slow
def test_openvino_reports_to_nobody(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    script = f"""{WATCH}
from sadr_cli import Reconstructor, read_image
image = read_image({str(PHOTO)!r})
assert Reconstructor(device="cpu", runtime="openvino").reconstruct(image)
assert "openvino" in sys.modules and "openvino_telemetry" not in sys.modules
assert "openvino.tools.ovc" not in sys.modules  # nor is its converter loaded, but it is there
try:
    sys.modules["openvino"].convert_model("nothing.onnx")
except Exception as error:
    assert "nothing.onnx" in str(error), error
print(seen)
"""
    assert run(tmp_path, sys.executable, "-c", script).strip() == "[]"


def _hostile(kind: str, path: Path) -> None:
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"a": Bomb()}))
    elif kind == "torch":
        torch.save({"a": Bomb()}, path)
    elif kind == "npy":
        np.save(path.with_suffix(".npy"), np.array([Bomb()], object), allow_pickle=True)
        path.with_suffix(".npy").replace(path)
    else:
        np.savez(path.with_suffix(".npz"), name=np.array([Bomb()], object))
        path.with_suffix(".npz").replace(path)


@pytest.mark.parametrize("kind", ["pickle", "torch", "npy", "npz"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["reconstruct", "a.png", "--out", "o", "--weights", "evil.safetensors"],
        ["weights", "show", "evil.safetensors"],
        ["weights", "import", "evil.pth"],
        ["weights", "from-state", "evil.pt", "--out", "x.safetensors"],
        ["export", "evil.npz", "--format", "obj", "--out", "o"],
        ["train", "evil.npz", "--face-model", "evil.npz", "--out", "o", "--set", "steps=1"],
        ["evaluate", "aflw2000", "--data", ".", "--predictions", "evil.npz", "--out", "o"],
    ],
    ids=lambda a: "-".join(a[:2]),
)
def test_hostile_files_are_errors_and_not_executed(work: Path, kind: str, arguments) -> None:
    photo_with(work / "a.png")
    for name in arguments:
        if name.startswith("evil."):
            _hostile(kind, work / name)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code in (2, 3, 4, 5), result.stderr
    lines = result.stderr.splitlines()
    assert any(line.startswith(("error: ", "warning: ")) for line in lines)
    assert "Traceback" not in result.stderr
    assert not (work / "owned").exists()


# Names -----------------------------------------------------------------------------------------

NAMES = [
    "../../evil", "/etc/evil", "..", ".", "", "a/../../b", "..\\..\\evil", "C:evil", "con",
    "nul.txt", "\x1b[2Jevil", "a\nb", "-rf", ".hidden", "x" * 500, "\udcff", "e\u202evil", "a\0b",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_no_name_leaves_its_folder(tmp_path: Path, name: str) -> None:
    safe = safe_name(name)
    assert (tmp_path / safe).resolve().parent == tmp_path.resolve()
    assert safe not in ("", ".", "..") and safe.isprintable() and len(safe.encode()) < 200


def _files(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if p.is_file()}


def test_boxes_from_others_write_into_the_output_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sadr_cli.reconstructor.Reconstructor", lambda *a, **k: FakeReconstructor())
    monkeypatch.setattr("sadr_cli.detection.create_detector", lambda *a, **k: FakeDetector())
    photo = photo_with(tmp_path / "in" / "a.png")
    tricky = tmp_path / "in" / "sub" / ".." / ".." / "in" / "a.png"
    (tmp_path / "in" / "sub").mkdir()
    before = _files(tmp_path)
    box = {"box": [60, 50, 100, 90]}
    lines = [
        {"file": str(tricky), "name": "../../evil", **box},
        {"file": str(photo) + "/../../../etc/passwd", **box},
    ]
    out = tmp_path / "deep" / "out"
    text = "".join(json.dumps(line) + "\n" for line in lines)
    command = ["reconstruct", "--boxes", "-", "--out", str(out)]
    result = CliRunner().invoke(app, command, input=text)
    assert result.exit_code == 3, result.stderr  # one photo, one that is none
    new = _files(tmp_path) - before
    assert new and all(out in path.parents for path in new)


def test_a_foreign_run_folder_cannot_write_or_read_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    secret = tmp_path / "secret.json"
    secret.write_text('{"format": "sadr-face", "schema": 1}')
    face = {"json": "../secret.json", "obj": "../../secret.obj"}
    entry = {"key": "../x", "source": "x", "name": "../../evil", "faces": [face]}
    from sadr_cli.results import manifest

    document = {"format": "sadr-manifest", "schema": manifest.SCHEMA, "inputs": [entry]}
    (folder / manifest.NAME).write_text(json.dumps(document))
    before = _files(tmp_path)
    out = tmp_path / "deep" / "out"
    command = ["export", str(folder), "--format", "obj", "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 3
    assert str(folder / "secret.json") in " ".join(result.stderr.split())  # looked for inside
    assert all(out in path.parents for path in _files(tmp_path) - before)


def test_names_cannot_write_into_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "\x1b]0;owned\x07.jpg").write_bytes(b"no photo")
    result = CliRunner().invoke(app, ["detect", str(tmp_path)])
    assert result.exit_code == 3
    assert "\x1b]0" not in result.stderr and "\\x1b]0;owned" in result.stderr


# Decompression ---------------------------------------------------------------------------------


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


def test_a_picture_is_refused_by_its_header() -> None:
    with pytest.raises(InputError, match="too large: 100000 x 100000"):
        read_image(_png_header(100_000, 100_000))
    with pytest.raises(InputError, match="too large"):
        read_image(_png_header(100, 100), max_pixels=9_999)


def test_the_limit_holds_for_every_format(tmp_path: Path) -> None:
    picture = Image.new("RGB", (300, 200))
    for name in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "PPM"):
        stream = io.BytesIO()
        picture.save(stream, name)
        with pytest.raises(InputError, match="too large: 300 x 200"):
            read_image(stream.getvalue(), max_pixels=59_999)


def test_video_frames_have_the_limit_too() -> None:
    video = ROOT / "examples" / "faces.mp4"
    result = CliRunner().invoke(app, ["detect", str(video), "--max-pixels", "1", "--end", "0.1"])
    assert result.exit_code == 0, result.stderr
    from sadr_cli.sources import SourceList, iter_frames

    with pytest.raises(InputError, match="too large: 480 x 270"):
        next(iter(iter_frames(SourceList().source(video), max_pixels=129_599)))


def test_compressed_text_in_a_picture_is_limited() -> None:
    text = b"Comment\0\0" + zlib.compress(b"a" * 200_000_000, 9)
    head = _png_header(8, 8)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text
    bomb = head[:33] + chunk + struct.pack(">I", zlib.crc32(b"zTXt" + text)) + head[33:]
    with pytest.raises(InputError, match="damaged"):
        read_image(bomb)


@pytest.mark.parametrize(
    "start", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"%PDF-1.7\n"]
)
def test_formats_that_run_programs_are_not_read(start: bytes) -> None:
    with pytest.raises(InputError, match="not a photo"):
        read_image(start + b"showpage\n" * 50)


def test_an_archive_is_not_a_checkpoint(tmp_path: Path) -> None:
    from sadr_cli.model.checkpoint import load_checkpoint

    path = tmp_path / "x.safetensors"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../evil", "x")
    with pytest.raises(MissingDataError, match="damaged or not a sadr checkpoint"):
        load_checkpoint(path)
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")  # a header of eight exabytes
    with pytest.raises(SadrError):
        load_checkpoint(path)
    assert {p.name for p in tmp_path.iterdir()} == {"x.safetensors"}
