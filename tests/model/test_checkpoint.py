from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from public import public_input, public_outputs, public_state

from sadr_cli.errors import MissingDataError, OutputError
from sadr_cli.model import checkpoint as cp
from sadr_cli.model import public as public_checkpoint
from sadr_cli.model.alignment import self_align
from sadr_cli.model.network import NetworkConfig, SADRNet
from sadr_cli.uv import UVLayout

SMALL = NetworkConfig(64, 32, 0.25)


@pytest.fixture
def small(uv: UVLayout) -> cp.Checkpoint:
    torch.manual_seed(0)
    return cp.Checkpoint(SADRNet(SMALL).eval(), uv, name="small", provenance={"samples": 7})


def test_round_trip_keeps_everything(small: cp.Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    digest = cp.save_checkpoint(small, path, half=False)
    back = cp.load_checkpoint(path)
    assert back.sha256 == digest
    assert (back.name, back.provenance, back.network.config) == ("small", {"samples": 7}, SMALL)
    assert (back.uv.mask == small.uv.mask).all()
    assert (back.uv.kpt == small.uv.kpt).all()
    assert np.array_equal(back.uv.mean_shape, small.uv.mean_shape)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(back.network(x).pose_map, small.network(x).pose_map)


def test_half_precision_is_half_the_size_and_nearly_the_same(small, tmp_path: Path) -> None:
    cp.save_checkpoint(small, tmp_path / "full.safetensors", half=False)
    cp.save_checkpoint(small, tmp_path / "half.safetensors")
    layout = 4 * small.uv.mean_shape.size
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size - layout for n in ("half", "full")]
    assert sizes[0] < 0.65 * sizes[1]
    network = cp.load_checkpoint(tmp_path / "half.safetensors").network
    assert all(p.dtype == torch.float32 for p in network.parameters())


def test_metadata_describes_itself_without_torch(small, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    cp.save_checkpoint(small, path)
    document = cp.read_metadata(path.read_bytes())
    assert document["network"]["input_size"] == 64
    assert document["scaling"]["position"] == 280
    assert "pixels / 255" in document["input"]["normalization"]
    assert document["input"]["color"] == "RGB"
    assert "y up" in document["uv"]["shape_frame"]


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_damaged_files_are_named(small, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "small.safetensors"
    cp.save_checkpoint(small, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(MissingDataError, match=r"small.safetensors is damaged"):
        cp.load_checkpoint(path)


def rewritten(path: Path, change) -> Path:
    """The checkpoint ``path`` after ``change(tensors, document)`` on its parts."""
    from safetensors.torch import load, save

    data = path.read_bytes()
    tensors, document = load(data), cp.read_metadata(data)
    text = change(tensors, document)
    path.write_bytes(save(tensors, {"sadr": text or json.dumps(document)}))
    return path


def out_of_the_map(value: int):
    def change(tensors, _):
        tensors["uv.kpt"][3, 1] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, document: "[" * 100_000,
        lambda tensors, document: "[1, 2]",
        lambda tensors, document: "7",
        lambda tensors, document: "null",
        lambda tensors, document: document.update(network=[]),
        lambda tensors, document: document.update(network={"input_size": "big"}),
        lambda tensors, document: document.update(network={"unheard_of": 1}),
        lambda tensors, document: document.update(scaling={"position": "wide"}),
        lambda tensors, document: document.update(scaling={"position": float("nan")}),
        lambda tensors, document: document.update(provenance=7),
        lambda tensors, document: '{"format": 1}',
        lambda tensors, document: tensors.__delitem__("uv.mask"),
        lambda tensors, document: tensors.update({"uv.mask": tensors["uv.mask"][:9].clone()}),
        lambda tensors, document: tensors.update({"uv.kpt": tensors["uv.kpt"][:9].clone()}),
        out_of_the_map(999),
        out_of_the_map(-1),
    ],
)
def test_a_checkpoint_that_is_none_is_named(small, tmp_path: Path, change) -> None:
    path = tmp_path / "small.safetensors"
    cp.save_checkpoint(small, path)
    with pytest.raises(MissingDataError, match=r"small.safetensors (is damaged|does not fit)"):
        cp.load_checkpoint(rewritten(path, change))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["network.", "uv.mean_shape"])
def test_weights_that_are_no_numbers_are_named(small, tmp_path: Path, key, value) -> None:
    path = tmp_path / "small.safetensors"
    cp.save_checkpoint(small, path)

    def spoil(tensors, _):
        name = next(n for n in tensors if n.startswith(key) and tensors[n].is_floating_point())
        tensors[name].view(-1)[-1] = value

    with pytest.raises(MissingDataError, match=rf"small.safetensors contains .* \({key}"):
        cp.load_checkpoint(rewritten(path, spoil))


