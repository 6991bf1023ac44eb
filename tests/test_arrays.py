"""Array files of others: what is read, and that nothing else ever happens than one sentence."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from evaluation_data import SMALL, write_bfm, write_face_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from sadr_cli import arrays
from sadr_cli.arrays import read_mat, read_npz
from sadr_cli.errors import MissingDataError
from sadr_cli.evaluation.data.aflw2000 import read_annotation
from sadr_cli.evaluation.measures.bfm import convert_bfm
from sadr_cli.model.face_model import load_face_model

quick = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<2I", kind, len(data)) + data + bytes(-len(data) % 8)


def array_head(name: bytes, array_class: int, *sides: int) -> bytes:
    flags = element(6, struct.pack("<2I", array_class, 0))
    return flags + element(5, struct.pack(f"<{len(sides)}i", *sides)) + element(1, name)


def numbers(name: bytes, values: np.ndarray) -> bytes:
    head = array_head(name, 6, *values.shape)
    return element(14, head + element(9, values.astype("<f8").tobytes("F")))


def nested_cells(name: bytes, depth: int) -> bytes:
    """A cell in a cell in a cell...: SciPy recurses into each of them."""
    inside = numbers(b"", np.ones((1, 1)))
    parts, length = [inside], len(inside)
    for k in range(depth):
        head = array_head(name if k == depth - 1 else b"", 1, 1, 1)
        length += len(head)
        parts.append(struct.pack("<2I", 14, length) + head)
        length += 8
    return b"".join(reversed(parts))


@pytest.fixture
def annotation(tmp_path):
    def write(**changed):
        fields = {
            "pt3d_68": np.arange(204.0).reshape(3, 68),
            "Pose_Para": np.zeros((1, 7)),
            "Shape_Para": np.zeros((199, 1)),
            "Exp_Para": np.zeros((29, 1)),
        }
        compress = changed.pop("compress", True)
        fields.update(changed)
        savemat(tmp_path / "a.mat", fields, do_compression=compress)
        return tmp_path / "a.mat"

    return write


@pytest.mark.parametrize("compress", [True, False])
def test_an_annotation_is_read(annotation, compress):
    found = read_annotation(annotation(compress=compress))
    np.testing.assert_array_equal(found["pt3d_68"], np.arange(204.0).reshape(3, 68))
    assert found["Shape_Para"].shape == (199,)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([[1, "x"]], object), "pt3d_68 must be real numbers"),
        ("text", "pt3d_68 must be real numbers"),
        ({"a": 1.0}, "pt3d_68 must be real numbers"),
        (np.full((3, 68), 1j), "pt3d_68 must be real numbers"),
        (np.full((3, 68), np.inf), "pt3d_68 contains values that are not finite"),
        (np.zeros((3, 0)), r"pt3d_68 must be \(3, 68\)"),
    ],
)
def test_what_is_no_array_of_numbers_is_named(annotation, value, message):
    with pytest.raises(MissingDataError, match=message):
        read_annotation(annotation(pt3d_68=value))


def test_arrays_that_nobody_asks_for_are_left_alone(annotation, tmp_path):
    path = annotation(other={"a": np.array([[1, "x"]], object)})
    path.write_bytes(path.read_bytes() + nested_cells(b"cells", 30_000))
    assert read_annotation(path)["Pose_Para"].shape == (7,)


@pytest.mark.parametrize("kind", [8, 14, 19, 20, 500, 2**15])
def test_an_unknown_type_of_numbers_is_damage(tmp_path, kind):
    head = array_head(b"pt3d_68", 6, 3, 68)
    (tmp_path / "a.mat").write_bytes(HEAD + element(14, head + element(kind, bytes(8 * 204))))
    with pytest.raises(MissingDataError, match=r"a\.mat is damaged or not a MATLAB"):
        read_annotation(tmp_path / "a.mat")


@pytest.mark.parametrize("kind", ["<i1", "<u2", "<f4", ">f8", "<i8"])
def test_numbers_of_every_kind_are_those_that_scipy_reads(tmp_path, kind):
    values = np.arange(24).reshape(2, 3, 4).astype(kind)
    model = {"a": values, "b": np.array([[True, False]]), "c": "text"}
    savemat(tmp_path / "a.mat", {"x": values, "empty": np.zeros((0, 3)), "model": model})
    found = read_mat(tmp_path / "a.mat", ["x", "empty"])
    np.testing.assert_array_equal(found["x"], values)
    assert found["empty"].shape == (0, 3)
    fields = read_mat(tmp_path / "a.mat", ["a", "b"], "model")
    np.testing.assert_array_equal(fields["a"], values)
    assert fields["b"].tolist() == [[1, 0]]


def test_the_other_order_of_bytes(tmp_path):
    flags = struct.pack(">2I", 6, 8) + struct.pack(">2I", 6, 0)
    sides = struct.pack(">2I", 5, 8) + struct.pack(">2i", 1, 2)
    name = struct.pack(">2H", 1, 1) + b"x\0\0\0"  # a small element
    data = struct.pack(">2I", 9, 16) + struct.pack(">2d", 1.5, -2)
    body = flags + sides + name + data
    head = HEAD[:124] + struct.pack(">H", 0x0100) + b"MI"
    (tmp_path / "a.mat").write_bytes(head + struct.pack(">2I", 14, len(body)) + body)
    assert read_mat(tmp_path / "a.mat", ["x"])["x"].tolist() == [[1.5, -2.0]]


@pytest.mark.parametrize("packed", [False, True])
def test_deeply_nested_cells_do_not_end_the_process(tmp_path, packed):
    cells = nested_cells(b"pt3d_68", 30_000)
    if packed:
        data = zlib.compress(cells)
        cells = struct.pack("<2I", 15, len(data)) + data
    (tmp_path / "a.mat").write_bytes(HEAD + cells)
    with pytest.raises(MissingDataError, match="pt3d_68 must be real numbers"):
        read_annotation(tmp_path / "a.mat")


@pytest.mark.parametrize("sides", [(1, 1), (1, 2), (500, 500)])
def test_nested_cells_in_or_behind_a_struct_do_not_end_the_process(tmp_path, sides):
    fields = element(5, struct.pack("<i", 32)) + element(1, b"tri".ljust(32, b"\0"))
    cells = nested_cells(b"cells", 30_000)
    inside = cells if sides == (1, 1) else numbers(b"", np.ones((1, 1)))
    struct_ = element(14, array_head(b"model", 2, *sides) + fields + inside)
    (tmp_path / "a.mat").write_bytes(HEAD + struct_ + cells)
    with pytest.raises(MissingDataError, match="tri must be real|model is not a struct of numbers"):
        read_mat(tmp_path / "a.mat", ["tri"], "model")


@pytest.fixture
def small(monkeypatch):
    """A limit of one MB, so that no test has to make gigabytes."""
    monkeypatch.setattr(arrays, "_SMALL", 1 << 20)


def test_a_mat_that_unpacks_to_gigabytes_is_refused(tmp_path, small):
    data = zlib.compress(numbers(b"other", np.zeros((1, 1_000_000))), 1)
    (tmp_path / "a.mat").write_bytes(HEAD + struct.pack("<2I", 15, len(data)) + data)
    with pytest.raises(MissingDataError, match=r"a\.mat would decompress to more than 1 MB"):
        read_annotation(tmp_path / "a.mat")


@pytest.mark.parametrize("start", [b"", b"\x89HDF\r\n\x1a\n", b"\0\0\0\0" * 5, HEAD[:126]])
def test_other_files_are_no_mat(tmp_path, start):
    (tmp_path / "a.mat").write_bytes(start + bytes(300))
    with pytest.raises(MissingDataError, match=r"a\.mat is damaged or not a MATLAB.*-v7"):
        read_annotation(tmp_path / "a.mat")


def test_an_npz_that_unpacks_to_gigabytes_is_refused(tmp_path, small):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (1_000_000,)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(8_000_000))
    with pytest.raises(MissingDataError, match=r"a\.npz would decompress to more than 1 MB"):
        read_npz(tmp_path / "a.npz", ["a"])


@pytest.mark.parametrize("shape", [(10**12,), (10**9, 10**9, 10**9), (-5,), (3,)])
def test_an_npy_that_claims_another_size_is_refused(tmp_path, shape):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(16))
    with pytest.raises(MissingDataError, match=r"a\.npz is damaged or not an npz"):
        read_npz(tmp_path / "a.npz", ["a"])


def test_pickles_are_never_opened(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], object))
    with pytest.raises(MissingDataError, match=r"a\.npz is damaged or not an npz"):
        read_npz(tmp_path / "a.npz", ["a"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kpt": SMALL.kpt + 300}, "every landmark must lie inside"),
        ({"kpt": -SMALL.kpt}, "every landmark must lie inside"),
        ({"region": SMALL.region[:9]}, "regions of a UV layout are 256 x 256"),
        ({"mean": SMALL.mean_shape * np.nan}, "must be finite"),
        ({"sigma": np.array([1.0, 0, 1])}, "sigma must be positive"),
        ({"sigma": np.ones(7)}, r"basis must be \(\d+, 3, K\)"),
        ({"mask": np.array(["x"])}, "256 x 256 mask"),
        ({"identities": np.array([1, 2])}, "not a face model"),
        ({"identities": 9}, "9 of 3 columns"),
        ({"identities": np.inf}, "not a face model"),
        ({"basis": np.array("x")}, "not a face model"),
    ],
)
def test_a_bad_face_model_is_named_with_its_fault(tmp_path, changed, message):
    path = write_face_model(tmp_path / "m.npz")
    with np.load(path) as file:
        fields = {key: file[key] for key in file.files}
    np.savez(path, **{**fields, **changed})
    with pytest.raises(MissingDataError, match=f"m.npz.*{message}"):
        load_face_model(path)


@st.composite
def damages(draw):
    """A function that damages bytes: cuts them, or overwrites, removes or doubles some."""
    place = draw(st.floats(0, 1))
    kind = draw(st.sampled_from(["cut", "write", "remove", "double"]))
    piece = draw(st.binary(min_size=1, max_size=8))

    def damage(data: bytes) -> bytes:
        at = int(place * len(data))
        if kind == "cut":
            return data[:at]
        if kind == "write":
            return data[:at] + piece + data[at + len(piece) :]
        if kind == "remove":
            return data[:at] + data[at + len(piece) :]
        return data[:at] + data[max(at - 40, 0) :]

    return damage


def only_one_sentence(read, path) -> None:
    try:
        read(path)
    except MissingDataError as error:
        text = str(error)
        assert path.name in text
        assert "\n" not in text


@quick
@given(damage=damages(), compress=st.booleans())
def test_a_damaged_annotation_is_read_or_named(annotation, damage, compress):
    path = annotation(compress=compress)
    path.write_bytes(damage(path.read_bytes()))
    only_one_sentence(read_annotation, path)


@quick
@given(data=st.binary(max_size=400), head=st.booleans())
def test_noise_is_no_annotation(tmp_path, data, head):
    path = tmp_path / "a.mat"
    path.write_bytes((HEAD if head else b"") + data)
    only_one_sentence(read_annotation, path)


@pytest.fixture(scope="module")
def face_model(tmp_path_factory):
    path = write_face_model(tmp_path_factory.mktemp("model") / "m.npz", columns=1, identities=1)
    return path.read_bytes()


@quick
@given(damage=damages())
def test_a_damaged_face_model_is_read_or_named(tmp_path, face_model, damage):
    path = tmp_path / "m.npz"
    path.write_bytes(damage(face_model))
    only_one_sentence(load_face_model, path)


@settings(quick, max_examples=30)
@given(damage=damages(), which=st.sampled_from(["BFM.mat", "BFM_UV.mat"]))
def test_a_damaged_bfm_is_converted_or_named(tmp_path, damage, which):
    write_bfm(tmp_path, SMALL, k=(1, 1))
    path = tmp_path / which
    path.write_bytes(damage(path.read_bytes()))
    convert = lambda _: convert_bfm(  # noqa: E731
        tmp_path / "BFM.mat", tmp_path / "BFM_UV.mat", SMALL, tmp_path / "m.npz"
    )
    only_one_sentence(convert, path)
