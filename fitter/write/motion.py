"""People who move: what a sequence of fits is, still fits as one frame of it, and motions as BVH files.

A .bvh holds the 24 joints with bones of the shaped body, and turns them frame by frame: Y up, the camera at the origin
looking along -Z, metres unless said.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from fitter.body.model import BodyModel
from fitter.write.result import Fit
from priors.skeleton import JOINT_NAMES, JOINT_PARENTS

UPRIGHT = Rotation.from_quat((1.0, 0.0, 0.0, 0.0))  # half a turn about X: from the camera's axes to Y up


@dataclass(frozen=True)
class Motion:
    """One person in T frames, of one shape; camera frame (x right, y down, z forward).

    name: of the person, in files; betas [10]; pose [T, 72] rad, root first; transl_cam [T, 3] m, added after posing
    frames [T]: numbers of the frames, increasing; frames where nobody was found are left out
    fps: frames a second

    ValueError: none of these shapes, not finite, frames that do not increase.
    """

    name: str
    betas: np.ndarray
    pose: np.ndarray
    transl_cam: np.ndarray
    frames: np.ndarray
    fps: float = 30.0

    def __post_init__(self):
        count = len(self.frames)
        for name, shape in (("betas", (10,)), ("pose", (count, 72)), ("transl_cam", (count, 3))):
            array = np.asarray(getattr(self, name))
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{name} of {self.name}: expected finite {shape}, got {array.shape}")
        if not count or np.any(np.diff(self.frames) <= 0) or not self.fps > 0:
            raise ValueError(f"frames of {self.name}: expected increasing numbers and a positive fps")

    @classmethod
    def of(cls, fit: Fit) -> "Motion":
        """A fit as a motion of one frame."""
        name = "_".join(part for part in (Path(fit.name).name, fit.person) if part)
        return cls(name, fit.betas, fit.pose[None], fit.transl_cam[None], np.zeros(1, np.int64))

    @property
    def turned(self) -> np.ndarray:
        """[T, 24, 4] the joints' rotations as quaternions x y z w, each on the side of the one before."""
        turned = Rotation.from_rotvec(self.pose.reshape(-1, 3)).as_quat().reshape(len(self.pose), 24, 4)
        side = np.sign((turned[1:] * turned[:-1]).sum(-1))
        turned[1:] *= np.cumprod(np.where(side < 0, -1.0, 1.0), 0)[..., None]
        return turned

    def without_gaps(self) -> "Motion":
        """The same in every frame from the first to the last: between two, joints turn and people move evenly."""
        frames = np.arange(self.frames[0], self.frames[-1] + 1)
        if len(frames) == len(self.frames):
            return self
        turns = (Rotation.from_quat(of_joint) for of_joint in self.turned.transpose(1, 0, 2))
        between = [Slerp(self.frames, turn)(frames).as_rotvec() for turn in turns]
        place = np.stack([np.interp(frames, self.frames, axis) for axis in self.transl_cam.T], 1)
        pose = np.stack(between, 1).reshape(len(frames), 72)
        return Motion(self.name, self.betas, pose, place, frames, self.fps)


def rest_of(betas: np.ndarray, body: BodyModel) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] and joints [24, 3] m of a shape at rest, body frame."""
    names = ("template", "shape_dirs", "joint_template", "joint_shape_dirs")
    template, dirs, joints, joint_dirs = (body.get_buffer(name).cpu().numpy() for name in names)
    return template + dirs @ betas, joints + joint_dirs @ betas


def save_bvh(path: Path, motion: Motion, body: BodyModel, per_metre: float = 1.0) -> None:
    """Writes a motion as a .bvh; body: the one that it is of; per_metre: units a metre has, 100 for centimetres.

    The root moves and turns, the others turn, about Z, X, Y. Frames that are missing between two are filled in: BVH
    knows a steady rate only.
    """
    motion = motion.without_gaps()
    rest, joints = rest_of(motion.betas, body)
    ends = _ends(rest, joints, body.get_buffer("part_ids").cpu().numpy())
    lines = ["HIERARCHY", *_hierarchy(0, joints * per_metre, ends * per_metre, "")]
    turns = Rotation.from_quat(motion.turned.reshape(-1, 4)).as_matrix().reshape(-1, 24, 3, 3)
    turns[:, 0] = UPRIGHT.as_matrix() @ turns[:, 0]
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Gimbal lock"
        )  # then two angles say the same, and their sum is right
        angles = Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_euler("ZXY").reshape(-1, 24, 3)
    degrees = np.degrees(np.unwrap(angles, axis=0))[:, _order(0)]
    place = UPRIGHT.apply(motion.transl_cam + joints[0]) * per_metre
    rows = np.concatenate([place, degrees.reshape(len(degrees), -1)], 1)
    lines += ["MOTION", f"Frames: {len(rows)}", f"Frame Time: {1 / motion.fps:.8f}"]
    lines += [" ".join(f"{value:.6f}" for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def _hierarchy(joint: int, joints: np.ndarray, ends: np.ndarray, indent: str) -> Iterator[str]:
    """A joint's block and those below it; joints, ends [24, 3] at rest."""
    root = JOINT_PARENTS[joint] < 0
    bone = np.zeros(3) if root else joints[joint] - joints[JOINT_PARENTS[joint]]
    turns = "Zrotation Xrotation Yrotation"
    yield f"{indent}{'ROOT' if root else 'JOINT'} {JOINT_NAMES[joint]}"
    yield f"{indent}{{"
    yield f"{indent}\tOFFSET {_numbers(bone)}"
    yield f"{indent}\tCHANNELS {f'6 Xposition Yposition Zposition {turns}' if root else f'3 {turns}'}"
    below = _children(joint)
    for child in below:
        yield from _hierarchy(child, joints, ends, indent + "\t")
    if not below:
        yield f"{indent}\tEnd Site"
        yield f"{indent}\t{{"
        yield f"{indent}\t\tOFFSET {_numbers(ends[joint] - joints[joint])}"
        yield f"{indent}\t}}"
    yield f"{indent}}}"


def _numbers(offset: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in offset)


def _children(joint: int) -> list[int]:
    return [child for child, parent in enumerate(JOINT_PARENTS) if parent == joint]


def _order(joint: int) -> list[int]:
    """The joints as a .bvh names them, a joint before those below it, branch by branch."""
    return [joint, *(one for child in _children(joint) for one in _order(child))]


def _ends(rest: np.ndarray, joints: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """[24, 3] where the parts of joints that have none below them end, straight on; parts: [V]."""
    ends = np.zeros((24, 3))
    for joint, parent in enumerate(JOINT_PARENTS):
        if not _children(joint):
            along = (joints[joint] - joints[parent]) / np.linalg.norm(joints[joint] - joints[parent])
            ends[joint] = joints[joint] + along * ((rest[parts == joint] - joints[joint]) @ along).max()
    return ends
