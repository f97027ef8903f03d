"""Learn both body-pose priors from mocap and compare them on motions held back.

python -m synth.pose_priors --mocap DIR --out priors/data

Writes pose_gmm.npz and vposer_open.npz, the held-out poses that tests use, a picture of samples, and the
comparison. VPoser needs the extra `vposer`. Half an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fitter.jobs import one_thread
from priors.pose_gmm import PERCENTILES, PoseGMM, load_pose_gmm
from priors.skeleton import JOINT_NAMES
from priors.vposer import VPoserPrior, load_vposer_prior
from synth.pose_priors.compare import Competitor, compare, reconstruction
from synth.pose_priors.gmm_fit import Group, Mixture, fit_groups, log_likelihood
from synth.pose_priors.knees import knee_flexion
from synth.pose_priors.mocap import PoseClip, diverse_frames, read_clips
from synth.pose_priors.pictures import samples_picture
from synth.pose_priors.postures import POSTURES, classify, down_in_pelvis
from synth.pose_priors.skeleton import smpl_joints
from synth.pose_priors.vposer_train import save_vposer, train_vposer

FRAME_SPACING_M = 0.05
"""Frames of a clip closer than this (root mean square joint distance) count once."""
GROUPS = {
    "standing": (("standing",), 0.40, 1, 0.045),
    "walking": (("walking",), 0.20, 1, 0.06),
    "sitting": (("sitting",), 0.15, 1, 0.09),
    "rest": (("leaning", "other"), 0.25, 3, 0.09),
}
"""Learned apart: postures, share of photos, mirror pairs, floor [rad] of legs' bends and of tilt against gravity."""
FRAMES_PER_GROUP = 4000
DETERMINANT_SHARE = 0.3
"""About 20 of 72 entries are what a picture's keypoints tell beside place, orientation and shape."""
HELD_OUT_COUNT = 256
TUNING_COUNT = 64
LICENCE = (
    "Learned from the CMU Graphics Lab Motion Capture Database (mocap.cs.cmu.edu, created with funding from "
    "NSF EIA-0196217), and from MIT-licensed clips of Auto_Conditioned_RNN_motion and DeepMimic"
)


@dataclass(frozen=True)
class PoseSet:
    """Diverse poses [N, 72] with the clip each came from [N]."""

    pose: np.ndarray
    clip: np.ndarray


def diverse_poses(clips: list[PoseClip], held_out: bool) -> PoseSet:
    """The diverse frames of the training clips, or of those held out."""
    poses, names = [], []
    for clip in clips:
        if clip.held_out == held_out and len(clip.pose):
            poses.append(clip.pose[diverse_frames(clip.pose[:, 3:], FRAME_SPACING_M)])
            names += [clip.name] * len(poses[-1])
    return PoseSet(np.concatenate(poses), np.array(names))


def spread_over_clips(poses: PoseSet, count: int) -> PoseSet:
    """About `count` poses, evenly spaced within clips; a clip's share grows with the root of its frames."""
    names, sizes = np.unique(poses.clip, return_counts=True)
    shares = np.sqrt(sizes) / np.sqrt(sizes).sum() * count
    chosen = []
    for name, size, share in zip(names, sizes, shares, strict=True):
        frames = np.flatnonzero(poses.clip == name)
        picks = max(1, min(size, round(share)))
        chosen.append(frames[np.round((np.arange(picks) + 0.5) * size / picks - 0.5).astype(int)])
    index = np.concatenate(chosen)
    return PoseSet(poses.pose[index], poses.clip[index])


def save_gmm(path: Path, mixture: Mixture, train_pose: np.ndarray) -> PoseGMM:
    """Write the mixture with its energies' percentiles over the training poses [N, 72], gravity aside; return it."""
    arrays = {
        "means": mixture.means.astype(np.float32),
        "covars": mixture.covars.astype(np.float32),
        "weights": mixture.weights.astype(np.float32),
        "mirrored": np.array(True),
        "determinant_share": np.array(DETERMINANT_SHARE),
    }
    gmm = PoseGMM(
        arrays["means"],
        arrays["covars"],
        arrays["weights"],
        mirrored=True,
        determinant_share=DETERMINANT_SHARE,
    )
    energies = gmm_energies(gmm, train_pose)
    percentiles = np.percentile(energies, PERCENTILES).astype(np.float32)
    np.savez_compressed(path, **arrays, energy_percentiles=percentiles, licence=LICENCE)
    return load_pose_gmm(path)


def gmm_energies(gmm: PoseGMM, pose: np.ndarray) -> np.ndarray:
    """Energies [N] of poses [N, 72]."""
    with torch.no_grad():
        return gmm.energy(torch.tensor(pose[:, 3:], dtype=torch.float32)).numpy()


