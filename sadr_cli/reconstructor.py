"""Crops in, faces out: device, precision, batching. The library in three lines.

from sadr_cli import Reconstructor
faces = Reconstructor().reconstruct(image)       # (H, W, 3) uint8 RGB
faces[0].vertices, faces[0].landmarks, faces[0].euler
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.border import with_border
from sadr_cli.crop import crop_to_image, extract_crop, turn
from sadr_cli.errors import InputError, UsageError
from sadr_cli.faces import AGREEMENT, LOW_CONFIDENCE, PROFILE_YAW, Crop, Detection, Face
from sadr_cli.model.aligner import FaceAligner
from sadr_cli.model.checkpoint import Checkpoint, find_weights, open_checkpoint
from sadr_cli.model.config import MODES, SELF_ALIGNMENTS, NetworkOutput
from sadr_cli.model.device import MAX_BATCH, check_process, out_of_memory, select_device
from sadr_cli.model.runtime import RUNTIMES, Runner
from sadr_cli.passes import second_pass
from sadr_cli.pose import euler_to_matrix, matrix_to_yxz
from sadr_cli.uv import SIZE, UVLayout

if TYPE_CHECKING:
    from torch import Tensor

    from sadr_cli.model.batch_alignment import BatchAligner
    from sadr_cli.model.network import SADRNet
    from sadr_cli.protocols import FaceDetector


@dataclass(frozen=True)
class WeightsInfo:
    """The loaded weights: name, file, SHA-256, input size, number of parameters."""

    name: str
    path: str
    sha256: str
    input_size: int
    parameters: int
    alignment: str
    license: str


class Reconstructor:
    """Reconstructs faces with one network on one device.

    weights: path or name of a checkpoint, or None for the default (see ``find_weights``).
    device: "auto", "cpu", "cuda", "cuda:N" or "mps".
    batch_size: crops per forward pass; None: suitable for the device. Halved permanently when
        memory runs out.
    alignment: "paper" or "official" (see ``alignment``); None takes the checkpoint's own.
    half: bfloat16 arithmetic in the network; None means on CUDA only.
    detector: name of the detector for photos without detections.
    two_pass: crop again around the landmarks of the first pass and keep the more confident face.
    runtime: "torch", "openvino" or "auto", see ``runtime.Runner``.
    flip: also process every crop mirrored and average both results, which doubles the work.

    In a process forked after its creation it works on the CPU, with one thread of PyTorch; on a GPU
    it raises UsageError.
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
            self.checkpoint = open_checkpoint(find_weights(weights))
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
        self.runner = Runner(self.checkpoint, self.device, runtime, self.half)

    @property
    def uv(self) -> UVLayout:
        """The UV layout of the meshes: triangles, landmarks, mean shape."""
        return self.checkpoint.uv

    @property
    def crop_resolution(self) -> int:
        """Side in pixels of the crops the network takes."""
        return self.checkpoint.config.input_size

    @property
    def batches_at_once(self) -> int:
        """How many calls of :meth:`reconstruct_crops` at once, in threads, use all processors: with
        OpenVINO two, so that the network computes one batch while the other is aligned."""
        return 2 if self.runner.name == "openvino" else 1

    @property
    def network(self) -> SADRNet:
        """The network itself, in PyTorch on the device."""
        return self.checkpoint.network.to(self.device).eval()

    @cached_property
    def info(self) -> WeightsInfo:
        """What is loaded."""
        c = self.checkpoint
        return WeightsInfo(
            name=c.name,
            path=str(c.path or ""),
            sha256=c.sha256,
            input_size=self.crop_resolution,
            parameters=c.parameters,
            alignment=self.alignment,
            license=c.license,
        )

    def low_latency(self) -> Reconstructor:
        """The same for one photo after the other, as in a video: each takes less time, many more.

        Results are the same bytes.
        """
        quick = copy.copy(self)
        quick.runner = self.runner.low_latency()
        return quick

    @cached_property
    def detector(self) -> FaceDetector:
        """The detector for photos without detections, created on first use."""
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

        Without ``detections`` the detector is used, and the main person comes first. Returns [] if
        there is no face. Raises InputError if the array is not a photo.
        """
        image = _as_photo(image)
        if detections is None:
            from sadr_cli.detection import select_faces

            detections = select_faces(self.detector.detect(image), "all", image.shape[:2])
        crops = [self.crop_for(d) for d in detections]
        faces = self._cut_and_run(image, crops, detections)
        if self.two_pass:
            faces = second_pass(
                faces,
                lambda ks, again: self._cut_and_run(image, again, [detections[k] for k in ks]),
            )
        return with_border(faces, image.shape[:2])

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
                    import torch

                    torch.cuda.empty_cache()
                continue
            part = slice(start, stop)
            faces.extend(self._faces(arrays, crops[part], sources[part], images[part]))
            start = stop
        return faces

    def _run(self, batch: NDArray[np.uint8]) -> dict[str, Sequence[Any]]:
        """One forward pass and alignment of (B, n, n, 3) crops, as arrays in crop pixels."""
        check_process(self._process, self.device)
        output = self.runner(batch)
        mirrored = self.runner(batch[:, :, ::-1]) if self.flip else None
        return self._align(output, mirrored)

    @cached_property
    def _align(self) -> Callable[..., dict[str, Sequence[Any]]]:
        """The fastest conversion of network outputs to arrays of faces on the device."""
        if self.device.type == "cpu" and self.alignment == "paper":
            c = self.checkpoint
            return FaceAligner(c.uv, c.scaling, c.config)
        return lambda *outputs: {
            key: values.float().cpu().numpy() for key, values in self.align(*outputs).items()
        }

    def align(
        self, output: NetworkOutput, mirrored: NetworkOutput | None = None
    ) -> dict[str, Tensor]:
        """Self-alignment of a network's output, as tensors; see ``BatchAligner``."""
        return self._batch_aligner(output, mirrored)

    @cached_property
    def _batch_aligner(self) -> BatchAligner:
        from sadr_cli.model.batch_alignment import BatchAligner

        return BatchAligner(self.checkpoint, self.alignment, self.device)

    def _faces(
        self,
        arrays: dict[str, Sequence[Any]],
        crops: Sequence[Crop],
        detections: Sequence[Detection | None],
        images: Sequence[NDArray[np.uint8]] | None = None,
    ) -> list[Face]:
        index = self.uv.landmark_indices
        faces = []
        viewer = _Viewer(self.uv)
        for i, (crop, detection) in enumerate(zip(crops, detections, strict=True)):
            a = {k: v[i] for k, v in arrays.items()}
            step = crop.size / SIZE
            corner = crop_to_image(np.zeros(3), crop, SIZE)
            gap = np.linalg.norm(a["pose_face"][index] - a["vertices"][index], axis=1) / SIZE
            seen = a["visibility"][index]
            agreement = np.exp(-gap / AGREEMENT)
            turned = np.eye(3)
            turned[:2, :2] = turn(crop.angle)
            # crop_to_image in single precision, which the network's output has anyway
            matrix = np.column_stack([step * turned, corner])
            vertices, pose_face = (
                cv2.transform(np.asarray(a[k], np.float32)[:, None], matrix)[:, 0]
                for k in ("vertices", "pose_face")
            )
            up = turned.T  # the same turn with y up
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
                    rotation=up @ a["rotation"].astype(np.float64),
                    translation=corner * (1, -1, 1)
                    + step * (up @ a["translation"].astype(np.float64)),
                    pose_face=pose_face,
                    crop=crop,
                    detection=detection,
                    confidence=float(np.exp(-gap.mean() / AGREEMENT)),
                    picture=None if images is None else images[i],
                    viewer=viewer,
                )
            )
        return [replace(f, warnings=_warnings(f)) for f in faces]


class _Viewer:
    """Makes a face's HTML for notebooks; not pickled with the face."""

    def __init__(self, uv: UVLayout) -> None:
        self._uv = uv

    def __call__(self, face: Face) -> str:
        from sadr_cli.notebook import face_html

        return face_html(face, self._uv)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(None), ()


def _warnings(face: Face) -> tuple[str, ...]:
    """Warnings about the reliability of this face."""
    out = []
    if face.confidence < LOW_CONFIDENCE:
        out.append("low confidence: the two regressed faces disagree")
    if abs(matrix_to_yxz(euler_to_matrix(0, 0, -face.turn) @ face.rotation)[0]) > PROFILE_YAW:
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
