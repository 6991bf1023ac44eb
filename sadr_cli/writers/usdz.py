"""USDZ: the mesh as text in an uncompressed archive, metres, +Y up, facing +Z."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.files import atomic_write
from sadr_cli.render.colors import linear_from_srgb
from sadr_cli.writers.animation import METRES_PER_MM
from sadr_cli.writers.glb import in_metres
from sadr_cli.writers.mesh import Mesh
from sadr_cli.writers.numbers import listed, tuples
from sadr_cli.writers.pictures import encode_png, write_real
from sadr_cli.writers.usd_motion import STILL, usd_motion

_ALIGNMENT = 64  # of every file's first byte in the archive

_LAYER = """\
#usda 1.0
(
    defaultPrim = "Face"
    doc = "{note}"
    metersPerUnit = 1{clock}
    upAxis = "Y"
)

def {kind} "Face" (kind = "component"{root_schemas})
{{
{head}    def Mesh "Mesh" (prepend apiSchemas = ["MaterialBindingAPI"{mesh_schemas}])
    {{
        uniform bool doubleSided = 1
        uniform token subdivisionScheme = "none"
        float3[] extent = [({low}), ({high})]
        int[] faceVertexCounts = [{counts}]
        int[] faceVertexIndices = [{indices}]
        point3f[] points = [{points}]
        normal3f[] normals = [{normals}] (interpolation = "vertex")
{extra}        rel material:binding = </Face/Material>
{shapes}    }}
{skeleton}
    def Material "Material"
    {{
        token outputs:surface.connect = </Face/Material/Surface.outputs:surface>

        def Shader "Surface"
        {{
            uniform token info:id = "UsdPreviewSurface"
            float inputs:roughness = 0.9
            color3f inputs:diffuseColor{diffuse}
            token outputs:surface
        }}
{shaders}    }}
}}
{camera}"""
_TEXTURED = """
        def Shader "Coordinates"
        {
            uniform token info:id = "UsdPrimvarReader_float2"
            string inputs:varname = "st"
            float2 outputs:result
        }

        def Shader "Texture"
        {
            uniform token info:id = "UsdUVTexture"
            asset inputs:file = @texture.png@
            float2 inputs:st.connect = </Face/Material/Coordinates.outputs:result>
            token inputs:sourceColorSpace = "sRGB"
            token inputs:wrapS = "clamp"
            token inputs:wrapT = "clamp"
            float3 outputs:rgb
        }
"""
_COLORED = """
        def Shader "Colors"
        {
            uniform token info:id = "UsdPrimvarReader_float3"
            string inputs:varname = "displayColor"
            float3 outputs:result
        }
"""


class USDZWriter:
    """A text layer in an archive. Units, frames and animation as in GLB."""

    format = "usdz"
    suffix = ".usdz"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        atomic_write(path, encode_usdz(mesh))
        return [path, *write_real(path, mesh)]


def encode_usdz(mesh: Mesh) -> bytes:
    files = [("face.usda", _layer(mesh).encode())]
    if mesh.textured:
        assert mesh.texture is not None
        files.append(("texture.png", encode_png(mesh.texture)))
    return _archive(files)


def _layer(mesh: Mesh) -> str:
    motion = mesh.motion
    mesh = mesh.without_motion()  # the root has the pose
    vertices, _, frame = in_metres(mesh)
    low, high = vertices.min(0), vertices.max(0)
    if motion is not None:  # as far as all blend shapes together can move a vertex
        reach = np.abs(motion.targets).max(1, initial=0).sum(0) * METRES_PER_MM
        low, high = low - reach, high + reach
    extra, shaders, diffuse = "", "", " = (0.69, 0.8, 0.93)"
    if mesh.textured:
        assert mesh.uv is not None
        extra = _primvar("texCoord2f[] primvars:st", mesh.uv)
        shaders, diffuse = _TEXTURED, ".connect = </Face/Material/Texture.outputs:rgb>"
    elif mesh.colors is not None:
        linear = linear_from_srgb(mesh.colors)
        extra = _primvar("color3f[] primvars:displayColor", linear)
        shaders, diffuse = _COLORED, ".connect = </Face/Material/Colors.outputs:result>"
    note = f"sadr face mesh: frame {frame}, metres, scale is the model's prior, not measured"
    return _LAYER.format(
        note=note,
        low=", ".join(f"{v:.6f}" for v in low),
        high=", ".join(f"{v:.6f}" for v in high),
        counts=", ".join(["3"] * len(mesh.triangles)),
        indices=listed(mesh.triangles.ravel(), 0),
        points=tuples(vertices, 6),
        normals=tuples(mesh.normals, 4),
        extra=extra,
        diffuse=diffuse,
        shaders=shaders,
        **(STILL if motion is None else usd_motion(motion)),
    )


def _primvar(name: str, values: NDArray[Any]) -> str:
    return f'        {name} = [{tuples(values, 5)}] (interpolation = "vertex")\n'


def _archive(files: list[tuple[str, bytes]]) -> bytes:
    """An uncompressed zip whose files begin at multiples of 64 bytes, as USDZ requires.

    ``zipfile`` cannot pad. Times are fixed, so that equal meshes give equal files.
    """
    body, directory = bytearray(), bytearray()
    for name, data in files:
        start = len(body)
        padding = -(start + 30 + len(name) + 4) % _ALIGNMENT
        field = struct.pack("<HH", 0x1986, padding) + b"\0" * padding
        sizes = (len(data), len(data), len(name), len(field))
        common = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0x21, crc32(data), *sizes)
        body += b"PK\x03\x04" + common + name.encode() + field + data
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + common
        directory += struct.pack("<HHHII", 0, 0, 0, 0, start) + name.encode() + field
    end = struct.pack("<HHHHIIH", 0, 0, len(files), len(files), len(directory), len(body), 0)
    return bytes(body + directory + b"PK\x05\x06" + end)
