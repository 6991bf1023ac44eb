"""Checkpoints: a self-describing safetensors file with everything needed to run a network.

Tensors ``network.*`` are the state dict (half precision as shipped); ``uv.*`` the UV layout and
the mean template. The metadata key ``sadr`` is a JSON document with the format version, name,
network sizes, input normalisation, scalings, training provenance and licence note. Nothing in the
file is executed or unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sadr_cli.errors import MissingDataError
from sadr_cli.files import atomic_write, make_folder
from sadr_cli.folder import read_file
from sadr_cli.model.config import NetworkConfig
from sadr_cli.places import own_cache
from sadr_cli.uv import SIZE, UVLayout

if TYPE_CHECKING:
    from torch import Tensor

    from sadr_cli.model.network import SADRNet

FORMAT_VERSION = 1
DEFAULT_WEIGHTS = "mobile"
RETIRED = {"lite": "mobile"}  # names of the previous release -> their successors
SUFFIX = ".safetensors"

# Errors raised when a file is not a valid checkpoint.
_NO_CHECKPOINT = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Scaling:
    """How network outputs become positions.

    position: P times this is in pixels of a 256-pixel crop.
    shape: D times this is in units of the shape frame (66.67 mm).
    """

    position: float = 280.0
    shape: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.position < 1e9 or not 0 < self.shape < 1e9:
            raise ValueError(f"scalings must be positive numbers: {self.position}, {self.shape}")


@dataclass(frozen=True)
class UnreadNetwork:
    """A network described by the header of its file, and the function that reads it."""

    config: NetworkConfig
    parameters: int
    read: Callable[[], SADRNet]


class _Network:
    """Descriptor: reads an :class:`UnreadNetwork` on first access; needs PyTorch only then."""

    def __get__(self, checkpoint: Checkpoint | None, _: type | None = None) -> SADRNet:
        if checkpoint is None:
            raise AttributeError  # the field has no default
        known = checkpoint.__dict__["_network"]
        if isinstance(known, UnreadNetwork):
            known = checkpoint.__dict__["_network"] = known.read()
        return known  # type: ignore[no-any-return]

    def __set__(self, checkpoint: Checkpoint, network: SADRNet | UnreadNetwork) -> None:
        checkpoint.__dict__["_network"] = network


@dataclass
class Checkpoint:
    """A network with everything it needs; see :func:`load_checkpoint`, :func:`save_checkpoint`.

    network: may be an :class:`UnreadNetwork`.
    name: shown to users; alignment: the self-alignment it was trained with.
    provenance: how it was trained, free form; license: terms of the weights.
    path, sha256: of its file, if it has one.
    """

    network: _Network = _Network()
    uv: UVLayout  # type: ignore[misc]  # a descriptor is no default
    name: str = "unnamed"
    scaling: Scaling = field(default_factory=Scaling)
    alignment: str = "paper"
    provenance: dict[str, Any] = field(default_factory=dict)
    license: str = ""
    path: Path | None = None
    sha256: str = ""

    @property
    def config(self) -> NetworkConfig:
        """Sizes and parts of the network."""
        return self.__dict__["_network"].config  # type: ignore[no-any-return]

    @property
    def parameters(self) -> int:
        """The number of learned parameters."""
        known = self.__dict__["_network"]
        if isinstance(known, UnreadNetwork):
            return known.parameters
        return sum(p.numel() for p in known.parameters())


def save_checkpoint(checkpoint: Checkpoint, path: str | Path, *, half: bool = True) -> str:
    """Write a checkpoint atomically; returns its SHA-256. Statistics of norms stay float32."""
    import torch
    from safetensors.torch import save

    path = Path(path)
    tensors: dict[str, Tensor] = {}
    for key, value in checkpoint.network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        value = value.detach().cpu()
        shrink = half and value.is_floating_point() and "running_" not in key
        tensors[f"network.{key}"] = (value.half() if shrink else value).contiguous()
    uv = checkpoint.uv
    tensors |= {f"uv.{key}": torch.from_numpy(v) for key, v in uv.to_arrays().items()}
    document = {
        "format": FORMAT_VERSION,
        "name": checkpoint.name,
        "network": asdict(checkpoint.config),
        "input": _describe_input(checkpoint.config),
        "scaling": asdict(checkpoint.scaling),
        "alignment": checkpoint.alignment,
        "uv": {
            "size": SIZE,
            "vertices": "pixels of the mask in row-major order",
            "triangles": "each 2 x 2 block (a b / c d) of the mask gives (a c b) and (b c d)",
            "shape_frame": "x right, y up, z towards the viewer, 1 unit = 66.67 mm",
        },
        "provenance": checkpoint.provenance,
        "license": checkpoint.license,
    }
    data = save(tensors, metadata={"sadr": json.dumps(document, sort_keys=True)})
    make_folder(path.parent)
    atomic_write(path, data, durable=True)
    return hashlib.sha256(data).hexdigest()


def _describe_input(config: NetworkConfig) -> dict[str, str]:
    """The input format in words; computations use the network's configuration."""
    how = "per image and channel (x - mean) / sqrt(var + 0.001) of pixels / 255"
    if config.pixel_scale:
        how = f"(x - {config.pixel_mean:g}) / {config.pixel_scale:g} of pixels in [0, 255]"
    return {"color": config.color, "normalization": how}


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint into float32, in eval mode, on the CPU.

    MissingDataError when the file is missing, damaged, or not a checkpoint of this format.
    """
    checkpoint = open_checkpoint(path)
    checkpoint.network  # noqa: B018 - reads it
    return checkpoint


def open_checkpoint(path: str | Path) -> Checkpoint:
    """As :func:`load_checkpoint`, without PyTorch: the network is read on first access.

    Errors in the network itself are raised only then.
    """
    path = Path(path)
    if path.suffix in (".pth", ".pt"):
        raise MissingDataError(
            f"{path} is a PyTorch file: convert the public checkpoint once with "
            f"'sadr weights import {path}'"
        )
    data = _read(path)
    _check_digest(path, data)
    try:
        header = _read_header(data)
        document = _document(header)
    except _NO_CHECKPOINT as error:
        raise _damaged(path) from error
    if document.get("format") != FORMAT_VERSION:
        raise MissingDataError(
            f"{path} has checkpoint format {document.get('format')}, this version of sadr reads "
            f"{FORMAT_VERSION}: use the weights of this version"
        )
    try:
        config = NetworkConfig(**document["network"])
        scaling = Scaling(**document["scaling"])
        provenance = dict(document.get("provenance", {}))
        parameters = _count_parameters(header)
    except _NO_CHECKPOINT as error:
        raise _unfit(path) from error
    return Checkpoint(
        network=UnreadNetwork(config, parameters, partial(_read_network, path, config)),
        uv=load_layout(path),
        name=str(document.get("name", path.stem)),
        scaling=scaling,
        alignment=str(document.get("alignment", "paper")),
        provenance=provenance,
        license=str(document.get("license", "")),
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _read(path: Path) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise MissingDataError(f"cannot read weights {path}: {error.strerror or error}") from error


def _read_network(path: Path, config: NetworkConfig) -> SADRNet:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from sadr_cli.model.encoders import create_network

    try:
        tensors = load(_read(path))
    except (SafetensorError, *_NO_CHECKPOINT) as error:
        raise _damaged(path) from error
    odd = next((key for key, value in tensors.items() if not value.float().isfinite().all()), None)
    if odd is not None:
        raise MissingDataError(
            f"{path} contains numbers that are not finite ({odd}): its training failed, or the "
            "file is damaged; use another one"
        )
    try:
        network = create_network(config)
        state = {
            key.removeprefix("network."): value.float() if value.is_floating_point() else value
            for key, value in tensors.items()
            if key.startswith("network.")
        }
        counters = {
            k: torch.zeros((), dtype=torch.long)
            for k in network.state_dict()
            if k.endswith("num_batches_tracked")
        }
        network.load_state_dict({**counters, **state})
    except (*_NO_CHECKPOINT, RuntimeError) as error:
        raise _unfit(path) from error
    return network.eval()


def _damaged(path: str | Path) -> MissingDataError:
    return MissingDataError(f"{path} is damaged or not a sadr checkpoint: install or copy it again")


def _unfit(path: Path) -> MissingDataError:
    return MissingDataError(
        f"{path} does not fit the network it describes: install or copy it again"
    )


def load_layout(path: str | Path) -> UVLayout:
    """Only the UV layout of a checkpoint; fast, without PyTorch. Errors as in load_checkpoint."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            keys = [k for k in file.keys() if k.startswith("uv.")]  # noqa: SIM118
            return UVLayout.from_arrays({k.removeprefix("uv."): file.get_tensor(k) for k in keys})
    except OSError as error:
        raise MissingDataError(f"cannot read weights {path}: {error.strerror or error}") from error
    except (SafetensorError, *_NO_CHECKPOINT) as error:
        raise _damaged(path) from error


