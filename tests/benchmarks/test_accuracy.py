"""The script that makes the model card's figures, on a made-up benchmark."""

from __future__ import annotations

import pytest
from evaluation_data import FakeNetwork, true_faces, write_300w, write_aflw2000, write_face_model

from sadr_cli.evaluation import run
from sadr_cli.faces import Detection

FACES = true_faces()


@pytest.fixture
def script(monkeypatch, load_script):
    class Everywhere:
        name = "everywhere"

        def detect(self, image):
            return [Detection(face.box) for face in FACES]

    monkeypatch.setattr(run, "make_network", lambda settings: FakeNetwork(FACES))
    monkeypatch.setattr(run, "make_detector", lambda settings: Everywhere())
    return load_script("evaluate")


def test_one_summary_has_every_figure(tmp_path, script, rows_of, capsys, monkeypatch):
    monkeypatch.setenv("SADR_DATA", str(tmp_path))
    write_aflw2000(tmp_path / "AFLW2000-3D")
    write_300w(tmp_path / "300W", [face.landmarks for face in FACES])
    model = write_face_model(tmp_path / "model.npz")
    out = tmp_path / "out"
    assert script.main(["--face-model", str(model), "--icp", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    rows = rows_of(text)
    assert rows["G, 2D 68, truth crop"] == ["0.00"] * 5
    off = [float(cell) for cell in rows["P, 2D 68, truth crop"]]  # half a pixel in x and y
    assert min(off) > 0.3
    assert off[3] == pytest.approx(sum(off[:3]) / 3, abs=0.01)
    for name in ("G, 2D dense", "G, 3D dense", "reconstruction", "reconstruction after rigid ICP"):
        assert rows[f"{name}, truth crop"] == ["0.00"] * 5
    assert any(name.startswith("G, 2D 68, centerface crop") for name in rows)
    assert rows["SADRNet, 2D 68, as published, 2000 images"][0] == "2.66"
    assert rows["truth crop"][3:] == ["0.00", "0.00", "5", "1"]
    assert "attention IoU, occluded" in rows
    assert rows["inter-ocular, truth crop"][0] == "0.00"
    assert text.count("list SHA-256") == 4
    for name in ("aflw2000", "aflw2000_detector", "aflw2000_icp", "300w", "300w_detector"):
        assert (out / name / "report.html").is_file()


def test_no_benchmark_at_all(tmp_path, script, monkeypatch):
    monkeypatch.delenv("SADR_DATA", raising=False)
    with pytest.raises(SystemExit, match="set SADR_DATA"):
        script.main([])


def test_what_is_wrong_is_said(tmp_path, script, capsys):
    assert script.main(["--aflw2000", str(tmp_path / "none"), "--out", str(tmp_path / "o")]) == 5
    assert "no folder" in capsys.readouterr().err
