"""The network with its self-alignment as one file: ONNX, TorchScript or safetensors.

Input ``crops`` (B, 256, 256, 3) uint8 RGB; outputs, in pixels of that crop with y down:

============ ================== ==============================================================
pose_map     (B, 3, 256, 256)   P
offset_map   (B, 3, 256, 256)   D in shape units (66.67 mm); zero mean template not included
attention    (B, 1, h, w)       A in [0, 1]
face_map     (B, 3, 256, 256)   G, the aligned face
scale        (B,)               f  } pose in the crop turned y up: G_up = f R S + t
rotation     (B, 3, 3)          R  }
translation  (B, 3)             t  }
============ ================== ==============================================================

For networks with a smaller input, the crop is averaged down. The metadata key ``sadr`` of the file
has the pixels of the landmarks and the mask, so no other file is needed.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sadr_cli.errors import MissingDataError, UsageError
from sadr_cli.files import atomic_write, make_folder
from sadr_cli.model import alignment
from sadr_cli.model.checkpoint import Checkpoint, save_checkpoint
from sadr_cli.model.encoders import create_network
from sadr_cli.model.network import NetworkConfig, normalize_input
from sadr_cli.model.uvgrid import upsample
from sadr_cli.uv import SIZE
from sadr_cli.version import __version__

FORMATS = {"onnx": ".onnx", "torchscript": ".pt", "safetensors": ".safetensors"}
OUTPUTS = ("pose_map", "offset_map", "attention", "face_map", "scale", "rotation", "translation")
OPSET = 18
_SQUARINGS = 12  # of Horn's matrix: 4096 steps of the power iteration
_NEWTON = 12


class AlignedNetwork(nn.Module):
    """Crops -> :data:`OUTPUTS`, with operations that every runtime supports (no SVD).

    half: network arithmetic in float16; alignment and outputs stay float32.
    """

    mean: Tensor
    pose_bias: Tensor
    kpt: Tensor
    mask: Tensor

    def __init__(self, checkpoint: Checkpoint, half: bool = False) -> None:
        super().__init__()
        if checkpoint.alignment not in alignment.SELF_ALIGNMENTS:
            raise UsageError(
                f"{checkpoint.name} is a network of the ablation (alignment "
                f"{checkpoint.alignment}): only networks with self-alignment are exported"
            )
        uv, config = checkpoint.uv, checkpoint.network.config
        self.network = create_network(config)
        self.network.load_state_dict(checkpoint.network.state_dict())
        self.register_buffer("pose_bias", self.network.pose_bias.float().clone())
        self.network.eval()
        if half:  # except the output layers, where rounding would cost a tenth of a pixel
            self.network.half()
            for head in (self.network.decoder_kpt, self.network.decoder_offset):
                head[-3:].float()
        self.half_network = half
        self.shrink = SIZE // config.input_size
        self.deformation = config.deformation
        self.scaling, self.mode = checkpoint.scaling, checkpoint.alignment
        mean = np.moveaxis(uv.to_map(uv.mean_shape), 2, 0)[None]
        self.register_buffer("mean", torch.from_numpy(np.ascontiguousarray(mean)))
        self.register_buffer("kpt", torch.from_numpy(uv.kpt.astype(np.int64)))
        self.register_buffer("mask", torch.from_numpy(uv.mask))

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """(B, 256, 256, 3) uint8 -> :data:`OUTPUTS`."""
        x = crops.permute(0, 3, 1, 2).float()
        if self.shrink > 1:
            x = F.avg_pool2d(x, self.shrink)
        x = _normalize(x, self.network.config)
        features, logits = self.network.encode(x.half() if self.half_network else x)
        y = self.network.decode_low(features)
        pose = _decode(self.network.decoder_kpt, y) + self.pose_bias
        offset = _decode(self.network.decoder_offset, y)
        pose_map = upsample(pose) * self.scaling.position
        offset_map = upsample(offset) * self.scaling.shape
        shape = offset_map + self.mean if self.deformation else offset_map
        attention = None if logits is None else torch.sigmoid(logits.float())
        aligned = alignment.self_align(
            *(pose_map, shape, attention, self.kpt),
            size=SIZE,
            mask=self.mask,
            mode=self.mode,
            nearest=nearest_rotation,
        )
        if attention is None:
            attention = torch.ones_like(pose_map[:, :1, ::8, ::8])
        placement = aligned.scale, aligned.rotation, aligned.translation
        return pose_map, offset_map, attention, aligned.face, *placement


def _normalize(rgb: Tensor, config: NetworkConfig) -> Tensor:
    """``normalize_input`` with means over rows, then columns: some runtimes sum 16,000 numbers
    sequentially and lose two digits."""
    if config.pixel_scale:
        return normalize_input(rgb, config)
    x = (rgb.flip(1) if config.color == "BGR" else rgb) / 255
    x = x - x.mean(3, keepdim=True).mean(2, keepdim=True)
    x = x - x.mean(3, keepdim=True).mean(2, keepdim=True)
    var = (x * x).mean(3, keepdim=True).mean(2, keepdim=True)
    return x * torch.rsqrt(var + 1e-3)


def _decode(head: nn.Sequential, y: Tensor) -> Tensor:
    return head[-3:](head[:-3](y).float())


def nearest_rotation(m: Tensor, proper: bool) -> Tensor:
    """The rotation nearest to ``m`` (B, 3, 3), without SVD; see ``alignment``.

    proper: by Horn's quaternion, always with det R = +1; else the orthogonal polar factor.
    """
    m = m / torch.sqrt((m * m).sum((1, 2), keepdim=True)).clamp_min(1e-20)
    return _horn(m) if proper else _polar(m)


def _horn(m: Tensor) -> Tensor:
    """The quaternion that maximises trace(R' M) is the principal eigenvector of a 4 x 4 matrix
    (Horn 1987). Repeated squaring turns that matrix into q q', whose entries give R."""
    r = [[m[:, i, j] for j in range(3)] for i in range(3)]
    trace = r[0][0] + r[1][1] + r[2][2]
    v = [r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]]
    rows = [torch.stack([trace, *v], 1)]
    for i in range(3):
        row = [v[i]]
        for j in range(3):
            value = r[i][j] + r[j][i]
            row.append(value - trace if i == j else value)
        rows.append(torch.stack(row, 1))
    k = torch.stack(rows, 1)
    # For |M| = 1 all eigenvalues lie within +-sqrt(3): the shift makes them non-negative.
    k = k + 3**0.5 * torch.eye(4, dtype=m.dtype, device=m.device)
    for _ in range(_SQUARINGS):
        k = k @ k
        k = k / (k[:, 0, 0] + k[:, 1, 1] + k[:, 2, 2] + k[:, 3, 3])[:, None, None]
    ww, xx, yy, zz = (k[:, i, i] for i in range(4))
    wx, wy, wz = (2 * k[:, 0, i] for i in range(1, 4))
    xy, xz, yz = 2 * k[:, 1, 2], 2 * k[:, 1, 3], 2 * k[:, 2, 3]
    return torch.stack(
        [
            torch.stack([ww + xx - yy - zz, xy - wz, xz + wy], 1),
            torch.stack([xy + wz, ww - xx + yy - zz, yz - wx], 1),
            torch.stack([xz - wy, yz + wx, ww - xx - yy + zz], 1),
        ],
        1,
    )


