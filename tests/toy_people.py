"""Three people of a data set, and a network of a few weights: what tests of training learn from, and with."""

import cv2
import numpy as np
import torch
from PIL import Image

from fitter.body.spin_joints import spin_joints_of
from fitter.label.label_files import write_labels
from fitter.see.keypoint_targets import body_targets
from fitter.see.keypoints import BODY_25
from priors.clothing import LABELS
from regressor.config import Source, TrainConfig
from regressor.data import Change, load_sample
from regressor.hmr import HMR, Architecture

PX_PER_M, SIZE = 110.0, 320
PAINTED = {"LWrist": "left-arm", "RWrist": "right-arm", "LAnkle": "left-shoe", "RAnkle": "right-shoe"}
CHANGES = (
    Change(),
    Change(flip=True),
    Change(angle_rad=0.5),
    Change(flip=True, angle_rad=-0.7, scale=1.2),
    Change(angle_rad=0.3, scale=0.8, gain=(0.7, 1.0, 1.3)),
)


def write_people(folder, body):
    """Three posed bodies seen from afar (orthographic) in SPIN format, with labels painted at wrists and ankles."""
    (folder / "images").mkdir(), (folder / "labels").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(3):
        pose = torch.tensor(rng.normal(0, 0.2, (1, 72))).float()
        pose[0, :3] = torch.tensor([np.pi, 0.0, 0.0])
        pose[0, [50, 53]] = torch.tensor([-0.8, 0.8])
        betas = torch.tensor(rng.normal(0, 0.7, (1, 10))).float()
        posed = body(betas, pose)
        points = (torch.tensor(body_targets("openpose", *body.joint_layout)[0]).float() @ body.points(posed))[
            0
        ]
        keypoints = np.column_stack([PX_PER_M * points[:, :2].numpy() + [170, 150], np.ones(25)])
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(
            folder / f"images/{number}.png"
        )
        ids = np.full((SIZE, SIZE), LABELS.index("upper-clothes"), np.uint8)
        for name, label in PAINTED.items():
            x, y = keypoints[BODY_25.index(name), :2].astype(int)
            cv2.circle(ids, (int(x), int(y)), 4, LABELS.index(label), -1)
        write_labels(folder / f"labels/{number}.png", ids)
        joints = spin_joints_of(posed, body)[0]
        low, high = keypoints[:, :2].min(0), keypoints[:, :2].max(0)
        rows.append({
            "imgname": f"images/{number}.png", "center": (low + high) / 2, "scale": 1.2 * (high - low).max() / 200,
            "openpose": keypoints, "S": joints, "pose": pose[0].numpy(), "shape": betas[0].numpy(), "has_smpl": 1,
        })  # fmt: skip
    np.savez(folder / "data.npz", **{key: np.stack([row[key] for row in rows]) for key in rows[0]})
    return folder


def source(folder, **more):
    return Source("toy", str(folder / "data.npz"), str(folder), str(folder / "labels"), **more)


def tiny() -> HMR:
    torch.manual_seed(0)
    return HMR(Architecture(bottleneck=False, blocks=(1, 1, 1, 1), width=8, shrink=4))


def config_of(folder, out, **more):
    given = {"data": (source(folder),), "validation": (source(folder),), "batch": 2, "rate": 1e-3, "dsr_from": 1,
             "dsr_px": 32, "validate_every": 2, "workers": 0}  # fmt: skip
    return TrainConfig(out=str(out), **(given | more))


def batch_of(people, semantics=None, changes=CHANGES[:3]):
    samples = [load_sample(people, row, change, semantics, 48) for row, change in enumerate(changes)]
    return {key: torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in samples[0]}
