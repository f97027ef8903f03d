"""Metrics against known displacements and scipy's Procrustes."""

import numpy as np
from scipy.spatial.transform import Rotation

from fitter.metrics import mpjpe_mm, pa_mpjpe_mm, procrustes


def test_mpjpe_ignores_where_the_root_is():
    true = np.random.default_rng(0).standard_normal((5, 14, 3))
    moved = true + [1.0, -2.0, 0.5]
    moved[:, 3, 0] += 0.14
    np.testing.assert_allclose(mpjpe_mm(moved, true), 10.0)


def test_pa_mpjpe_undoes_a_similarity_but_not_a_reflection():
    rng = np.random.default_rng(1)
    true = rng.standard_normal((4, 14, 3))
    turned = 0.7 * true @ Rotation.random(random_state=2).as_matrix() + [3, 1, 2]
    np.testing.assert_allclose(pa_mpjpe_mm(turned, true), 0, atol=1e-9)
    assert (pa_mpjpe_mm(true * [-1, 1, 1], true) > 100).all()


def test_procrustes_is_the_best_rotation_by_scipy():
    rng = np.random.default_rng(3)
    points, target = rng.standard_normal((2, 14, 3))
    p, t = points - points.mean(0), target - target.mean(0)
    rotation, _ = Rotation.align_vectors(t, p)
    scale = (rotation.apply(p) * t).sum() / (p**2).sum()
    np.testing.assert_allclose(
        procrustes(points, target), scale * rotation.apply(p) + target.mean(0), atol=1e-9
    )