def _polar(m: Tensor) -> Tensor:
    """Newton's iteration X <- (X / g + g X^-T) / 2 for the polar factor; det M keeps its sign."""
    x = m
    for _ in range(_NEWTON):
        a, b, c = x[:, 0], x[:, 1], x[:, 2]
        cofactor = torch.stack(
            [torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], 1
        )
        det = (a * cofactor[:, 0]).sum(1)[:, None, None]
        inverse = cofactor / torch.where(det.abs() < 1e-30, torch.full_like(det, 1e-30), det)
        norm = torch.sqrt((x * x).sum((1, 2), keepdim=True))
        other = torch.sqrt((inverse * inverse).sum((1, 2), keepdim=True))
        g = torch.sqrt(norm / other.clamp_min(1e-20))
        x = 0.5 * (x / g + g * inverse)
    return x


def export_model(
    checkpoint: Checkpoint,
    path: Path,
    kind: str,
    *,
    half: bool = False,
    dynamic_batch: bool = False,
) -> None:
    """Write the network as ``kind`` of :data:`FORMATS`, completely or not at all.

    dynamic_batch: any number of crops per call for ONNX, else one; TorchScript takes any number.
    """
    if kind not in FORMATS:
        raise UsageError(f"--format for model takes {', '.join(FORMATS)}, not {kind!r}")
    make_folder(path.parent)
    if kind == "safetensors":
        save_checkpoint(checkpoint, path, half=half)
        return
    model = AlignedNetwork(checkpoint, half).eval()
    describe = json.dumps(_metadata(checkpoint, half), sort_keys=True)
    with _quiet(), torch.no_grad():
        if kind == "onnx":
            data = _onnx(model, describe, dynamic_batch)
        else:
            example = torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8)
            traced = torch.jit.trace(model, (example,), check_trace=False)
            buffer = io.BytesIO()
            torch.jit.save(traced, buffer, _extra_files={"sadr": describe})  # type: ignore[no-untyped-call]
            data = buffer.getvalue()
    atomic_write(path, data, durable=True)


def _onnx(model: AlignedNetwork, describe: str, dynamic_batch: bool) -> bytes:
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDataError(
            "ONNX export needs more packages: pip install 'sadr[export]'"
        ) from error
    count = 2 if dynamic_batch else 1
    example = torch.zeros(count, SIZE, SIZE, 3, dtype=torch.uint8)
    program = torch.onnx.export(
        model,
        (example,),
        dynamo=True,
        input_names=["crops"],
        output_names=list(OUTPUTS),
        dynamic_shapes=({0: torch.export.Dim("batch")},) if dynamic_batch else None,
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    for key, value in (("sadr", describe), ("license", json.loads(describe)["license"])):
        proto.metadata_props.append(onnx.StringStringEntryProto(key=key, value=value))
    proto.producer_name, proto.producer_version = "sadr", __version__
    proto.doc_string = (__doc__ or "").strip()
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def _metadata(checkpoint: Checkpoint, half: bool) -> dict[str, Any]:
    uv = checkpoint.uv
    return {
        "name": checkpoint.name,
        "weights_sha256": checkpoint.sha256,
        "license": checkpoint.license,
        "half": half,
        "alignment": checkpoint.alignment,
        "input": "crops (B, 256, 256, 3) uint8 RGB: the square of side 1.5 (w + h) / 2 around "
        "the box of the 68 landmarks",
        "frame": "pixels of the crop, x right, y down, z towards the viewer; (0, 0) is the "
        "centre of the top-left pixel",
        "pose": "G_up = scale * rotation @ S + translation with y up; y of face_map is negated",
        "landmarks_row_column": uv.kpt.tolist(),
        "mask": base64.b64encode(uv.to_arrays()["mask"].tobytes()).decode(),
        "mask_note": "base64 of 256 x 256 bits in rows: the pixels of the maps that are face",
    }


@contextlib.contextmanager
def _quiet() -> Any:
    """Suppresses the exporters' output and log messages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
