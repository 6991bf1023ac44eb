"""Crops in, faces out: device, precision, batching. The library in three lines.

from sadr_cli import Reconstructor
faces = Reconstructor().reconstruct(image)       # (H, W, 3) uint8 RGB
faces[0].vertices, faces[0].landmarks, faces[0].euler
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sadr_cli.crop import crop_to_image, extract_crop
from sadr_cli.errors import InputError, UsageError
from sadr_cli.faces import AGREEMENT, LOW_CONFIDENCE, PROFILE_YAW, Crop, Detection, Face
from sadr_cli.model import alignment
from sadr_cli.model.alignment import MODES, SELF_ALIGNMENTS, UVSurface
from sadr_cli.model.checkpoint import Checkpoint, find_weights, load_checkpoint
from sadr_cli.model.device import MAX_BATCH, check_process, out_of_memory, select_device
from sadr_cli.model.network import NetworkOutput
from sadr_cli.model.runtime import RUNTIMES, Runner
from sadr_cli.model.uvgrid import upsample
from sadr_cli.passes import second_pass
from sadr_cli.pixels import from_edge
from sadr_cli.uv import SIZE, UVLayout

if TYPE_CHECKING:
    from sadr_cli.protocols import FaceDetector


@dataclass(frozen=True)
class WeightsInfo:
    """What is loaded: name, file, SHA-256, side of the network's input, parameters."""

    name: str
    path: str
    sha256: str
    input_size: int
    parameters: int
    alignment: str
    license: str


class Maps(NamedTuple):
    """A network's output in pixels of a 256-pixel crop and shape units, at 256 x 256.

    pose_face, shape: (B, 3, 256, 256) P and S; attention: (B, 1, a, a) in [0, 1] or None;
    pose: (B, 3, 4) f R and t of the y-up crop frame, if the network regresses it.
    """

    pose_face: Tensor
    shape: Tensor
    attention: Tensor | None
    pose: Tensor | None


