"""What do true 3D joints leave open, and what do the DSR terms add? The paper's Figure 4 without the network.

    python -m benchmarks.overfit_joints [--quick]

64 clothed people of the accuracy benchmark; each body is overfitted, 200 steps of Adam from the keypoints-alone fit
laid on the true torso, to the person's true 3D joints in the camera, with and without DSR-C + DSR-MC on exact labels.
Joints fix the pose of the bones; shape, the turn of limbs about themselves and the surface they leave open. Same
measures as benchmarks.accuracy.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from benchmarks.accuracy import (
    BENCHMARK,
    METRICS,
    against_truth,
    scene_labels,
    scene_people,
    session_of,
)
from benchmarks.report import Table, change_mm, write_results
from fitter.energy.semantics import make_targets
from fitter.jobs import one_thread
from fitter.people import fit_people

PEOPLE, STEPS, RATE = 64, 200, 0.03
JOINT_SCALE_MM = 10.0  # joints count as many standard deviations as they lie off in this
PRIOR, SHAPE = 0.1, 0.1  # on the pose prior's energy and squared betas: only what nothing else decides
CROP_PX = 112
TORSO = [0, 1, 2, 3, 6, 9, 12, 16, 17]  # SMPL's joints: pelvis, hips, spine, neck, shoulders
ROWS = ("joints", "joints + DSR")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    from joblib import Parallel, delayed

    count = 4 if options.quick else PEOPLE
    done = Parallel(n_jobs=options.jobs)(delayed(one_person)(number) for number in range(count))
    rows = {row: {key: np.array([d[row][key] for d in done]) for key in done[0][row]} for row in ROWS}
    table = Table(
        f"{count} people",
        ("row", *METRICS),
        [(row, *(float(np.nanmean(v[k])) for k in METRICS)) for row, v in rows.items()],
    )
    changes = [
        (key, change_mm(rows[ROWS[1]][key], rows[ROWS[0]][key])) for key in METRICS if "iou" not in key
    ]
    paired = Table(
        "With DSR against joints alone: paired difference, 95 % interval", ("measure", "change"), changes
    )
    figures = {
        f"figure4_{key}_{name}": (float(np.nanmean(rows[row][key])), unit)
        for name, row in zip(("joints", "dsr"), ROWS, strict=True)
        for key, unit in (("mc_iou", "IoU"), ("pve", "mm"))
    }
    write_results(
        "overfit_joints_quick" if options.quick else "overfit_joints", __doc__, figures, [table, paired]
    )


def one_person(number: int) -> dict[str, dict[str, float]]:
    """Both rows of one person."""
    from synth.dataset import scene_maker

    one_thread()
    scene = scene_maker(BENCHMARK)(number)
    people = scene_people(scene, number, True)
    models = session_of("c_mc", "found")
    labels = scene_labels(scene, people, number, 0, "found")
    start = fit_people("", people[:1], scene.camera, models.body, models.prior, models.config)[0]
    targets = make_targets(people[:1], labels[:1], models.config.semantics, CROP_PX, torch.float32)
    joints = scene.people[0].joints_m + scene.place_m[0]
    return {
        row: against_truth(overfit(start, joints, targets, models, row == ROWS[1]), scene, models)
        for row in ROWS
    }


def overfit(start, joints_cam: np.ndarray, targets, models, with_dsr: bool):
    """`start` (a Fit) moved to true joints [24, 3] m in the camera, and to the labels if asked. -> Fit."""
    from fitter.energy.semantics import SemanticTerms

    body, weights = models.body, models.config.weights
    terms: SemanticTerms = models.semantics
    true = torch.tensor(joints_cam).float()
    turn, move = laid_on(start.joints_cam[TORSO], joints_cam[TORSO])
    root = (Rotation.from_matrix(turn) * Rotation.from_rotvec(start.pose[:3])).as_rotvec()
    pelvis = turn @ start.joints_cam[0] + move
    first = (
        np.concatenate([root, start.pose[3:]]),
        start.betas,
        start.transl_cam + pelvis - start.joints_cam[0],
    )
    pose, betas, transl = (torch.tensor(a[None]).float().requires_grad_() for a in first)
    focal, center = (torch.tensor(np.asarray(a)[None]).float() for a in (start.focal_px, start.center_px))
    optimiser = torch.optim.Adam([pose, betas, transl], RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        posed = body(betas, pose)
        off = (posed.joints + transl[:, None] - true) * 1000 / JOINT_SCALE_MM
        energy = (off**2).sum() + SHAPE * (betas**2).sum() + PRIOR * models.prior.energy(pose[:, 3:]).sum()
        if with_dsr:
            found = terms(posed.vertices + transl[:, None], focal, center, targets)
            energy = energy + sum(getattr(weights, name) * value.sum() for name, value in found.items())
        optimiser.zero_grad()
        energy.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        posed = body(betas, pose)
        return replace(
            start,
            pose=pose[0].numpy(),
            betas=betas[0].numpy(),
            transl_cam=transl[0].numpy(),
            joints_cam=(posed.joints + transl[:, None])[0].numpy(),
            vertices_cam=(posed.vertices + transl[:, None])[0].numpy(),
        )


def laid_on(points: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [3, 3] and translation [3] that bring points [N, 3] closest to others."""
    middle, goal = points.mean(0), target.mean(0)
    rotation, _ = Rotation.align_vectors(target - goal, points - middle)
    return rotation.as_matrix(), goal - rotation.as_matrix() @ middle


if __name__ == "__main__":
    from benchmarks.overfit_joints import main as by_name  # worker processes find its functions by this name

    by_name()
