"""Import of the public SADRNet checkpoint, ``net_021.pth``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sadr_cli.errors import MissingDataError
from sadr_cli.model.checkpoint import Checkpoint
from sadr_cli.model.network import NetworkConfig, SADRNet
from sadr_cli.uv import UVLayout

MEAN_KEY = "rebuilder.mean_posmap_tensor"
IGNORED_KEYS = ("rebuilder.revert_operator",)


def import_public(state: Mapping[str, Tensor], uv: UVLayout, name: str = "official") -> Checkpoint:
    """A checkpoint from the public state dict (``net_021.pth``), parameter for parameter.

    uv: the layout of any checkpoint, for mask and landmarks; the mean template is taken from the
    state dict. MissingDataError names the first key that does not fit.
    """
    network = SADRNet(NetworkConfig())
    expected = network.state_dict()
    missing = [k for k in expected if k not in state and k != "pose_bias"]
    extra = [k for k in state if k not in expected and k != MEAN_KEY and k not in IGNORED_KEYS]
    if missing or extra or MEAN_KEY not in state:
        odd = (missing or extra or [MEAN_KEY])[0]
        raise MissingDataError(
            f"this is not the public SADRNet checkpoint: {odd} is "
            f"{'unknown' if extra and not missing else 'missing'}"
        )
    for key, value in expected.items():
        if key in state and tuple(state[key].shape) != tuple(value.shape):
            raise MissingDataError(
                f"this is not the public SADRNet checkpoint: {key} has shape "
                f"{tuple(state[key].shape)}, not {tuple(value.shape)}"
            )
    own = {k: state[k].float() if state[k].is_floating_point() else state[k] for k in expected
           if k in state}  # fmt: skip
    size = network.config.uv_size
    network.load_state_dict({**own, "pose_bias": torch.zeros(3, size, size)})
    mean: NDArray[np.float32] = state[MEAN_KEY].float().cpu().numpy().transpose(1, 2, 0)
    layout = UVLayout(uv.mask, uv.kpt, uv.region, np.ascontiguousarray(mean[uv.mask]))
    return Checkpoint(
        network=network.eval(),
        uv=layout,
        name=name,
        alignment="official",
        provenance={"source": "public SADRNet checkpoint, imported"},
        license="as given by its authors",
    )


def import_public_file(path: str | Path, uv: UVLayout, name: str = "official") -> Checkpoint:
    """:func:`import_public` from a ``.pth`` file, read by torch's weights-only loader."""
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"no file {path}: name the public checkpoint, net_021.pth")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises anything on arbitrary bytes
        raise MissingDataError(
            f"{path} is damaged or contains more than weights, and was not loaded"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(torch.is_tensor(v) for v in state.values()):
        raise MissingDataError(f"{path} is not a state dict: use the public checkpoint")
    return import_public(state, uv, name)
