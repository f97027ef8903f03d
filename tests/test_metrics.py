"""Metrics against known displacements and scipy's Procrustes."""

import numpy as np
from scipy.spatial.transform import Rotation

from fitter.body.model import load_body
from priors.skeleton import JOINT_NAMES
from regressor.metrics import Tape, mpjpe_mm, pa_mpjpe_mm, procrustes, pve_mm, pve_t_sc_mm


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


def test_pve_is_relative_to_the_root_and_t_sc_to_place_and_size():
    rng = np.random.default_rng(3)
    true = rng.standard_normal((2, 50, 3))
    moved = true + [1.0, 2.0, 3.0] + [0.0, 0.003, 0.004]
    np.testing.assert_allclose(pve_mm(moved, true, np.ones(3) * [1, 2, 3], np.zeros(3)), 5.0)
    np.testing.assert_allclose(pve_t_sc_mm(1.3 * true + [4, 5, 6], true), 0, atol=1e-9)
    assert (pve_t_sc_mm(true * [1.1, 1, 1], true) > 10).all()


def test_tape_measures_a_cylinder():
    angles = np.linspace(0, 2 * np.pi, 201)[:-1]
    heights = np.linspace(-0.9, 0.9, 31)
    ring = np.stack([0.2 * np.sin(angles), 0 * angles, 0.1 * np.cos(angles)], 1)  # an ellipse
    vertices = np.concatenate([ring + [0, height, 0] for height in heights])
    quads = [(r * 200 + i, r * 200 + (i + 1) % 200, (r + 1) * 200 + i) for r in range(30) for i in range(200)]
    tape = Tape(vertices, np.array(quads), np.zeros(len(vertices), int), ["pelvis", *Tape.TRUNK[1:]])
    found = tape(vertices)
    assert abs(found["height"] - 1800) < 1e-6
    for name in ("chest", "waist", "hips"):
        assert abs(found[name] - 968.8) < 0.5  # circumference of the ellipse, mm


def test_girths_of_the_open_body_are_where_people_have_them():
    """ANSUR II, means over stature: chest 0.59, waist 0.53, buttocks 0.60; the mean body is lighter than soldiers."""
    body = load_body()
    vertices = body.template.numpy()
    found = Tape(vertices, body.faces.numpy(), body.part_ids.numpy(), JOINT_NAMES)(vertices)
    shares = {name: found[name] / found["height"] for name in ("chest", "waist", "hips")}
    for name, expected in (("chest", 0.56), ("waist", 0.49), ("hips", 0.58)):
        assert abs(shares[name] - expected) < 0.04, (name, shares[name])
