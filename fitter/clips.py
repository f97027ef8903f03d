"""One person through a clip: bodies of single frames first, then one shape, then a smooth motion, window by window.

Whoever is tracked has one shape and one camera, found together on frames spread over the clip; with these held, windows
of frames are fitted together (`fitter.energy.tied`), each going on from the last and looking ahead, so that memory does
not grow with the clip. Every frame is seen by its keypoints, key frames by the DSR terms as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fitter.config import BODY, FitConfig, Stage
from fitter.energy.objective import Objective
from fitter.energy.observation import Variables
from fitter.energy.semantics import make_targets
from fitter.energy.stages import search
from fitter.energy.tied import Course, Found, Tied, fit_tied, second_differences
from fitter.people import Sighting, bodies_of_rows, make_fits, observe
from fitter.see.person_box import BOX_CONFIDENCE
from fitter.write.result import Fit
from priors.rotation import axis_angle_from_matrix, rotation_from_axis_angle

BATCH = 16  # frames that are searched together
WINDOW, AHEAD, BEHIND = 64, 12, 2  # frames: of a window; beyond it, solved and not kept; before it, held
SHAPE_FRAMES, FEWEST_FRAMES = 16, 6  # that say the shape; where many people would need much memory for labels
FLIP = 5.0  # energy of a metre squared per second, by which joints would move from frame to frame
CLEAR = 6  # sure keypoints, from which a frame says something of a body
PRIOR = 0.4  # of what pose and shape priors weigh in a photo without labels; chosen as smoothness was
CROP_PX = 128  # of the finest stage with DSR terms in a clip


def first_bodies(seen: Sequence[Sighting], objective: Objective, config: FitConfig, seconds: float) -> Course:
    """Each frame's body by its keypoints alone: of the two best of every frame, those that together move least.

    seconds: between frames."""
    best, energies, joints = [], [], []
    for start in range(0, len(seen), BATCH):
        observation = observe(
            seen[start : start + BATCH], objective.body, config.optimisation, objective.lifter
        )
        found = search(objective, observation, config.optimisation)
        energy = torch.stack(list(found.energies.values()), 1).sum(1)
        ways = found.variables, found.runner_up
        courses = [_course_of(one, observation) for one in ways]
        places = [objective.joints_cam(one, observation) + one.place_m(observation)[:, None] for one in ways]
        best.append(courses)
        energies.append(torch.stack([energy, energy + found.behind.clamp(min=0)], 1))
        joints.append(torch.stack(places, 1))
    energy, places = torch.cat(energies), torch.cat(joints)
    way = _smoothest(energy.double().numpy(force=True), places.double().numpy(force=True), seconds)
    first, second = (
        [torch.cat([vars(batch[k])[name] for batch in best]) for name in vars(best[0][k])] for k in (0, 1)
    )
    rows = torch.arange(len(seen)), torch.as_tensor(way)
    picked = Course(*(torch.stack(both, 1)[rows] for both in zip(first, second, strict=True)))
    return _filled(picked, np.array([clear(one) for one in seen]))


def clear(one: Sighting) -> bool:
    """Whether a frame shows enough of the person to say something of their body for itself."""
    return bool((one.keypoints_px[:, 2] > BOX_CONFIDENCE).sum() >= CLEAR)


def _filled(course: Course, known: np.ndarray) -> Course:
    """Bodies of frames that are not known [T] bool, between those that are; all stay if none is."""
    if known.all() or not known.any():
        return course
    at, frames = np.flatnonzero(known), np.arange(len(known))
    after = at[np.searchsorted(at, frames).clip(max=len(at) - 1)]
    before = at[(np.searchsorted(at, frames, "right") - 1).clip(min=0)]
    share = (frames - before) / np.maximum(after - before, 1)
    share = torch.as_tensor(share.clip(0, 1)).to(course.latent)[:, None]
    one, other = (Course(*(part[rows] for part in vars(course).values())) for rows in (before, after))
    turn = axis_angle_from_matrix(one.orientation.transpose(1, 2) @ other.orientation)
    moved = ("place_m", "latent", "betas", "tilt")
    between = [torch.lerp(getattr(one, name), getattr(other, name), share) for name in moved]
    return Course(one.orientation @ rotation_from_axis_angle(share * turn), *between)


def _course_of(one: Variables, observation) -> Course:
    return Course(one.orientation(), one.place_m(observation), one.latent, one.betas, one.tilt)


def _smoothest(energy: np.ndarray, joints: np.ndarray, seconds: float) -> np.ndarray:
    """Which of W ways each of T frames takes, [T] int, so that energies [T, W] and FLIP's cost of moving joints
    [T, W, 24, 3] m are least (Viterbi)."""
    energy = np.where(np.isfinite(energy), energy, 1e12)
    total, before = energy[0], []
    for frame in range(1, len(energy)):
        moved = ((joints[frame][:, None] - joints[frame - 1][None]) ** 2).sum((2, 3))  # [W, W]
        moved = np.nan_to_num(moved, nan=1e6)  # of a body that failed: taken last
        costs = total[None] + FLIP * moved / seconds
        before.append(costs.argmin(1))
        total = energy[frame] + costs.min(1)
    way = [int(total.argmin())]
    for step in reversed(before):
        way.append(int(step[way[-1]]))
    return np.array(way[::-1])


def fit_shape(
    seen: Sequence[Sighting], first: Course, objective: Objective, config: FitConfig, dressed: bool
) -> Course:
    """One shape and one camera for frames far apart, begun at their own bodies; dressed: by their labels as well."""
    tied = _tied(seen, objective, config, dressed)
    start = replace(first, betas=first.betas.median(0, keepdim=True).values, tilt=_one(first.tilt))
    stages = [stage for stage in _stages(config) if bool(stage.crop_px) == dressed]
    return fit_tied(tied, start, tuple(stages)).motion


def fit_window(
    seen: Sequence[Sighting],
    start: Course,
    held: int,
    objective: Objective,
    config: FitConfig,
    seconds: float,
    dressed: bool,
) -> tuple[Found, Tied]:
    """Frames in a row with shape and camera held, and the first `held` frames as well."""
    free = tuple(name for name in BODY if name != "shape")
    stages = tuple(replace(stage, free=free) for stage in _stages(config) if bool(stage.crop_px) == dressed)
    bends = second_differences(len(seen), seconds, config.optimisation.smoothness)
    tied = replace(_tied(seen, objective, config, dressed), bends=bends, held=torch.arange(len(seen)) < held)
    return fit_tied(tied, replace(start, betas=start.betas[:1]), stages), tied


def as_found(
    seen: Sequence[Sighting], course: Course, objective: Objective, config: FitConfig
) -> tuple[Found, Tied]:
    """Bodies as they are, as `fit_window` gives them."""
    tied, last = (
        _tied(seen, objective, config, False),
        [one for one in _stages(config) if not one.crop_px][-1],
    )
    return fit_tied(tied, replace(course, betas=course.betas[:1]), (replace(last, steps=0),)), tied


def fits_of(
    found: Found, tied: Tied, seen: Sequence[Sighting], config: FitConfig, at: int | None = None
) -> list[Fit]:
    """The motion as results, one a frame; at: of that frame alone."""
    chosen = list(range(len(seen))) if at is None else [at]
    rows, observation = tied.rows_of(found.motion).rows(chosen), tied.seen.rows(chosen)
    energies = {name: value[chosen] for name, value in found.energies.items() if name != "smooth"}
    bodies = bodies_of_rows(tied.objective, observation, rows, energies, [found.failure] * len(chosen))
    return make_fits(bodies, [seen[row] for row in chosen], observation, tied.objective, config.limits)


def windows(frames: int) -> Iterator[tuple[int, int, int, int]]:
    """(first frame that is solved, first that is kept, first beyond those, first beyond those solved) of each."""
    for start in range(0, frames, WINDOW):
        end = min(start + WINDOW, frames)
        yield max(0, start - BEHIND), start, end, min(end + AHEAD, frames)


def _stages(config: FitConfig) -> list[Stage]:
    """The stages that refine one body, coarse renderings alone. Those without labels believe the priors as little as
    the others do: what a frame leaves open its neighbours say as well."""
    chosen = [
        stage
        for stage in config.optimisation.stages
        if stage.keep == 1 and "pose" in stage.free and stage.crop_px <= CROP_PX
    ]
    return [
        stage
        if stage.crop_px
        else replace(stage, pose_scale=PRIOR * stage.pose_scale, shape_scale=PRIOR * stage.shape_scale)
        for stage in chosen
    ]


def _one(tilt: Tensor) -> Tensor:
    return tilt.median(0, keepdim=True).values.expand(len(tilt), -1)


def _tied(seen: Sequence[Sighting], objective: Objective, config: FitConfig, dressed: bool) -> Tied:
    observation = observe(seen, objective.body, config.optimisation, objective.lifter)
    like, count = objective.body.template, len(seen)
    tied = Tied(
        objective,
        observation,
        instant=torch.arange(count, device=like.device),
        turned=torch.eye(3).to(like).expand(count, 3, 3),
        moved_m=torch.zeros(count, 3).to(like),
        bends=torch.zeros(0, count, dtype=torch.float64),
        held=torch.zeros(count, dtype=torch.bool),
    )
    rows = [row for row, one in enumerate(seen) if one.labels is not None]
    if not dressed or not rows:
        return tied
    people, labels = [seen[row].person for row in rows], [seen[row].labels for row in rows]
    sizes = sorted({stage.crop_px for stage in _stages(config) if stage.crop_px})
    at = {size: make_targets(people, labels, config.semantics, size).to(like.device) for size in sizes}
    worn = replace(observation.rows(rows), targets_at=at)
    return replace(tied, dressed=torch.tensor(rows, device=like.device), worn=worn)
