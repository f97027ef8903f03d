"""Learn the lifter (`priors/lifter.py`) from motion capture, seen by photos' cameras.

    python -m synth.pose_priors.lifter --mocap DIR --out priors/data/lifter.npz

Bodies of random shapes in the poses of the clips that the pose priors learn from, turned any way, 2.2 to 9 m before
cameras whose pitch and roll are known or not; their keypoints with a detector's noise (`synth/noise.py`), outliers,
hidden limbs, people cut by the photo's edge, sides taken for each other; BlazePose's depths with errors of its kind.
Prints what it is worth on clips and performers held out. Half an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from fitter.body.model import load_body
from fitter.energy.objective import keypoint_model
from fitter.jobs import one_thread
from fitter.see.keypoints import BODY_25, SOURCES
from priors.lifter import (
    DEFAULT_PATH,
    LANDMARKS,
    PAIRS,
    Lifter,
    Seen,
    Trunk,
    answer,
    depth_energy,
    features,
    least_energy,
    load_lifter,
)
from priors.rotation import rotation_from_axis_angle
from priors.simple import down_in_camera
from priors.skeleton import JOINT_NAMES, mirror_pose
from synth.noise import _GROUP, HIDDEN_WORSE, KEYPOINT_NOISE, TOGETHER_PCT

WIDTH, BLOCKS = 512, 3
BATCH, RATE, STEPS = 512, 1e-3, 8000
HELD_OUT_PERFORMERS = ("03", "08", "11")
SOURCE_SHARES = (0.2, 0.2, 0.6)  # of SOURCES
POSTURE_SHARES = (0.28, 0.17, 0.12, 0.08, 0.35)  # of POSTURES
# fmt: off
LANDMARK_KEYPOINTS = (0, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11, 21, 24, 19, 22)  # BODY_25's of LANDMARKS
LIMB_TREES = ((5, 6, 7), (2, 3, 4), (12, 13, 14, 19, 20, 21), (9, 10, 11, 22, 23, 24))
# fmt: on
ARMS = tuple(
    joint for joint, name in enumerate(JOINT_NAMES) if name.endswith(("collar", "shoulder", "elbow", "wrist"))
)
OTHERS_ARMS = 0.2  # share of people who hold their arms as somebody else does
ROTATION_WEIGHT, POINT_WEIGHT = 1.0, 8.0


@dataclass(frozen=True)
class Poses:
    """pose [N, 72], root in a world with Y up; chance [N] of being drawn."""

    pose: Tensor
    chance: Tensor


@dataclass(frozen=True)
class Sample:
    """seen, and the truth: points_m [N, 25, 3] about the pelvis and orientation [N, 3, 3] in camera axes, pose
    rotations [N, 23, 3, 3], betas [N, 10], place_m [N, 3] of the pelvis; keypoint noise is in `seen` alone."""

    seen: Seen
    points_m: Tensor
    orientation: Tensor
    rotations: Tensor
    betas: Tensor
    place_m: Tensor
    tilt: Tensor


def pool(clips, held_out: bool, performers: tuple[str, ...] | None = None) -> Poses:
    """Frames of the clips held out or not (of some performers alone), postures as often as POSTURE_SHARES says, a
    clip's share growing with the root of its frames."""
    from synth.pose_priors.postures import classify
    from synth.pose_priors.sessions import subject_of

    kept = [clip for clip in clips if clip.held_out == held_out and len(clip.pose)]
    if performers is not None:
        kept = [clip for clip in kept if subject_of(clip.name) in performers]
    frames = np.concatenate([clip.pose for clip in kept])
    owner = np.repeat(np.arange(len(kept)), [len(clip.pose) for clip in kept])
    posture = classify(frames)
    chance = np.zeros(len(frames))
    for label, share in enumerate(POSTURE_SHARES):
        members = np.flatnonzero(posture == label)
        if len(members):
            weight = 1 / np.sqrt(np.bincount(owner[members])[owner[members]])
            chance[members] = share * weight / weight.sum()
    return Poses(torch.tensor(frames, dtype=torch.float32), torch.tensor(chance))


