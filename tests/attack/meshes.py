"""Meshes whose triangles name vertices that are not there: native code never sees them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from test_damaged import BAD, HEAD, TRIANGLE, glb, npz, ply

from sadr_cli.errors import InputError
from sadr_cli.export.read import read_mesh

from .cases import Case, one_sentence

LEAST = 14
_PLY = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n" + (
    "property float z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
)


def cases() -> Iterator[Case]:
    for indices in BAD:
        one = " ".join(str(i + 1) for i in indices)
        zero = " ".join(map(str, indices))
        texts = {
            "ours.obj": HEAD + TRIANGLE + f"f {one}\n",
            "ours with all.obj": HEAD + TRIANGLE + f"f {'/'.join(one.split()[:1] * 3)} {one[2:]}\n",
            "other.ply": _PLY + f"0 0 0\n1 0 0\n0 1 0\n3 {zero}\n",
            "other.off": f"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 {zero}\n",
        }
        for name, text in texts.items():
            yield Case(f"{name} {indices}", lambda n=name, t=text: _refused(n, t.encode()))
        yield Case(f"ours.ply {indices}", lambda i=indices: _refused("a.ply", ply(i)))
        if min(indices) >= 0:
            yield Case(f"ours.glb {indices}", lambda i=indices: _refused("a.glb", glb(i)))
        yield Case(f"npz {indices}", lambda i=indices: _refused("a.npz", None, i))
    for number in ("nan", "inf", "-inf", "1e300", "1e39", "x"):
        text = HEAD + f"v {number} 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
        yield Case(f"obj at {number}", lambda t=text: _refused("a.obj", t.encode()))
    for name, data in _others().items():
        yield Case(name, lambda n=name, d=data: _refused(n, d()))


def _refused(name: str, data: bytes | None, indices: tuple[int, ...] = ()) -> None:
    with tempfile.TemporaryDirectory(prefix="sadr-attack-") as folder:
        path = Path(folder) / name
        path.write_bytes(npz(path, indices) if data is None else data)
        try:
            mesh = read_mesh(path)
        except InputError as error:
            one_sentence(str(error))
            return
        # Some count from the end, as their formats allow.
        assert 0 <= mesh.triangles.min() and mesh.triangles.max() < len(mesh.vertices)
        assert np.isfinite(mesh.vertices).all()


def _others() -> dict[str, Callable[[], bytes]]:
    return {
        "nothing.obj": lambda: b"",
        "no faces.obj": lambda: (HEAD + TRIANGLE).encode(),
        "zeros.stl": lambda: bytes(84),
        "many.stl": lambda: bytes(80) + b"\xff\xff\xff\xff" + bytes(50),
        "zeros.glb": lambda: bytes(500),
        "cut.glb": lambda: glb((0, 1, 2))[:-30],
        "short.ply": lambda: ply((0, 1, 2))[:-7],
        "endless.ply": lambda: ply((0, 1, 2)).replace(b"vertex 3", b"vertex 3000000000"),
        "noise.npz": lambda: b"PK\3\4" + bytes(range(256)),
    }