def photo_groups(clips: list[PoseClip], seed: int = 0) -> list[Group]:
    """The mixture's learning set: rows of pose and gravity by posture, with the shares that postures have in photos.

    Motion capture is made of motion, people in photos mostly stand, walk and sit: as captured, the mixture's mean has
    its knees bent by 49 degrees and every fit crouches. Shares (GROUPS) are our judgement of everyday photos of whole
    people: 40 % stand, 20 % walk or shift their weight, 15 % sit, the rest lean or do anything else. A group's
    FRAMES_PER_GROUP frames are drawn from the training clips, a clip's share growing with the root of its frames there.
    """
    kept = [clip.pose for clip in clips if not clip.held_out and len(clip.pose)]
    frames, owner = np.concatenate(kept), np.repeat(np.arange(len(kept)), [len(pose) for pose in kept])
    posture = classify(frames)
    rng = np.random.default_rng(seed)
    groups = []
    for name, (postures, share, pairs, sagittal_std) in GROUPS.items():
        members = np.flatnonzero(np.isin(posture, [POSTURES.index(label) for label in postures]))
        chance = 1 / np.sqrt(np.bincount(owner[members])[owner[members]])
        picked = rng.choice(members, FRAMES_PER_GROUP, p=chance / chance.sum())
        groups.append(Group(name, mixture_rows(frames[picked]), share, pairs, sagittal_std))
    return groups


def mixture_rows(pose: np.ndarray) -> np.ndarray:
    """Rows [N, 72] of body pose and direction down, of poses [N, 72] in a world with Y up."""
    return np.concatenate([pose[:, 3:], down_in_pelvis(pose)], 1)


def describe(mixture: Mixture, names: list[str]) -> list[str]:
    """One line a component: weight, knees and pelvis of its mean, spread of the knees; degrees."""
    lines = ["component  weight  knees left, right (spread)  pelvis tilt forward (spread)  trunk lean"]
    for name, mean, covar, weight in zip(names, mixture.means, mixture.covars, mixture.weights, strict=True):
        level = np.arctan2(mean[71], -mean[70])
        pose = np.concatenate([[level, 0.0, 0.0], mean[:69]])[None]
        knees = np.degrees(knee_flexion(pose)[0])
        spread = np.degrees(np.sqrt(np.diag(covar)))
        joints = smpl_joints(pose)[0]
        trunk = joints[JOINT_NAMES.index("neck")]
        lean = np.degrees(np.arctan2(trunk[2], trunk[1]))
        lines.append(
            f"{name:9s} {2 * weight:.3f}  {knees[0]:.1f}, {knees[1]:.1f} ({spread[9]:.1f}, {spread[12]:.1f})  "
            f"{np.degrees(level):.1f} ({spread[71]:.1f})  {lean:.1f}"
        )
    return lines


def vposer_poses(train: PoseSet, groups: list[Group]) -> np.ndarray:
    """VPoser's learning set, body poses [N, 69]: the diverse ones, and as many as in photos."""
    rng, drawn = np.random.default_rng(0), []
    for group in groups:
        wanted = min(round(group.share * len(train.pose)), len(group.rows))
        drawn.append(rng.choice(group.rows, wanted, replace=False)[:, :69])
    return np.concatenate([train.pose[:, 3:], *drawn])


def learn(train: PoseSet, clips: list[PoseClip], out: Path, vposer: bool = True) -> None:
    """Fit both priors to the training poses and write them into `out`."""
    groups = photo_groups(clips)
    mixture = fit_groups(groups)
    save_gmm(out / "pose_gmm.npz", mixture, train.pose)
    print(f"mixture: log likelihood {mixture.train_log_likelihood:.2f} a row", flush=True)
    print(
        *describe(mixture, [group.name for group in groups for _ in range(group.pairs)]), sep="\n", flush=True
    )
    if vposer:
        save_vposer(out / "vposer_open.npz", train_vposer(vposer_poses(train, groups)))


def _mixture_of(gmm: PoseGMM) -> Mixture:
    """The stored half of a mirrored mixture of the pose alone, for its likelihood."""
    covars = (gmm.factors.double() @ gmm.factors.double().transpose(1, 2)).numpy()
    return Mixture(gmm.means.double().numpy(), covars, gmm.weights.double().numpy() / 2, float("nan"))


def typicality(gmm: PoseGMM, train: PoseSet, held: PoseSet) -> dict:
    """How the mixture rates training and held-out poses."""
    energies = gmm_energies(gmm, held.pose)
    mixture = _mixture_of(gmm)
    by_clip = {str(name): float(np.median(energies[held.clip == name])) for name in np.unique(held.clip)}
    return {
        "percentiles": list(PERCENTILES),
        "energy_train": [gmm.energy_percentiles[level] for level in PERCENTILES],
        "energy_held_out": np.percentile(energies, PERCENTILES).tolist(),
        "held_out_above_99_pct": float(100 * (energies > gmm.energy_percentiles[99.0]).mean()),
        "held_out_above_99.9_pct": float(100 * (energies > gmm.energy_percentiles[99.9]).mean()),
        "log_likelihood_train": float(log_likelihood(train.pose[:, 3:], mixture).mean()),
        "log_likelihood_held_out": float(log_likelihood(held.pose[:, 3:], mixture).mean()),
        "median_energy_by_held_out_clip": by_clip,
    }