class Maker:
    """Draws samples of a pool."""

    def __init__(self, poses: Poses, seed: int):
        self.poses, self.body = poses, load_body()
        self.model = keypoint_model(self.body)
        self.generator = torch.Generator().manual_seed(seed)
        groups = [KEYPOINT_NOISE[_GROUP.get(name) or _GROUP[name[1:]]] for name in BODY_25]
        self.sigma, self.wild, self.wild_sigma, self.dropped = (
            torch.tensor([getattr(one, field) for one in groups])
            for field in ("sigma_pct", "outliers", "outlier_pct", "dropped")
        )

    def uniform(self, *shape) -> Tensor:
        return torch.rand(*shape, generator=self.generator)

    def normal(self, *shape) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def __call__(self, count: int) -> Sample:
        chosen = torch.multinomial(self.poses.chance, count, replacement=True, generator=self.generator)
        pose = self.poses.pose[chosen]
        pose = torch.where(self.uniform(count, 1) < 0.5, mirror_pose(pose), pose)
        others = (self.uniform(count, 1, 1) < OTHERS_ARMS) & torch.isin(torch.arange(24), torch.tensor(ARMS))[
            :, None
        ]
        joints = pose.reshape(-1, 24, 3)
        pose = torch.where(others, joints.roll(1, 0), joints).flatten(1)
        turns = rotation_from_axis_angle(pose.reshape(-1, 24, 3))
        betas = 0.9 * self.normal(count, 10)
        kind = torch.multinomial(torch.tensor(SOURCE_SHARES), count, True, generator=self.generator)
        posed = self.model(betas, turns[:, 1:], kind)
        tilt, guess, spread = self.cameras(count)
        yaw = 2 * math.pi * self.uniform(count)
        orientation = world_in_camera(tilt) @ about_y(yaw) @ turns[:, 0]
        points = posed.points @ orientation.transpose(1, 2)
        depth = (math.log(2.2) + math.log(9 / 2.2) * self.uniform(count)).exp()
        place = torch.stack([depth * 0.25 * self.normal(count), depth * 0.12 * self.normal(count), depth], 1)
        place[:, 2] = torch.maximum(depth, 0.5 - points[..., 2].amin(1))
        at = points + place[:, None]
        z = at[..., 2:].clamp(min=0.2)
        rays, confidence = self.detected(at[..., :2] / z, kind)
        seen = Seen(rays, confidence, down_in_camera(guess), spread, kind != SOURCES.index("detector"),
                    self.landmarks(points, kind, orientation[:, 2, 2]))  # fmt: skip
        return Sample(seen, points, orientation, turns[:, 1:], betas, place, guess)

    def cameras(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pitch and roll [N, 2] rad as they are and as they are known, and how far the latter may be off."""
        degree = math.pi / 180
        known = self.uniform(count, 1) < 0.4
        guess = torch.stack([14 * self.normal(count) + 5, 7 * self.normal(count)], 1) * degree
        guess = torch.where(known, guess, 0.0)
        tail = torch.where(self.uniform(count, 1) < 0.12, 2.5, 1.0)
        spread = torch.where(known, torch.tensor([0.5, 0.5]), torch.tensor([4.0, 2.5])) * degree
        off = spread * self.normal(count, 2) * torch.where(known, torch.ones_like(tail), tail)
        return guess + off, guess, spread

    def detected(self, rays: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
        """What a detector makes of true rays [N, 25, 2], and how sure it is [N, 25]."""
        count = len(rays)
        side = (rays.amax(1) - rays.amin(1)).amax(1)[:, None, None]
        level = (0.5 + self.uniform(count, 1)) * torch.where(self.uniform(count, 1) < 0.1, 2.5, 1.0)
        sure = torch.ones(count, 25)
        doubtful = self.uniform(count, 25) < 0.12
        sure = torch.where(doubtful, 0.05 + 0.25 * self.uniform(count, 25), sure)
        wild = self.uniform(count, 25) < 1.5 * self.wild
        sigma = torch.where(wild, self.wild_sigma, self.sigma * level) * torch.where(
            doubtful, 1.5 * HIDDEN_WORSE, 1.0
        )
        noise = sigma[..., None] * self.normal(count, 25, 2) + TOGETHER_PCT * self.normal(count, 1, 2)
        seen = rays + side / 100 * noise
        swapped = self.uniform(count) < 0.02  # legs taken for each other, below the hips
        legs, others = (
            list(LIMB_TREES[2][1:] + LIMB_TREES[3][1:]),
            list(LIMB_TREES[3][1:] + LIMB_TREES[2][1:]),
        )
        exchanged = seen.clone()
        exchanged[:, legs] = seen[:, others]
        seen = torch.where(swapped[:, None, None], exchanged, seen)
        missing = self.uniform(count, 25) < self.dropped
        for tree in LIMB_TREES:  # a limb hidden, from some joint on
            hidden = self.uniform(count) < 0.06
            first = (self.uniform(count) * 3).long()
            for place, keypoint in enumerate(tree):
                missing[:, keypoint] |= hidden & (min(place, 2) >= first)
        missing[:, [15, 16, 17, 18]] |= self.uniform(count, 4) < 0.25
        detector, coco = kind == SOURCES.index("detector"), kind == SOURCES.index("coco")
        missing[:, [20, 23]] |= detector[:, None]
        missing[:, [1, 8]] |= (detector | coco)[:, None]
        missing[:, 19:] |= (coco | (self.uniform(count) < 0.15))[:, None]
        seen, sure = self.cut(seen, sure, missing)
        sure = torch.where(missing, 0.0, sure)
        few = (sure > 0.2).sum(1) < 4  # nobody is fitted to so little
        return torch.where(few[:, None, None], rays, seen), torch.where(
            few[:, None], torch.ones_like(sure), sure
        )

    def cut(self, rays: Tensor, sure: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        """A fifth of the people cut by an edge of the photo: below mostly, what is beyond missing or guessed at it."""
        count = len(rays)
        low, high = rays.amin(1), rays.amax(1)
        way, is_cut, guessed = self.uniform(count), self.uniform(count) < 0.2, self.uniform(count) < 0.4
        share = 0.25 + 0.65 * self.uniform(count)
        for axis, least, most, sign in (
            (1, 0.0, 0.7, 1),
            (1, 0.7, 0.8, -1),
            (0, 0.8, 0.9, 1),
            (0, 0.9, 1.01, -1),
        ):
            chosen = is_cut & (way >= least) & (way < most)
            edge = (
                low[:, axis] + share * (high - low)[:, axis]
                if sign > 0
                else high[:, axis] - share * (high - low)[:, axis]
            )
            beyond = chosen[:, None] & (sign * (rays[..., axis] - edge[:, None]) > 0)
            at_edge = rays.clone()
            at_edge[..., axis] = edge[:, None] - sign * 0.02 * (high - low)[:, axis, None] * self.uniform(
                count, 25
            )
            rays = torch.where((beyond & guessed[:, None])[..., None], at_edge, rays)
            sure = torch.where(beyond & guessed[:, None], 0.15 * self.uniform(count, 25), sure)
            missing |= beyond & ~guessed[:, None]
        return rays, sure

    def landmarks(self, points: Tensor, kind: Tensor, front: Tensor) -> Tensor:
        """Depths as BlazePose gives them [N, 33]: too shallow, leaned, knees bent, limbs the wrong way; nan where not
        asked. front [N]: how far the pelvis faces away from the camera, -1..1."""
        count = len(points)
        z = points[:, list(LANDMARK_KEYPOINTS), 2].clone()
        flip = self.uniform(count, 17) < 0.07
        for child, parent in ((3, 1), (4, 2), (5, 3), (6, 4), (9, 7), (10, 8), (11, 9), (12, 10)):
            step = points[:, LANDMARK_KEYPOINTS[child], 2] - points[:, LANDMARK_KEYPOINTS[parent], 2]
            step = torch.where(flip[:, child], -step, step) + 0.035 * self.normal(count)
            z[:, child] = z[:, parent] + step
        for child, parent in ((13, 11), (14, 12), (15, 11), (16, 12)):
            z[:, child] = (
                z[:, parent]
                + points[:, LANDMARK_KEYPOINTS[child], 2]
                - points[:, LANDMARK_KEYPOINTS[parent], 2]
            )
        z = z * (0.85 + 0.15 * self.normal(count, 1)) + 0.04 * self.normal(count, 17)
        height = points[:, list(LANDMARK_KEYPOINTS), 1]
        z = z + height * (LEAN_DEG[0] + LEAN_DEG[1] * self.normal(count, 1)) * math.pi / 180
        z[:, 0] += 0.15 * front
        z[:, 9:11] += (0.07 + 0.03 * self.normal(count, 1)) * front[:, None]
        z = z - z[:, 7:9].mean(1, keepdim=True)
        asked = (kind == SOURCES.index("detector")) & (self.uniform(count) < 0.75)
        every = torch.zeros(count, 33)
        every[:, list(LANDMARKS)] = z
        return torch.where(asked[:, None], every, torch.nan)


LEAN_DEG = (9.0, 5.0)


def about_y(angle: Tensor) -> Tensor:
    """Rotations [N, 3, 3] by `angle` [N] rad about y."""
    return rotation_from_axis_angle(torch.stack([0 * angle, angle, 0 * angle], 1))


def world_in_camera(tilt: Tensor) -> Tensor:
    """Rotations [N, 3, 3] from a world with Y up to cameras of pitch and roll [N, 2] rad."""
    down = down_in_camera(tilt)
    z = torch.nn.functional.normalize(down.new_tensor([0.0, 0.0, 1.0]) - down[:, 2:] * down, dim=-1)
    return torch.stack([torch.linalg.cross(-down, -z, dim=-1), -down, -z], -1)


def in_frame(sample: Sample, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The truth in the lifter's frame: points [N, 25, 3], depth differences [N, P], rotations [N, 24, 3, 3]."""
    points = sample.points_m @ frame.transpose(1, 2)
    first, second = (list(column) for column in zip(*PAIRS, strict=True))
    turned = torch.cat([(frame @ sample.orientation)[:, None], sample.rotations], 1)
    return points, points[:, second, 2] - points[:, first, 2], turned


def loss_of(lifter: Lifter, maker: Maker, sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
    """Means of: -log probability of the depths, rotations' distance, points' distance [m]."""
    inputs, frame = features(sample.seen)
    if lifter.training:
        raw = lifter.trunk(inputs)
    else:
        raw = lifter.raw(inputs)
    eye = torch.eye(3).expand(len(raw), 3, 3)
    found = answer(raw, eye)
    points, depths, turned = in_frame(sample, frame)
    depth = (depth_energy(found, depths)[0] + least_energy(found)).mean()
    own = torch.cat([found.orientation[:, None], found.rotations], 1)
    rotation = (own - turned).square().sum((2, 3)).add(1e-4).sqrt().mean()
    kind = torch.where(sample.seen.precise, SOURCES.index("openpose"), SOURCES.index("detector"))
    posed = maker.model(sample.betas, found.rotations, kind)
    predicted = posed.points @ found.orientation.transpose(1, 2)
    point = (predicted - points).square().sum(-1).add(1e-6).sqrt().mean()
    return depth, rotation, point


def train(poses: Poses, trunk: torch.nn.Module, steps: int = STEPS, seed: int = 0, log=print) -> Lifter:
    """The learning rate falls as a cosine; weights are averaged over the last steps."""
    lifter, maker = Lifter(trunk).train(), Maker(poses, seed)
    optimiser = torch.optim.AdamW(trunk.parameters(), lr=RATE, weight_decay=1e-3)
    average = {name: value.clone() for name, value in trunk.state_dict().items()}
    started, sums = time.time(), torch.zeros(3)
    for step in range(1, steps + 1):
        falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, 20 * step / steps) * falling
        with torch.no_grad():
            sample = maker(BATCH)
        parts = loss_of(lifter, maker, sample)
        loss = parts[0] + ROTATION_WEIGHT * parts[1] + POINT_WEIGHT * parts[2]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trunk.parameters(), 1.0)
        optimiser.step()
        keep = min(0.999, step / (step + 10))
        with torch.no_grad():
            for name, value in trunk.state_dict().items():
                average[name].lerp_(value, 1 - keep)
        sums += torch.stack(parts).detach()
        if step % 500 == 0:
            depth, rotation, point = (sums / 500).tolist()
            sums.zero_()
            log(f"step {step}, {time.time() - started:.0f} s: depth {depth:.3f}, rotation {rotation:.3f}, "
                f"points {1000 * point:.0f} mm", flush=True)  # fmt: skip
    trunk.load_state_dict(average)
    return lifter.eval()


