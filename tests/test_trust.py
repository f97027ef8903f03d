"""fitter/trust.py and benchmarks/trust.py: how likely a fit is right, and how that is learned and judged."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_result import fit as some_fit  # noqa: F401

from benchmarks.trust import FEATURES, SPOILT, auc, facing, judge, learned, save, spoilt
from fitter.body.model import load_body
from fitter.config import Limits
from fitter.energy.objective import keypoint_model
from fitter.see.keypoints import BODY_25
from fitter.see.person_box import keypoint_box
from fitter.trust import Trust, beside_lifter, judged, load_trust, trust_in
from priors.lifter import PAIRS, Lifted
from priors.rotation import rotation_from_axis_angle


@pytest.fixture
def good(some_fit):  # noqa: F811
    """A fit that says of itself what those say that are right."""
    known = {"depth_spread_mm": 30.0, "depth_surprise": 2.0, "lifter_apart_deg": 8.0, "size_px": 500.0}
    known |= {"keypoints_confident": 24.0, "pose_percentile": 10.0}
    return replace(
        some_fit,
        quality={
            **some_fit.quality,
            **known,
            "reprojection_pct": 1.0,
            "max_abs_beta": 1.0,
            "distance_m": 4.0,
        },
        energies={"keypoints": 20.0, "pose": 20.0, "limits": 0.0, "shape": 3.0},
        joint_states=np.full(24, 2, np.uint8),
        open_limbs=(),
    )


def test_a_fit_that_knows_less_is_trusted_less(good):
    trust, _ = trust_in(good)
    assert 0.6 < trust < 1
    quality = good.quality
    for worse in (
        {"depth_spread_mm": 90.0},
        {"lifter_apart_deg": 40.0},
        {"depth_surprise": 60.0},
        {"pose_percentile": 95.0},
    ):
        assert trust_in(replace(good, quality=quality | worse))[0] < trust - 0.02, worse
    assert trust_in(replace(good, joint_states=np.zeros(24, np.uint8)))[0] < trust


def test_what_is_unlikely_is_not_valid_and_says_why(good):
    limits = Limits(min_trust=0.3)
    fine = judged(good, "", limits, True)
    assert fine.valid and fine.reasons == () and fine.quality["trust"] == trust_in(good)[0]
    lost = {"depth_spread_mm": 150.0, "lifter_apart_deg": 60.0, "depth_surprise": 150.0}
    bad = judged(replace(good, quality=good.quality | lost), "", limits, True)
    assert not bad.valid and bad.quality["trust"] < 0.3
    assert "the keypoints leave depth open" in bad.reasons[-1] and " < 0.3" in bad.reasons[-1]
    assert judged(replace(good, quality=good.quality | lost), "", Limits(min_trust=0.0), True).valid


def test_nothing_is_said_of_fits_of_another_kind(good):
    assert "trust" not in judged(good, "", Limits(min_trust=1.0), False).quality
    without = {name: value for name, value in good.quality.items() if name != "depth_spread_mm"}
    assert trust_in(replace(good, quality=without)) == (None, "")
    assert trust_in(replace(good, energies={})) == (None, "")
    assert judged(good, "a term is not finite", Limits(), True).reasons == ("a term is not finite",)


def test_what_the_lifter_thinks_is_measured_where_it_says_so():
    """A body exactly as it has it, and the same with a knee bent by half a radian and moved."""
    body = load_body(dtype=torch.float32)
    pose = torch.zeros(2, 72)
    pose[1, 3 * 4] = 0.5
    posed = keypoint_model(body)(torch.zeros(2, 10), rotation_from_axis_angle(pose.unflatten(1, (24, 3)))[:, 1:],
                                 torch.zeros(2, dtype=torch.int64))  # fmt: skip
    points = posed.points * torch.tensor([1.0, -1.0, -1.0])
    first, second = (list(column) for column in zip(*PAIRS, strict=True))
    depth = (points[:1, second, 2] - points[:1, first, 2]).repeat(2, 1)
    width = torch.full_like(depth, 0.02)
    eye = torch.eye(3).expand(2, 23, 3, 3)
    lifted = Lifted(
        torch.tensor([[0.0, 0.0, 1.0]] * 2),
        depth,
        depth + 1.0,
        width,
        width,
        depth * 0 - 30.0,
        eye[:, 0],
        eye,
    )
    found = beside_lifter(lifted, pose, points)
    torch.testing.assert_close(found["depth_spread_mm"], torch.full((2,), 20.0))
    assert found["depth_surprise"][0] < 1e-3 < 5 < found["depth_surprise"][1]
    torch.testing.assert_close(
        found["lifter_apart_deg"], torch.tensor([0.0, float(np.degrees(0.5)) / 8]), atol=0.05, rtol=0
    )


def test_a_rule_is_learned_judged_and_kept(tmp_path):
    rng = np.random.default_rng(0)
    numbers = rng.normal(3, 2, (4000, len(FEATURES)))
    odds = 1.5 * (numbers[:, 2] - 3) - 1.0 * (numbers[:, 5] - 3)
    right = rng.random(4000) < 1 / (1 + np.exp(-odds))
    rule = learned(numbers[:2000], right[:2000])
    np.testing.assert_allclose((rule.weight / rule.scale)[[2, 5, 7]], [1.5, -1.0, 0.0], atol=0.2)
    rows = [
        {"numbers": one, "pa_mm": 40.0 if good else 90.0, "turned_deg": 0.0, "how": "whole", "valid": True}
        for one, good in zip(numbers[2000:], right[2000:], strict=True)
    ]
    figures, _ = judge(rows, rule)
    assert figures["quality_auc"][0] == pytest.approx(auc(odds[2000:], right[2000:]), abs=0.01)
    assert figures["quality_calibration_points"][0] < 3 and figures["far_off_pct"][0] == 0
    constant, _ = judge(rows, Trust(rule.middle, rule.scale, rule.weight * 0, 3.0))
    assert constant["quality_calibration_points"][0] == pytest.approx(
        100 * (1 / (1 + np.exp(-3)) - right[2000:].mean()), abs=1
    )
    save(rule, tmp_path / "rule.npz")
    np.testing.assert_allclose(load_trust(tmp_path / "rule.npz")(numbers), rule(numbers), atol=1e-5)
    arrays = dict(np.load(tmp_path / "rule.npz"))
    np.savez(tmp_path / "other.npz", **arrays | {"names": arrays["names"][::-1]})
    with pytest.raises(ValueError, match="learn it anew"):
        load_trust(tmp_path / "other.npz")


def test_auc_counts_pairs_and_half_of_ties():
    assert auc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True])) == pytest.approx(3.5 / 4)
    assert np.isnan(auc(np.array([0.1, 0.2]), np.array([True, True])))


@pytest.mark.parametrize("how", list(SPOILT))
def test_keypoints_are_spoilt_as_said(how):
    rng = np.random.default_rng(3)
    points = np.column_stack([rng.uniform(100, 400, (25, 2)), np.full(25, 0.8)])
    after = spoilt(points, how, np.random.default_rng(1))
    moved, gone = np.abs(after - points)[:, :2].max(1) > 0, after[:, 2] == 0
    expected = {
        "whole": (0, 0), "noisy": (25, 0), "hidden": (0, 8), "exchanged": (22, 0), "enlarged": (25, 0), "moved": (2, 0),
    }  # fmt: skip
    if how == "cut":
        edge = points[gone, 1].min()
        assert 0 < gone.sum() < 20 and not moved.any() and points[~gone, 1].max() < edge
        return
    assert (moved.sum(), gone.sum()) == expected[how]
    if how == "exchanged":
        left, right = BODY_25.index("LKnee"), BODY_25.index("RKnee")
        np.testing.assert_array_equal(after[left], points[right])
    if how == "enlarged":
        sides = [np.ptp(keypoint_box(one).reshape(2, 2), 0)[0] for one in (points, after)]
        assert round(sides[1] / sides[0], 3) in (0.5, 0.7, 1.4)


def test_a_trunk_faces_where_it_is_turned():
    joints = load_body().joint_template.numpy()
    np.testing.assert_allclose(facing(joints)[[0, 1]], 0, atol=0.3)
    assert facing(joints)[2] > 0.95
    assert facing(joints * [-1, 1, -1])[2] < -0.95