def competitors(gmm: PoseGMM, vposer: VPoserPrior) -> list[Competitor]:
    """Both priors and none, for the comparison; the poses start half bent, since straight limbs fold either way."""
    return [
        Competitor("none", lambda pose: pose, lambda pose: 0 * pose.sum(1), gmm.mixture_mean, (1.0,)),
        Competitor("gmm", lambda pose: pose, gmm.energy, gmm.mixture_mean, (0.1, 0.3, 1.0, 3.0)),
        Competitor(
            "vposer", vposer.decode, vposer.energy, torch.zeros(vposer.latent_dim), (0.3, 1.0, 3.0, 10.0)
        ),
    ]


def evaluate(train: PoseSet, held: PoseSet, out: Path, results: Path, command: str) -> None:
    """Compare the priors in `out` on held-out poses; write the table and print the headlines."""
    gmm, vposer = load_pose_gmm(out / "pose_gmm.npz"), load_vposer_prior(out / "vposer_open.npz")
    tuning = spread_over_clips(train, TUNING_COUNT).pose[:TUNING_COUNT]
    test = spread_over_clips(held, HELD_OUT_COUNT).pose
    table = {
        "command": command,
        "machine": f"{platform.machine()}, {platform.system()}, 1 thread",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "seed": 0,
        "training_poses": len(train.pose),
        "held_out_poses": len(held.pose),
        "held_out_clips": len(np.unique(held.clip)),
        "compared_on": len(test),
        "gmm": typicality(gmm, train, held),
        "vposer_reconstruction": {
            "train": reconstruction(vposer, train.pose[:: max(1, len(train.pose) // 2000)]),
            "held_out": reconstruction(vposer, held.pose),
        },
        "map_estimates": compare(competitors(gmm, vposer), tuning, test),
    }
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(table, indent=1) + "\n")
    print(f"FIGURE gmm_held_out_above_99.9 {table['gmm']['held_out_above_99.9_pct']:.2f} %")
    rebuilt = table["vposer_reconstruction"]["held_out"]
    print(f"FIGURE vposer_held_out_reconstruction {rebuilt['mean_mm']:.1f} mm")
    for task, row in table["map_estimates"].items():
        for name, entry in row.items():
            print(f"FIGURE {task}_{name} {entry['median_mm']:.1f} mm")


def draw(out: Path, body: Path, picture: Path) -> None:
    """Write the picture of 16 samples from each prior in `out`."""
    generator = torch.Generator().manual_seed(0)
    vposer = load_vposer_prior(out / "vposer_open.npz")
    with torch.no_grad():
        gmm_samples = load_pose_gmm(out / "pose_gmm.npz").sample(16, generator).numpy()
        vposer_samples = vposer.decode(torch.randn(16, vposer.latent_dim, generator=generator)).numpy()
    rows = {"GMM: 16 samples": gmm_samples, "VPoser (our weights): 16 samples": vposer_samples}
    samples_picture(rows, body, picture)


def main(arguments: list[str] | None = None) -> None:
    """Command line, see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder with cmu_bvh30/ and deepmimic/")
    parser.add_argument("--out", type=Path, default=Path("priors/data"), help="where the two priors go")
    parser.add_argument("--heldout", type=Path, default=Path("tests/data/heldout_poses.npz"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/pose_priors.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/pose_prior_samples.png"))
    parser.add_argument("--body", type=Path, default=Path("fitter/data/open_body.npz"))
    parser.add_argument(
        "--keep", action="store_true", help="compare and draw the priors in --out as they are"
    )
    parser.add_argument("--mixture-only", action="store_true", help="leave VPoser's weights as they are")
    options = parser.parse_args(arguments)

    one_thread()
    clips = read_clips(options.mocap)
    train, held = diverse_poses(clips, held_out=False), diverse_poses(clips, held_out=True)
    print(f"{len(train.pose)} training poses, {len(held.pose)} held out", flush=True)
    if not options.keep:
        learn(train, clips, options.out, vposer=not options.mixture_only)
        chosen = spread_over_clips(held, HELD_OUT_COUNT)
        np.savez_compressed(
            options.heldout, pose=chosen.pose.astype(np.float32), clip=chosen.clip, licence=LICENCE
        )
    draw(options.out, options.body, options.picture)
    command = f"python -m synth.pose_priors --mocap DIR --out {options.out}"
    evaluate(train, held, options.out, options.results, command)