class Reconstructor:
    """Reconstructs faces with one network on one device.

    weights: path or name of a checkpoint, or None for the default (see ``find_weights``).
    device: "auto", "cpu", "cuda", "cuda:N" or "mps".
    batch_size: crops a forward pass; None takes what suits the device. Halved, for good, when
        memory runs out.
    alignment: "paper" or "official" (see ``alignment``); None takes the checkpoint's own.
    half: bfloat16 arithmetic in the network; None means on CUDA only.
    detector: name of the detector used when a photo comes without detections.
    two_pass: crop again from the first pass's landmarks and keep the more confident face.
    runtime: "torch", "openvino" or "auto", see ``runtime.Runner``.
    flip: run every crop a second time, mirrored, and take the mean of both (twice the work).

    In a process forked after it was made it works on the CPU, with one thread of PyTorch; on a GPU
    it raises UsageError there.
    """

    def __init__(
        self,
        weights: str | Path | Checkpoint | None = None,
        device: str = "auto",
        batch_size: int | None = None,
        alignment: str | None = None,
        half: bool | None = None,
        detector: str = "centerface",
        two_pass: bool = True,
        flip: bool = False,
        runtime: str = "auto",
    ) -> None:
        if runtime not in RUNTIMES:
            raise UsageError(f"no runtime {runtime!r}: use {', '.join(RUNTIMES)}")
        self.device = select_device(device)
        self._process = os.getpid()
        if isinstance(weights, Checkpoint):
            self.checkpoint = weights
        else:
            self.checkpoint = load_checkpoint(find_weights(weights))
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"the batch size must be at least 1: {batch_size}")
        mode = alignment or self.checkpoint.alignment
        own = self.checkpoint.alignment
        known = SELF_ALIGNMENTS if own in SELF_ALIGNMENTS else (own,)
        if mode not in known or mode not in MODES:
            raise UsageError(f"no alignment {mode!r} for this network: use {' or '.join(known)}")
        self.alignment = mode
        self.batch_size = batch_size or MAX_BATCH[self.device.type]
        self.half = self.device.type == "cuda" if half is None else half
        self.detector_name = detector
        self.two_pass = two_pass
        self.flip = flip
        network = self.checkpoint.network.to(self.device).eval()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.runner = Runner(self.network, self.device, "torch" if self.half else runtime)
        uv = self.checkpoint.uv
        mean = np.moveaxis(uv.to_map(uv.mean_shape), 2, 0)[None]
        self._mean = torch.from_numpy(np.ascontiguousarray(mean)).to(self.device)
        self._kpt = torch.from_numpy(uv.kpt.astype(np.int64)).to(self.device)
        self._mask = torch.from_numpy(uv.mask).to(self.device)
        self._surface = UVSurface(self._mask)
        index = uv.landmark_indices.astype(np.int64)
        self._landmarks = torch.from_numpy(index).to(self.device)

    @property
    def uv(self) -> UVLayout:
        """The UV layout of the meshes: triangles, landmarks, mean shape."""
        return self.checkpoint.uv

    @property
    def crop_resolution(self) -> int:
        """Side in pixels of the crops the network takes."""
        return self.network.config.input_size

    @cached_property
    def info(self) -> WeightsInfo:
        """What is loaded."""
        c = self.checkpoint
        return WeightsInfo(
            name=c.name,
            path=str(c.path or ""),
            sha256=c.sha256,
            input_size=self.crop_resolution,
            parameters=sum(p.numel() for p in self.network.parameters()),
            alignment=self.alignment,
            license=c.license,
        )

    @cached_property
    def detector(self) -> FaceDetector:
        """The detector used when a photo comes without detections; made at the first use."""
        from sadr_cli.detection import create_detector

        return create_detector(self.detector_name)

    def crop_for(self, detection: Detection) -> Crop:
        """The network's crop for a detection, by its detector's calibration."""
        from sadr_cli.detection import crop_for_detection

        return crop_for_detection(detection)

    def reconstruct(
        self, image: NDArray[np.uint8], detections: Sequence[Detection] | None = None
    ) -> list[Face]:
        """Faces of a photo (H, W, 3) uint8 RGB, in the order of ``detections``.

        Without detections the detector finds them, the main person first. Returns [] when there is
        no face. Raises InputError when the array is not a photo.
        """
        image = _as_photo(image)
        if detections is None:
            from sadr_cli.detection import select_faces

            detections = select_faces(self.detector.detect(image), "all", image.shape[:2])
        crops = [self.crop_for(d) for d in detections]
        faces = self._cut_and_run(image, crops, detections)
        if not self.two_pass:
            return faces
        return second_pass(
            faces, lambda ks, again: self._cut_and_run(image, again, [detections[k] for k in ks])
        )

    def _cut_and_run(
        self, image: NDArray[np.uint8], crops: Sequence[Crop], detections: Sequence[Detection]
    ) -> list[Face]:
        cut = [extract_crop(image, c, self.crop_resolution) for c in crops]
        return self.reconstruct_crops(cut, crops, detections)

    def reconstruct_crops(
        self,
        images: Sequence[NDArray[np.uint8]],
        crops: Sequence[Crop],
        detections: Sequence[Detection | None] | None = None,
    ) -> list[Face]:
        """Faces of crops (n, n, 3) uint8 RGB, n = :attr:`crop_resolution`, one each.

        crops: where each was cut from its photo; results are in the photo's pixels.
        """
        if len(images) != len(crops):
            raise UsageError(f"{len(images)} images but {len(crops)} crops")
        n = self.crop_resolution
        for image in images:
            if image.shape != (n, n, 3):
                raise UsageError(f"a crop has shape {image.shape}, the network takes {(n, n, 3)}")
        sources = list(detections) if detections is not None else [None] * len(crops)
        faces: list[Face] = []
        start = 0
        while start < len(images):
            stop = start + self.batch_size
            try:
                arrays = self._run(np.stack(images[start:stop]))
            except RuntimeError as error:
                if not out_of_memory(error) or self.batch_size == 1:
                    raise
                self.batch_size = max(1, self.batch_size // 2)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            faces.extend(self._faces(arrays, crops[start:stop], sources[start:stop]))
            start = stop
        return faces

    @torch.inference_mode()
    def _run(self, batch: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """One forward pass and alignment of (B, n, n, 3) crops, as arrays in crop pixels."""
        check_process(self._process, self.device)
        x = torch.from_numpy(batch).to(self.device).permute(0, 3, 1, 2)
        x = self.network.normalize(x)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            output = self.runner(x)
            mirrored = self.runner(x.flip(3)) if self.flip else None
        result = self.align(output, mirrored)
        return {k: v.float().cpu().numpy() for k, v in result.items()}

    def align(
        self, output: NetworkOutput, mirrored: NetworkOutput | None = None
    ) -> dict[str, Tensor]:
        """Self-alignment of a network's output; see the keys below.

        vertices, pose_face, shape: (B, V, 3); landmarks_p: (B, 68, 3); visibility: (B, V);
        attention: (B, a, a); scale, rotation, translation: pose in the y-up crop frame.
        Positions are pixels of a 256-pixel crop, y down. ``mirrored``: the output for the
        mirrored crops, averaged with the other before the alignment.
        """
        maps = self._maps(output)
        if mirrored is not None:
            maps = mean_of_mirrored(maps, self._maps(mirrored))
        pose_map, shape_map, attention, pose = maps
        if self.alignment == "direct":
            placed, shape_map = alignment.take_direct(
                pose_map, self._mean, attention, self._kpt, size=SIZE, mask=self._mask
            )
        elif self.alignment == "regressed":
            if pose is None:
                raise UsageError(f"{self.checkpoint.name} regresses no pose: its alignment is off")
            placed = alignment.take_regressed(pose, shape_map)
            pose_map = placed.face
        surface = self._surface
        if self.alignment in SELF_ALIGNMENTS:
            weights = None
            if self.alignment == "official":
                there = alignment.gather_points(pose_map, self._kpt)
                weights = alignment.official_weights(pose_map, there, attention, self._kpt, SIZE)
            placed, facing = alignment.self_align_vertices(
                pose_map, shape_map, attention, self._landmarks, surface,
                size=SIZE, weights=weights, mode=self.alignment,
            )  # fmt: skip
        else:
            facing = surface.facing(placed.face[:, :2])
            placed = placed._replace(face=surface.gather(placed.face))
        vertices = placed.face.transpose(1, 2)
        seen = alignment.seen_where_facing(vertices, facing, attention, SIZE)
        if attention is None:
            attention = torch.ones(len(vertices), 1, 1, 1, device=self.device)
        return {
            "vertices": vertices,
            "pose_face": surface.gather(pose_map).transpose(1, 2),
            "shape": surface.gather(shape_map).transpose(1, 2),
            "visibility": seen,
            "attention": attention[:, 0],
            "scale": placed.scale,
            "rotation": placed.rotation,
            "translation": placed.translation,
        }

    def _maps(self, output: NetworkOutput) -> Maps:
        """P and S at 256 x 256, attention and pose, in crop pixels and shape units."""
        scaling = self.checkpoint.scaling
        pose_face = upsample(output.pose_map.float() * scaling.position)
        shape = upsample(output.shape_map.float() * scaling.shape)
        if self.network.config.deformation:
            shape = shape + self._mean
        attention = None
        if output.attention is not None:
            attention = torch.sigmoid(output.attention.float())
        pose = None
        if output.pose is not None:
            pose = output.pose.float() * scaling.position
            middle = from_edge(SIZE / 2)
            pose = torch.cat(
                [pose[:, :, :3], pose[:, :, 3:] + pose.new_tensor([[middle], [-middle], [0]])], 2
            )
        return Maps(pose_face, shape, attention, pose)

    def _faces(
        self,
        arrays: dict[str, NDArray[Any]],
        crops: Sequence[Crop],
        detections: Sequence[Detection | None],
    ) -> list[Face]:
        index = self.uv.landmark_indices
        faces = []
        for i, (crop, detection) in enumerate(zip(crops, detections, strict=True)):
            a = {k: v[i] for k, v in arrays.items()}
            step = crop.size / SIZE
            corner = crop_to_image(np.zeros(3), crop, SIZE)
            gap = np.linalg.norm(a["pose_face"][index] - a["vertices"][index], axis=1) / SIZE
            seen = a["visibility"][index]
            agreement = np.exp(-gap / AGREEMENT)
            # crop_to_image in single precision, which the network's output has anyway
            single = corner.astype(np.float32)
            vertices = np.ascontiguousarray(a["vertices"] * np.float32(step) + single)
            faces.append(
                Face(
                    vertices=vertices,
                    landmarks=vertices[index],
                    shape=np.ascontiguousarray(a["shape"]),
                    visibility=a["visibility"],
                    landmark_visibility=seen,
                    landmark_confidence=agreement * (0.5 + 0.5 * seen),
                    attention=a["attention"],
                    scale=float(a["scale"]) * step,
                    rotation=a["rotation"].astype(np.float64),
                    translation=corner * (1, -1, 1) + step * a["translation"].astype(np.float64),
                    pose_face=np.ascontiguousarray(a["pose_face"] * np.float32(step) + single),
                    crop=crop,
                    detection=detection,
                    confidence=float(np.exp(-gap.mean() / AGREEMENT)),
                )
            )
        return [replace(f, warnings=_warnings(f)) for f in faces]


def mean_of_mirrored(maps: Maps, mirrored: Maps) -> Maps:
    """The mean of what was seen in a crop and in its mirror image.

    Mirroring swaps the two halves of the UV map and turns x around: in the crop's pixels
    255 - x, in the shape frame -x.
    """
    sign = maps.pose_face.new_tensor([-1.0, 1.0, 1.0])
    there = maps.pose_face.new_tensor([SIZE - 1.0, 0.0, 0.0])
    across = sign[:, None, None]
    face = mirrored.pose_face.flip(3) * across + there[:, None, None]
    shape = mirrored.shape.flip(3) * across
    attention, pose = maps.attention, maps.pose
    if attention is not None and mirrored.attention is not None:
        attention = (attention + mirrored.attention.flip(3)) / 2
    if pose is not None and mirrored.pose is not None:
        flipped = mirrored.pose * sign[:, None] * torch.cat([sign, sign.new_ones(1)])
        pose = (pose + flipped + F.pad(there[:, None], (3, 0))) / 2
    return Maps((maps.pose_face + face) / 2, (maps.shape + shape) / 2, attention, pose)


def _warnings(face: Face) -> tuple[str, ...]:
    """What a user should know before relying on this face."""
    out = []
    if face.confidence < LOW_CONFIDENCE:
        out.append("low confidence: the two regressed faces disagree")
    if abs(face.euler[0]) > PROFILE_YAW:
        out.append("profile: the far side of the face is inferred")
    if float((face.landmark_visibility > 0.5).mean()) < 0.3:
        out.append("mostly hidden: less than a third of the landmarks is visible")
    return tuple(out)


def _as_photo(image: NDArray[Any]) -> NDArray[np.uint8]:
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
        shape = getattr(image, "shape", type(image).__name__)
        raise InputError(f"a photo is a (H, W, 3) uint8 RGB array, not {shape}")
    if image.dtype != np.uint8:
        raise InputError(f"a photo is a uint8 RGB array, not {image.dtype}")
    if min(image.shape[:2]) < 1:
        raise InputError("the photo is empty")
    return image