def test_another_format_version_is_named(small, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "small.safetensors"
    monkeypatch.setattr(cp, "FORMAT_VERSION", 99)
    cp.save_checkpoint(small, path)
    monkeypatch.undo()
    with pytest.raises(MissingDataError, match="format 99"):
        cp.load_checkpoint(path)


def test_a_flipped_bit_is_caught_by_the_listed_checksum(small, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    digest = cp.save_checkpoint(small, path)
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  small.safetensors\n")
    cp.load_checkpoint(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(MissingDataError, match="SHA-256"):
        cp.load_checkpoint(path)


def test_pytorch_files_are_sent_to_the_import(tmp_path: Path) -> None:
    path = tmp_path / "net_021.pth"
    torch.save({}, path)
    with pytest.raises(MissingDataError, match="sadr weights import"):
        cp.load_checkpoint(path)


def test_unwritable_target_leaves_nothing(small, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        cp.save_checkpoint(small, tmp_path / "file" / "small.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# Finding weights ------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path, monkeypatch, small) -> Path:
    for name, folder in (("mobile", "package"), ("mine", "cache"), ("mobile", "cache")):
        cp.save_checkpoint(small, tmp_path / folder / f"{name}.safetensors")
    monkeypatch.setattr(cp, "weights_folders", lambda: [tmp_path / "package", tmp_path / "cache"])
    monkeypatch.delenv("SADR_WEIGHTS", raising=False)
    return tmp_path


def test_weights_are_found_by_path_name_environment_and_default(folders, monkeypatch) -> None:
    assert cp.find_weights() == folders / "package" / "mobile.safetensors"
    assert cp.find_weights("mine") == folders / "cache" / "mine.safetensors"
    file = folders / "cache" / "mobile.safetensors"
    assert cp.find_weights(file) == file
    monkeypatch.setenv("SADR_WEIGHTS", "mine")
    assert cp.find_weights() == folders / "cache" / "mine.safetensors"
    assert cp.find_weights("mobile") == folders / "package" / "mobile.safetensors"
    assert cp.find_weights("lite") == folders / "package" / "mobile.safetensors"  # its successor


def test_missing_weights_say_what_is_there(folders: Path) -> None:
    with pytest.raises(MissingDataError, match=r"'best'.*installed: mine, mobile"):
        cp.find_weights("best")


def test_no_weights_at_all(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(cp, "weights_folders", lambda: [tmp_path])
    monkeypatch.delenv("SADR_WEIGHTS", raising=False)
    with pytest.raises(MissingDataError, match="no weights are installed"):
        cp.find_weights()


# The public checkpoint ------------------------------------------------------------------------


def test_public_file_is_imported_parameter_for_parameter(uv: UVLayout, tmp_path: Path) -> None:
    mean = np.moveaxis(uv.to_map(uv.mean_shape), 2, 0)
    state = public_state(mean)
    file = tmp_path / "net_021.pth"
    torch.save(state, file)
    imported = public_checkpoint.import_public_file(file, uv)
    path = tmp_path / "official.safetensors"
    cp.save_checkpoint(imported, path, half=False)
    back = cp.load_checkpoint(path)
    assert back.alignment == "official"
    assert np.array_equal(back.uv.mean_shape, uv.mean_shape)
    own = back.network.state_dict()
    for name, value in state.items():
        if not name.startswith("rebuilder.") and not name.endswith("num_batches_tracked"):
            assert torch.equal(own[name], value), name


def test_public_alignment_is_reproduced(shared_data: Path) -> None:
    """G inside the face mask, with the published mean template (not shipped with the project)."""
    with np.load(shared_data / "face_model" / "bfm_uv.npz") as file:
        uv = UVLayout(file["mask"], file["kpt"].astype(np.int64), file["region"], file["mean"])
    mean = np.moveaxis(uv.to_map(uv.mean_shape), 2, 0)
    imported = public_checkpoint.import_public(public_state(mean), uv)
    with torch.inference_mode():
        out = imported.network(public_input())
        aligned = self_align(
            out.pose_map * imported.scaling.position,
            out.shape_map + torch.from_numpy(mean),
            torch.sigmoid(out.attention),
            torch.from_numpy(imported.uv.kpt),
            size=256,
            mode="official",
        )
    truth = public_outputs()["G"]
    face = aligned.face[:, :, ::5, ::5].numpy() / imported.scaling.position
    inside = uv.mask[::5, ::5]
    assert np.abs(face - truth)[:, :, inside].max() < 1e-4 * np.ptp(truth[:, :, inside])


def test_other_state_dicts_are_refused_by_name(uv: UVLayout) -> None:
    state = public_state(np.zeros((3, 256, 256)))
    without = {k: v for k, v in state.items() if k != "block3.conv2.weight"}
    with pytest.raises(MissingDataError, match=r"block3\.conv2\.weight is missing"):
        public_checkpoint.import_public(without, uv)
    with pytest.raises(MissingDataError, match=r"extra\.weight is unknown"):
        public_checkpoint.import_public({**state, "extra.weight": torch.zeros(1)}, uv)
    with pytest.raises(MissingDataError, match="has shape"):
        public_checkpoint.import_public({**state, "block1.conv1.weight": torch.zeros(2, 2)}, uv)


class _Bomb:
    def __reduce__(self):  # executed by a careless unpickler
        return (Path.write_text, (Path("owned"), "x"))


def test_pickles_are_never_executed(uv: UVLayout, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "evil.pth").open("wb") as file:
        pickle.dump({"a": _Bomb()}, file)
    torch.save({"a": _Bomb()}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(MissingDataError, match="was not loaded"):
            public_checkpoint.import_public_file(tmp_path / name, uv)
    assert not (tmp_path / "owned").exists()
    with pytest.raises(MissingDataError, match="no file"):
        public_checkpoint.import_public_file(tmp_path / "nothing.pth", uv)
    (tmp_path / "text.pth").write_text(json.dumps({}))
    with pytest.raises(MissingDataError):
        public_checkpoint.import_public_file(tmp_path / "text.pth", uv)