def read_metadata(data: bytes) -> dict[str, Any]:
    """The ``sadr`` document of a checkpoint's bytes; ValueError when there is none."""
    return _document(_read_header(data))


def _document(header: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(header["__metadata__"]["sadr"]))


def _read_header(data: bytes) -> dict[str, Any]:
    """The JSON at the start of a safetensors file: tensors, their shapes, metadata."""
    if len(data) < 8:
        raise ValueError("too short")
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(len(data) - 8, 1 << 24):
        raise ValueError("bad header")
    return dict(json.loads(data[8 : 8 + length]))


def _count_parameters(header: dict[str, Any]) -> int:
    """Number of learned parameters: without the statistics of norms and ``pose_bias``."""
    return sum(
        math.prod(tensor["shape"])
        for key, tensor in header.items()
        if key.startswith("network.") and "running_" not in key and key != "network.pose_bias"
    )


# Installed weights ----------------------------------------------------------------------------


def weights_folders() -> list[Path]:
    """Folders searched for weights by name, in order: the package, the cache."""
    package = Path(__file__).parents[1]
    own = cache_folder()
    return [package / "weights", package.parent / "weights", *([own] if own else [])]


def cache_folder() -> Path | None:
    """``weights`` of sadr's cache; None for a user without a home folder."""
    own = own_cache()
    return None if own is None else own / "weights"


