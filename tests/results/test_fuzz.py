"""Whatever stands in the books of a run or in a mesh: it is read, or refused in one sentence."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from damage import damaged
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from run_folders import go, make_photos

from sadr_cli.errors import InputError, MissingDataError, OutputError
from sadr_cli.export.read import read_mesh
from sadr_cli.files import is_safe_name
from sadr_cli.gallery import cards
from sadr_cli.results.entry import OVERLAYS, Entry
from sadr_cli.results.face_record import read_face_json
from sadr_cli.results.manifest import JOURNAL, NAME, Damage, Manifest, ManifestReader
from sadr_cli.results.poses_csv import COLUMNS, PosesCSV, pose_row

fuzz = settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder, with meshes as OBJ and PLY, and cards."""
    folder = tmp_path_factory.mktemp("fuzz")
    go(make_photos(folder / "photos"), folder / "run", formats=("obj", "ply"), index=True)
    return folder / "run"


def put(document, path, value):
    """``document`` with another value at ``path``."""
    out = json.loads(json.dumps(document))
    inner = out
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return out


def paths(document, before=()):
    """Where values are in a JSON document."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*before, key)
        if isinstance(value, dict | list) and value:
            yield from list(paths(value, (*before, key)))[:40]


def check_entry(entry: Entry) -> None:
    assert is_safe_name(entry.name)
    names = [*entry.outputs]
    for face in entry.faces:
        names += [face.json, *face.files.values()]
        numbers = (face.confidence, face.yaw, face.pitch, face.roll, *(face.box or ()))
        assert all(v is None or math.isfinite(v) for v in numbers)
    for name in names:
        assert is_safe_name(name.removeprefix(f"{OVERLAYS}/"))
    again = json.loads(json.dumps(entry.to_json()))
    assert Entry.from_json(again) == entry


def read_all(folder) -> None:
    try:
        for found in ManifestReader(folder):
            if isinstance(found, Damage):
                assert "\n" not in str(found) and "Error" not in str(found)
            else:
                check_entry(found)
    except MissingDataError as error:
        assert NAME in str(error) and "\n" not in str(error)


@fuzz
@given(data=st.data())
def test_manifests(run, tmp_path, data):
    whole = (run / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(data.draw(damaged([whole]) | st.binary(max_size=200)))
    read_all(tmp_path)


@fuzz
@given(data=st.data(), value=JSON)
def test_manifests_with_other_values(run, tmp_path, data, value):
    whole = json.loads((run / NAME).read_bytes())
    path = data.draw(st.sampled_from(list(paths(whole))))
    text = json.dumps(put(whole, path, value), indent=data.draw(st.sampled_from([None, 2])))
    (tmp_path / NAME).write_text(text)
    read_all(tmp_path)


@fuzz
@given(data=st.data())
def test_journals(run, tmp_path, data):
    entries = json.loads((run / NAME).read_bytes())["inputs"]
    lines = b"".join(json.dumps(e).encode() + b"\n" for e in entries)
    (tmp_path / JOURNAL).write_bytes(data.draw(damaged([lines])))
    (tmp_path / NAME).unlink(missing_ok=True)
    try:
        manifest = Manifest(tmp_path, {})
    except OutputError as error:
        pytest.fail(str(error))
    for name, key in manifest.names():
        assert is_safe_name(name)
        check_entry(manifest.get(key))
    assert len(manifest.damage) <= lines.count(b"\n") + 10
    manifest.close("finished", {})
    assert len(list(ManifestReader(tmp_path))) == len(list(manifest.names()))


@fuzz
@given(data=st.data(), value=JSON)
def test_cards(run, tmp_path, data, value):
    whole = (run / cards.FOLDER / "p2.json").read_bytes()
    document = json.loads(whole)
    path = data.draw(st.sampled_from(list(paths(document))))
    changed = json.dumps(put(document, path, value)).encode()
    (tmp_path / cards.FOLDER).mkdir(exist_ok=True)
    (tmp_path / cards.FOLDER / "p2.json").write_bytes(
        data.draw(damaged([whole]) | st.just(changed))
    )
    for number, card in cards.read_cards(tmp_path, "p2").items():
        assert number == card.face and len(card.rotation) == 9
        for part in (card.thumbnail, card.texture, card.mesh, card.strip.replace(":", "")):
            assert not set(part) & set("<>&\"' \n\\")


@fuzz
@given(data=st.data(), value=JSON)
def test_records(run, tmp_path, data, value):
    whole = (run / "p2.json").read_bytes()
    document = json.loads(whole)
    path = data.draw(st.sampled_from(list(paths(document))))
    changed = json.dumps(put(document, path, value)).encode()
    (tmp_path / "p2.json").write_bytes(data.draw(damaged([whole]) | st.just(changed)))
    try:
        record = read_face_json(tmp_path / "p2.json", tmp_path)
    except InputError as error:
        assert "p2.json" in str(error) and "\n" not in str(error)
    else:
        cells = pose_row(record)
        assert len(cells) == len(COLUMNS) and all(c.isprintable() for c in cells)


@fuzz
@given(data=st.data())
@example(data=None)
def test_tables_of_poses(run, tmp_path, data):
    whole = (run / "poses.csv").read_bytes()
    text = b'"' * 200_000 if data is None else data.draw(damaged([whole]))
    (tmp_path / "poses.csv").write_bytes(text)
    with PosesCSV(tmp_path / "poses.csv", keep=["p0", "p1", "p2"]) as poses:
        poses.close(["p2", "p1"])
    lines = (tmp_path / "poses.csv").read_bytes().split(b"\n")
    assert lines[0].decode() == ",".join(COLUMNS) and lines[-1] == b""
    with PosesCSV(tmp_path / "poses.csv", keep=["p0", "p1", "p2"]) as poses:
        poses.close(["p2", "p1"])
    assert (tmp_path / "poses.csv").read_bytes().split(b"\n") == lines


def check_mesh(path) -> None:
    try:
        mesh = read_mesh(path)
    except InputError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return
    assert mesh.triangles.dtype == np.int32 and mesh.triangles.ndim == 2
    assert 0 <= mesh.triangles.min() and mesh.triangles.max() < len(mesh.vertices)
    assert np.isfinite(mesh.vertices).all() and mesh.vertices.shape[1] == 3


SMALL = (
    b"# sadr face mesh: frame metric\nmtllib a.mtl\nv 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0 1\n"
    b"v 1 1 0 0.5 0.5 0.5\nvt 0 0\nvt 1 0\nvt 0 1\nvt 1 1\nf 1/1 2/2 3/3\nf 2/2 4/4 3/3\n"
)


@fuzz
@given(data=st.data())
def test_obj(tmp_path, data):
    text = data.draw(st.sampled_from([SMALL, SMALL.replace(b"# sadr", b"# other")]))
    path = tmp_path / "m.obj"
    path.write_bytes(data.draw(damaged([text])))
    check_mesh(path)


@fuzz
@given(data=st.data())
def test_ply(run, tmp_path, data):
    whole = (run / "p0.ply").read_bytes()
    end = whole.index(b"end_header\n") + 11
    start, body = whole[:end], whole[end:]
    path = tmp_path / "m.ply"
    path.write_bytes(data.draw(damaged([start])) + body[: data.draw(st.integers(0, len(body)))])
    check_mesh(path)
