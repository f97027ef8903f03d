"""A toy body with SMPL's interface (144 vertices: a small octahedron round every joint), for unit tests."""

import os

from fitter.jobs import ENVIRONMENT, one_thread
from priors.skeleton import JOINT_PARENTS, MIRROR_JOINTS

os.environ.setdefault("OMP_WAIT_POLICY", ENVIRONMENT["OMP_WAIT_POLICY"])

import numpy as np
import pytest

from fitter.body.model import BodyModel

one_thread()

# fmt: off
TOY_JOINTS = {  # metres; the left half and the middle, by joint number
    0: (0, -.22, .03), 1: (.07, -.31, .02), 3: (0, -.11, 0), 4: (.10, -.69, .02), 6: (0, .02, 0),
    7: (.09, -1.09, -.03), 9: (0, .07, .03), 10: (.115, -1.14, .09), 12: (0, .29, -.015), 13: (.08, .195, -.01),
    15: (0, .35, .04), 16: (.17, .225, -.015), 18: (.43, .21, -.04), 20: (.68, .22, -.045), 22: (.765, .21, -.06),
}
# fmt: on


def toy_arrays() -> dict[str, np.ndarray]:
    """An SMPL-format body, left/right symmetric, with two working shape components (size and width)."""
    joints = np.zeros((24, 3))
    for j, twin in enumerate(MIRROR_JOINTS):
        joints[j] = TOY_JOINTS[j] if j in TOY_JOINTS else np.array(TOY_JOINTS[twin]) * [-1, 1, 1]
    corners = 0.05 * np.concatenate([np.eye(3), -np.eye(3)])
    faces = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]])
    template = (joints[:, None] + corners).reshape(-1, 3)
    shape_dirs = np.zeros((144, 3, 10))
    shape_dirs[:, :, 0] = 0.04 * template
    shape_dirs[:, 0, 1] = 0.05 * template[:, 0]
    owner = np.repeat(np.arange(24), 6)
    weights = np.eye(24)[owner]
    landmark_joints = [15, 15, 15, 15, 15, 10, 10, 7, 11, 11, 8]
    corner = [2, 0, 3, 0, 3, 2, 0, 5, 2, 3, 5]
    return {
        "v_template": template,
        "shapedirs": shape_dirs,
        "posedirs": np.zeros((144, 3, 207)),
        "J_regressor": np.eye(24)[:, owner] / 6,
        "weights": weights,
        "f": (faces[None] + 6 * np.arange(24)[:, None, None]).reshape(-1, 3).astype(np.int32),
        "kintree_table": np.array([[4294967295, *JOINT_PARENTS[1:]], range(24)], np.int64),
        "landmark_ids": np.array([6 * j + c for j, c in zip(landmark_joints, corner, strict=True)]),
        "part_ids": owner,
    }


@pytest.fixture(scope="session")
def toy_body() -> BodyModel:
    return BodyModel(toy_arrays(), "toy").double()
