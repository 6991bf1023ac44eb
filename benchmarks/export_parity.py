"""The difference between an exported ONNX file and PyTorch on real crops, alone and in batches.

    python benchmarks/export_parity.py PHOTOS... --model sadr.onnx --weights lite --limit 100

Faces are found in the photos, cut to 256 x 256 crops, and run through ONNX Runtime (CPU) and
through PyTorch, whose alignment uses an SVD. Prints the largest differences and times as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator

import numpy as np
import script
import torch
from torch.nn import functional as F

from sadr_cli.crop import extract_crop
from sadr_cli.export.model import OUTPUTS
from sadr_cli.reconstructor import Reconstructor
from sadr_cli.sources import iter_sources, load_frame
from sadr_cli.uv import SIZE


def real_crops(reconstructor: Reconstructor, inputs: list[str], limit: int) -> np.ndarray:
    """(N, 256, 256, 3) uint8 crops of the first ``limit`` faces found."""
    crops = []
    for source in iter_sources(inputs, recursive=True):
        image = load_frame(source).image
        for detection in reconstructor.detector.detect(image):
            crops.append(extract_crop(image, reconstructor.crop_for(detection), SIZE))
            if len(crops) == limit:
                return np.stack(crops)
    return np.stack(crops)


@torch.inference_mode()
def reference(reconstructor: Reconstructor, crops: np.ndarray) -> dict[str, np.ndarray]:
    """PyTorch's vertices of G and P, scale, rotation and translation."""
    x = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    shrink = SIZE // reconstructor.crop_resolution
    x = F.avg_pool2d(x, shrink) if shrink > 1 else x
    out = reconstructor.align(reconstructor.network(reconstructor.network.normalize(x)))
    return {k: v.numpy() for k, v in out.items()}


def main() -> int:
    parser = script.parser(__doc__)
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--limit", type=int, default=100)
    return script.run(parser, compare)


def compare(options: argparse.Namespace) -> Iterator[str]:
    import onnxruntime as ort

    reconstructor = Reconstructor(options.weights, "cpu", half=False)
    crops = real_crops(reconstructor, options.inputs, options.limit)
    session = ort.InferenceSession(options.model, providers=["CPUExecutionProvider"])
    mask = reconstructor.uv.mask
    result: dict[str, object] = {"crops": len(crops)}
    for batch in (1, 32):
        worst: dict[str, list[float]] = {"G_px": [], "P_px": [], "rotation": [], "scale": []}
        seconds = {"onnxruntime": 0.0, "pytorch": 0.0}
        for start in range(0, len(crops), batch):
            part = crops[start : start + batch]
            began = time.perf_counter()
            ours = dict(zip(OUTPUTS, session.run(None, {"crops": part}), strict=True))
            seconds["onnxruntime"] += time.perf_counter() - began
            began = time.perf_counter()
            truth = reference(reconstructor, part)
            seconds["pytorch"] += time.perf_counter() - began
            for key, name, other in (
                ("G_px", "face_map", "vertices"),
                ("P_px", "pose_map", "pose_face"),
            ):
                points = np.moveaxis(ours[name], 1, -1)[:, mask]
                worst[key] += np.abs(points - truth[other]).max((1, 2)).tolist()
            worst["rotation"] += np.abs(ours["rotation"] - truth["rotation"]).max((1, 2)).tolist()
            worst["scale"] += np.abs(ours["scale"] / truth["scale"] - 1).tolist()
        result[f"batch {batch}"] = {
            **{k: {"max": max(v), "median": float(np.median(v))} for k, v in worst.items()},
            "crops beyond 1e-3 px": int((np.array(worst["G_px"]) > 1e-3).sum()),
            "ms per crop": {k: round(1e3 * v / len(crops), 1) for k, v in seconds.items()},
        }
    yield json.dumps(result, indent=2)


if __name__ == "__main__":
    sys.exit(main())
