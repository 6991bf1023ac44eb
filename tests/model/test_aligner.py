"""The alignment of single faces against the batched one that training and graphics cards use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sadr_cli.model.aligner import FaceAligner
from sadr_cli.model.batch_alignment import BatchAligner
from sadr_cli.model.checkpoint import Checkpoint, Scaling
from sadr_cli.model.config import NetworkConfig, NetworkOutput
from sadr_cli.model.network import SADRNet
from sadr_cli.model.uvgrid import fit_coarse
from sadr_cli.pose import euler_to_matrix


@pytest.fixture(scope="module")
def network() -> SADRNet:
    return SADRNet(NetworkConfig(64, 64, 0.1))


def output(uv, size: int, seed: int, attention: bool = True) -> NetworkOutput:
    """What a network may say of three faces: turned, noisy, one partly outside the crop."""
    rng = np.random.default_rng(seed)
    poses = []
    for yaw, x in ((-70, 128), (10, 40), (35, 128)):
        face = 60 * uv.mean_shape @ euler_to_matrix(yaw, 12, -8).T * (1, -1, 1) + (x, 128, 0)
        coarse = fit_coarse(face, uv.mask, size)
        poses.append(coarse + rng.normal(0, 0.4, coarse.shape))
    noise = rng.normal(0, 0.01, (3, 3, size, size))
    logits = rng.normal(0, 3, (3, 1, 8, 8)) if attention else None
    return NetworkOutput(
        torch.from_numpy(np.stack(poses) / 280).float(),
        torch.from_numpy(noise).float(),
        None if logits is None else torch.from_numpy(logits).float(),
        torch.zeros(1),
    )


@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("flip", [False, True])
def test_the_same_as_in_batches(uv, network, size, attention, flip):
    checkpoint = Checkpoint(network, uv, scaling=Scaling(280.0, 0.7))
    given = [output(uv, size, seed, attention) for seed in range(2)][: 1 + flip]
    expected = BatchAligner(checkpoint, "paper", "cpu")(*given)
    found = FaceAligner(uv, checkpoint.scaling, network.config)(*given)
    assert found.keys() == expected.keys()
    tolerance = {"vertices": 1e-3, "pose_face": 1e-3, "translation": 1e-3, "scale": 1e-3}
    for key, values in expected.items():
        difference = np.abs(np.stack(found[key]) - values.numpy())
        if key == "visibility":  # a vertex on the edge of a cell may read the next one
            assert (difference > 1e-5).mean() < 1e-3
        else:
            assert difference.max() < tolerance.get(key, 1e-5), key


def test_networks_that_give_the_shape_itself(uv, network):
    config = replace(network.config, deformation=False)
    given = output(uv, 64, 0)
    coarse = torch.from_numpy(fit_coarse(uv.mean_shape, uv.mask, 64)[None]).float()
    whole = given._replace(shape_map=given.shape_map + coarse)
    found = FaceAligner(uv, Scaling(), config)(whole)
    expected = FaceAligner(uv, Scaling(), network.config)(given)
    for a, b in zip(found["shape"], expected["shape"], strict=True):
        assert np.abs(a - b).mean() < 2e-3


def test_degenerate_outputs_stay_finite(uv, network):
    flat = NetworkOutput(torch.full((1, 3, 64, 64), 0.5), torch.zeros(1, 3, 64, 64), None, None)
    face = FaceAligner(uv, Scaling(), network.config)(flat)
    assert np.isfinite(face["vertices"][0]).all()
    assert abs(np.linalg.det(face["rotation"][0])) == pytest.approx(1)
