"""Animation in USD: blend shapes of UsdSkel, the head's motion, the camera.

Viewers that support UsdSkel play all of it; others show the head's motion or a still.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.writers.animation import FOCAL, METRES_PER_MM, Motion, increasing, to_xyzw
from sadr_cli.writers.numbers import listed, tuples

_FILM = 36.0  # longer side of the camera's film, in the unit of its focal length

_KEYS = ("clock", "root_schemas", "head", "mesh_schemas", "shapes", "skeleton", "camera")
STILL = {**dict.fromkeys(_KEYS, ""), "kind": "Xform"}  # the parts of a layer without animation
_CLOCK = """
    endTimeCode = {end}
    startTimeCode = {start}
    timeCodesPerSecond = {rate}"""
_SKELETON = """
    def Skeleton "Skeleton" (prepend apiSchemas = ["SkelBindingAPI"])
    {{
        uniform token[] joints = ["head"]
        uniform matrix4d[] bindTransforms = [{one}]
        uniform matrix4d[] restTransforms = [{one}]
        rel skel:animationSource = </Face/Skeleton/Track>

        def SkelAnimation "Track"
        {{
            uniform token[] joints = ["head"]
            float3[] translations = [(0, 0, 0)]
            quatf[] rotations = [(1, 0, 0, 0)]
            half3[] scales = [(1, 1, 1)]
            uniform token[] blendShapes = [{names}]
            float[] blendShapeWeights = {still}
            float[] blendShapeWeights.timeSamples = {{ {samples} }}
        }}
    }}
"""
_IDENTITY = "((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))"
_BOUND = """\
        uniform token[] skel:blendShapes = [{names}]
        rel skel:blendShapeTargets = [{paths}]
        rel skel:skeleton = </Face/Skeleton>
        int[] primvars:skel:jointIndices = [0] (elementSize = 1; interpolation = "constant")
        float[] primvars:skel:jointWeights = [1] (elementSize = 1; interpolation = "constant")
"""
_SHAPE = """
        def BlendShape "{name}"
        {{
            uniform vector3f[] offsets = [{offsets}]
        }}
"""
_HEAD = """\
    double3 xformOp:translate = {place}
    double3 xformOp:translate.timeSamples = {{ {places} }}
    quatf xformOp:orient = {turn}
    quatf xformOp:orient.timeSamples = {{ {turns} }}
    uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:orient"]

"""
_CAMERA = """
def Camera "Camera"
{{
    float focalLength = {focal}
    float horizontalAperture = {width}
    float verticalAperture = {height}
    float2 clippingRange = (0.01, 100)
}}
"""


def usd_motion(motion: Motion) -> dict[str, str]:
    """``motion`` as the parts of a USD layer, with the keys of :data:`STILL`.

    Time codes are seconds times ``timeCodesPerSecond``, the frame rate.
    """
    chosen = increasing(motion.times)
    times = motion.times[chosen]
    rate = max(round(1 / float(np.median(np.diff(times)))), 1) if len(times) > 1 else 1
    codes = [f"{code:.4f}" for code in times * rate]
    out = {**STILL, "clock": _CLOCK.format(start=codes[0], end=codes[-1], rate=rate)}
    if len(motion.targets):
        out.update(_shapes(motion, codes, chosen))
    if motion.path is not None:
        turns = to_xyzw(motion.path.rotations)[:, [3, 0, 1, 2]]
        places = motion.path.places * METRES_PER_MM
        out["head"] = _HEAD.format(
            place=_vector(places[motion.still]),
            places=_samples(codes, map(_vector, places[chosen])),
            turn=_vector(turns[motion.still]),
            turns=_samples(codes, map(_vector, turns[chosen])),
        )
        height, width = np.array(motion.path.size) * _FILM / max(motion.path.size)
        film = {"width": f"{width:.4f}", "height": f"{height:.4f}"}
        out["camera"] = _CAMERA.format(focal=f"{FOCAL * _FILM:.4f}", **film)
    return out


def _shapes(motion: Motion, codes: list[str], chosen: NDArray[np.intp]) -> dict[str, str]:
    names = [f"shape{k + 1}" for k in range(len(motion.targets))]
    quoted = ", ".join(f'"{name}"' for name in names)

    def weights(row: NDArray[Any]) -> str:
        return f"[{listed(row, 5)}]"

    offsets = motion.targets * np.float32(METRES_PER_MM)
    shapes = (
        _SHAPE.format(name=name, offsets=tuples(moved, 6))
        for name, moved in zip(names, offsets, strict=True)
    )
    paths = ", ".join(f"</Face/Mesh/{name}>" for name in names)
    return {
        "kind": "SkelRoot",
        "root_schemas": '; prepend apiSchemas = ["SkelBindingAPI"]',
        "mesh_schemas": ', "SkelBindingAPI"',
        "shapes": _BOUND.format(names=quoted, paths=paths) + "".join(shapes),
        "skeleton": _SKELETON.format(
            one=_IDENTITY,
            names=quoted,
            still=weights(motion.weights[motion.still]),
            samples=_samples(codes, map(weights, motion.weights[chosen])),
        ),
    }


def _samples(codes: list[str], values: Iterable[str]) -> str:
    return ", ".join(f"{code}: {value}" for code, value in zip(codes, values, strict=True))


def _vector(values: NDArray[Any]) -> str:
    return f"({', '.join(f'{v:.7f}' for v in values)})"