@torch.no_grad()
def evaluate(lifter: Lifter, poses: Poses, count: int = 4000, seed: int = 1) -> dict[str, float]:
    """On samples of a pool: mean -log probability of depths; mean error of depth differences' likelier way, mm;
    error of the pose's keypoints, pelvis-centred and aligned, mm; how often the likelier way of limbs is right, %."""
    from regressor.metrics import procrustes

    maker = Maker(poses, seed)
    sample = maker(count)
    depth, rotation, point = loss_of(lifter, maker, sample)
    _, frame = features(sample.seen)
    found = lifter(sample.seen)
    points, truth, _ = in_frame(sample, frame)
    likelier = torch.where(found.log_odds > 0, found.far, found.near)
    width = torch.where(found.log_odds > 0, found.far_width, found.near_width)
    off = (likelier - truth).abs()
    clear = truth.abs()[:, :8] > 0.08
    right = ((likelier.sign() == truth.sign())[:, :8] & clear).sum() / clear.sum()
    kind = torch.where(sample.seen.precise, SOURCES.index("openpose"), SOURCES.index("detector"))
    own = maker.model(
        torch.zeros_like(sample.betas), found.rotations, kind
    ).points @ found.orientation.transpose(1, 2)
    body = [2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14]
    aligned = procrustes(own[:, body].double().numpy(), sample.points_m[:, body].double().numpy())
    pa = np.linalg.norm(aligned - sample.points_m[:, body].numpy(), axis=-1).mean()
    return {
        "nll": float(depth),
        "depth_mm": 1000 * float(off.mean()),
        "limb_sign_pct": 100 * float(right),
        "mpjpe_mm": 1000 * float((own - sample.points_m)[:, body].norm(dim=-1).mean()),
        "pa_mpjpe_mm": 1000 * float(pa),
        "spread_rank_correlation": float(spearmanr(off.flatten(), width.flatten()).statistic),
    }


