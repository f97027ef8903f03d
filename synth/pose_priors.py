"""Learn both body-pose priors from mocap: `python -m synth.pose_priors --mocap DIR --out priors/data`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from priors.pose_gmm import PERCENTILES, PoseGMM, load_pose_gmm
from synth.gmm_fit import Mixture, fit_symmetric_mixture, log_likelihood
from synth.mocap import PoseClip, diverse_frames, read_clips

FRAME_SPACING_M = 0.05
"""Frames of a clip closer than this (root mean square joint distance) count once."""


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
    """About `count` poses, evenly spaced within clips, each clip's share growing with the root of its frames."""
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
    """Write the mixture with the energies' percentiles over its training poses [N, 72]; return it as it loads."""
    arrays = {
        "means": mixture.means.astype(np.float32),
        "covars": mixture.covars.astype(np.float32),
        "weights": mixture.weights.astype(np.float32),
        "mirrored": np.array(True),
    }
    gmm = PoseGMM(arrays["means"], arrays["covars"], arrays["weights"], mirrored=True)
    energies = gmm_energies(gmm, train_pose)
    licence = "Learned from the CMU Graphics Lab Motion Capture Database (mocap.cs.cmu.edu, NSF EIA-0196217) and others"
    np.savez_compressed(
        path,
        **arrays,
        energy_percentiles=np.percentile(energies, PERCENTILES).astype(np.float32),
        licence=licence,
    )
    return load_pose_gmm(path)


def gmm_energies(gmm: PoseGMM, pose: np.ndarray) -> np.ndarray:
    """Energies [N] of poses [N, 72]."""
    with torch.no_grad():
        return gmm.energy(torch.tensor(pose[:, 3:], dtype=torch.float32)).numpy()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mocap", type=Path, required=True, help="folder with cmu_bvh30/ and deepmimic/")
    parser.add_argument("--out", type=Path, default=Path("priors/data"), help="where pose_gmm.npz goes")
    parser.add_argument("--heldout", type=Path, default=Path("tests/data/heldout_poses.npz"))
    options = parser.parse_args(arguments)

    clips = read_clips(options.mocap)
    train, held = diverse_poses(clips, held_out=False), diverse_poses(clips, held_out=True)
    print(f"{len(train.pose)} training poses, {len(held.pose)} held out")
    mixture = fit_symmetric_mixture(train.pose[:, 3:])
    gmm = save_gmm(options.out / "pose_gmm.npz", mixture, train.pose)
    chosen = spread_over_clips(held, 256)
    np.savez_compressed(options.heldout, pose=chosen.pose.astype(np.float32), clip=chosen.clip)
    held_energy = gmm_energies(gmm, held.pose)
    print(
        "log likelihood: train",
        mixture.train_log_likelihood,
        "held",
        log_likelihood(held.pose[:, 3:], mixture).mean(),
    )
    print("percentiles", gmm.energy_percentiles, "held", np.percentile(held_energy, PERCENTILES))
    for limit in (99.0, 99.9):
        print("held out above", limit, (held_energy > gmm.energy_percentiles[limit]).mean())


if __name__ == "__main__":
    main()