def available_weights() -> dict[str, Path]:
    """Names of the installed weights and their files; earlier folders win."""
    found: dict[str, Path] = {}
    for folder in weights_folders():
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            found.setdefault(path.stem, path)
    return found


def find_weights(weights: str | Path | None = None) -> Path:
    """The file of a path or name; None: of ``SADR_WEIGHTS``, else of the default network.

    A name of :data:`RETIRED` means its successor unless it is installed. MissingDataError lists the
    installed names.
    """
    wanted = str(weights or os.environ.get("SADR_WEIGHTS") or "")
    names = available_weights()
    if not wanted:
        for name in (DEFAULT_WEIGHTS, *sorted(names)):
            if name in names:
                return names[name]
        raise MissingDataError(
            "no weights are installed: reinstall sadr, or name a checkpoint with --weights"
        )
    if wanted in names:
        return names[wanted]
    if RETIRED.get(wanted) in names:
        return names[RETIRED[wanted]]
    path = Path(os.path.expanduser(wanted))  # noqa: PTH111 - stays as it is without a home
    if os.path.isfile(path):  # noqa: PTH113 - false, too, where nobody may look
        return path
    known = ", ".join(sorted(names)) or "none"
    raise MissingDataError(
        f"no weights {wanted!r}: neither a file nor an installed name (installed: {known})"
    )


def listed_digest(path: Path) -> str | None:
    """The SHA-256 of the file in ``SHA256SUMS`` beside it, or None."""
    try:
        lines = (path.parent / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    for line in lines:
        digest, _, name = line.partition("  ")
        if name.strip() == path.name:
            return digest.strip()
    return None


def _check_digest(path: Path, data: bytes) -> None:
    listed = listed_digest(path)
    if listed is not None and listed != hashlib.sha256(data).hexdigest():
        raise MissingDataError(
            f"{path} is damaged (its SHA-256 is not the one in SHA256SUMS): reinstall sadr "
            "or copy the file again"
        )