def save(lifter: Lifter, path: Path, **about) -> None:
    """The trunk's weights in float16."""
    weights = {name: value.numpy().astype(np.float16) for name, value in lifter.trunk.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **weights, **{name: np.array(value) for name, value in about.items()})


def main(arguments: list[str] | None = None) -> None:
    """Command line, see the module's docstring."""
    from synth.pose_priors.build import LICENCE
    from synth.pose_priors.mocap import read_clips

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder with cmu_bvh30/ and deepmimic/")
    parser.add_argument("--out", type=Path, default=DEFAULT_PATH)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/lifter.json"))
    parser.add_argument("--keep", action="store_true", help="measure the lifter in --out as it is")
    options = parser.parse_args(arguments)

    one_thread()
    clips = read_clips(options.mocap)
    if not options.keep:
        torch.manual_seed(0)
        save(
            train(pool(clips, held_out=False), Trunk(WIDTH, BLOCKS), options.steps),
            options.out,
            licence=LICENCE,
        )
    lifter = load_lifter(options.out)
    table = {
        "command": f"python -m synth.pose_priors.lifter --mocap DIR --steps {options.steps}",
        "parameters": sum(weight.numel() for weight in lifter.parameters()),
        "learning_clips": evaluate(lifter, pool(clips, held_out=False)),
        "held_out_clips": evaluate(lifter, pool(clips, held_out=True)),
        "held_out_performers": evaluate(lifter, pool(clips, True, HELD_OUT_PERFORMERS)),
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(table, indent=1) + "\n")
    for name in ("held_out_clips", "held_out_performers"):
        print(*(f"FIGURE lifter_{name}_{key} {value:.3g}" for key, value in table[name].items()), sep="\n")


if __name__ == "__main__":
    main()
