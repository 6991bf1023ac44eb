"""``sadr_cli.read_run``: a finished run as typed records and as a table."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from fakes import photo_with
from run_folders import go, make_photos, rows

from sadr_cli import (
    FaceResult,
    InputError,
    MissingDataError,
    SadrError,
    UsageError,
    read_run,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    photos = make_photos(folder / "photos")
    photo_with(photos / "empty.png", [])
    photo_with(photos / "=sum.png")
    (photos / "broken.jpg").write_bytes(b"nothing")
    go(photos, folder / "run", formats=("stl", "obj"))
    return folder / "run"


def test_faces_are_typed_and_in_the_order_of_the_inputs(made):
    run = read_run(made)
    table = rows(made)
    assert [(f.name, str(f.face)) for f in run] == [
        (row["name"].lstrip("'"), row["face"]) for row in table
    ]
    face = run[-1]
    assert isinstance(face, FaceResult) and len(run) == len(run.faces) == 6
    assert face.yaw == pytest.approx(float(table[-1]["yaw_deg"]), abs=1e-4)
    assert face.numbers["px_per_mm"] == float(table[-1]["px_per_mm"])
    assert set(face.expression) >= {"jawOpen", "mouthSmile"}
    assert face.files["obj"].is_file() and face.json.is_file() and not face.track
    assert face.landmarks().shape == (68, 3)
    assert face.record()["name"] == face.name
    assert run[:2] == run.faces[:2]
    # a name that looks like a formula finds its numbers as well
    assert next(f for f in run if f.name == "=sum").numbers


def test_faces_have_the_angles_that_are_safe_at_profiles(made):
    face, row = read_run(made)[0], rows(made)[0]
    safe = tuple(float(row[f"{name}_yxz_deg"]) for name in ("yaw", "pitch", "roll"))
    assert face.euler_yxz == safe
    older = {k: v for k, v in face.numbers.items() if "_yxz_" not in k}
    assert replace(face, numbers=older).euler_yxz == pytest.approx(safe, abs=1e-3)
    assert replace(face, numbers={}).euler_yxz is None


def test_inputs_without_a_face_are_there_too(made):
    found = {i.source.rpartition("/")[2]: i for i in read_run(made).inputs}
    assert found["empty.png"].status == "no_face" and found["empty.png"].faces == 0
    assert found["broken.jpg"].status == "failed" and found["broken.jpg"].reason
    assert found["p2.png"].faces == 2


def test_a_lost_table_leaves_what_the_manifest_says(made, tmp_path):
    (tmp_path / "manifest.json").write_bytes((made / "manifest.json").read_bytes())
    run = read_run(tmp_path)
    assert run[0].yaw is not None and run[0].numbers == {} and run[0].expression == {}
    with pytest.raises(InputError, match="result is incomplete"):
        run[0].landmarks()


def test_what_is_no_run_is_said_in_one_sentence(made, tmp_path):
    with pytest.raises(UsageError, match="no run folder at"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(SadrError, match="holds no run of sadr"):
        read_run(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(MissingDataError, match="damaged"):
        read_run(tmp_path)
    other = json.loads((made / "manifest.json").read_text()) | {"schema": 99}
    (tmp_path / "manifest.json").write_text(json.dumps(other))
    with pytest.raises(MissingDataError, match="another version"):
        read_run(tmp_path)


def test_damaged_entries_are_named_and_the_rest_is_read(made, tmp_path):
    document = json.loads((made / "manifest.json").read_text())
    document["inputs"][0]["status"] = "odd"
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    run = read_run(tmp_path)
    assert len(run.damage) == 1 and "odd" in run.damage[0] and len(run.inputs) == 6


def test_a_table_without_pandas_says_what_to_do(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDataError, match="pip install pandas"):
        read_run(made).to_pandas()


def test_a_table_with_pandas(made):
    pytest.importorskip("pandas")
    table = read_run(made).to_pandas()
    with (made / "poses.csv").open() as file:
        columns = next(csv.reader(file))
    assert set(columns) <= set(table.columns) and len(table) == 6
    assert table["yaw_deg"].dtype == np.float64 and table["mouthSmile"].between(0, 1).all()
    assert table["obj"].str.endswith(".obj").all()


def test_notebooks_show_the_first_faces_escaped(made):
    text = read_run(made)._repr_html_()
    assert "6 faces of 7 inputs" in text and text.count("<tr>") == 7
    assert "<script" not in text
