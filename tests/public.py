"""The public checkpoint's format, filled by a fixed rule: no trained weights are needed.

``fixtures/state_dict_keys.tsv`` lists names and shapes; ``fixtures/outputs_seed0.npz`` holds what
the public implementation computes when its tensors are filled by :func:`public_state`.
"""

from __future__ import annotations

import ast
import zlib
from pathlib import Path

import numpy as np
import torch

FIXTURES = Path(__file__).parent / "fixtures"


def public_state(mean_map: np.ndarray, seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict of the public network; ``mean_map`` (3, 256, 256) is its mean template."""
    state = {}
    for line in (FIXTURES / "state_dict_keys.tsv").read_text().splitlines():
        name, text = line.split("\t")
        shape = ast.literal_eval(text)
        if name == "rebuilder.mean_posmap_tensor":
            value = mean_map.astype(np.float32)
        elif name == "rebuilder.revert_operator":
            value = np.diag([1, -1, 1]).astype(np.float32)
        elif name.endswith("num_batches_tracked"):
            value = np.zeros((), np.int64)
        else:
            value = _fill(name, shape, seed)
        state[name] = torch.from_numpy(np.asarray(value))
    return state


def _fill(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()) + seed)
    z = rng.standard_normal(int(np.prod(shape))).astype(np.float32).reshape(shape)
    if name == "decoder_kpt.6.BN_AC.0.weight":
        return np.full(shape, 0.002, np.float32)
    if name == "decoder_kpt.6.BN_AC.0.bias":
        return np.full(shape, 0.45, np.float32)
    if name.endswith("running_var"):
        return 0.5 + np.abs(z)
    if name.endswith(("running_mean", ".bias")):
        return 0.1 * z
    if len(shape) == 4:
        return z * np.float32(np.sqrt(2 / (shape[1] * shape[2] * shape[3])))
    return 1 + 0.1 * z


def public_input(seed: int = 0) -> torch.Tensor:
    """(2, 3, 256, 256), fed as it is."""
    x = np.random.default_rng(seed + 1).standard_normal((2, 3, 256, 256))
    return torch.from_numpy(x.astype(np.float32))


def public_outputs() -> dict[str, np.ndarray]:
    """attention (2, 1, 32, 32); P, D, G (2, 3, 52, 52), every fifth row and column."""
    with np.load(FIXTURES / "outputs_seed0.npz") as file:
        return {k: file[k] for k in file}
