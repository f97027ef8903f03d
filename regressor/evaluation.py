"""How far the regressor's bodies are from the true ones, as 3DPW, Human3.6M and MPI-INF-3DHP report it.

MPJPE: joints centred on the pelvis; PA-MPJPE: after the best similarity transform; PVE: vertices centred likewise. In
mm, over joints regressed from the surface as the datasets' protocols do: LSP's 14 with Human3.6M's head (3DPW,
Human3.6M), or 17, with pelvis, spine and jaw (MPI-INF-3DHP). SPIN's choices, by which published tables compare.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fitter.body.model import BodyModel, load_body
from fitter.body.spin_joints import HIPS, PELVIS
from fitter.write.index import plain
from regressor.config import TrainConfig
from regressor.data import Change, People, load_people, load_sample
from regressor.hmr import HMR, SHOWN, crop_translation, hints_of, to_input
from regressor.losses import Criterion, SpinJoints
from regressor.metrics import pa_mpjpe_mm, procrustes

LSP_14 = (*range(13), 18)  # the last is Human3.6M's head; LSP's own head top has no 3D in these datasets
COUNTED = {14: LSP_14, 17: (*LSP_14, PELVIS, 16, 17)}  # by `Source.joints`
JOINT_KINDS = {  # Table 4's rows, as indices into LSP_14
    "ankle": (0, 5), "knee": (1, 4), "hip": (2, 3), "wrist": (6, 11), "elbow": (7, 10), "shoulder": (8, 9),
    "neck": (12,), "head": (13,),
}  # fmt: skip
BATCH = 16


@dataclass(frozen=True)
class Errors:
    """Of N people, mm: mpjpe, pa_mpjpe [N]; pve [N], nan where no true surface is known; joints [N, J], centred on the
    pelvis and not aligned further; pa_joints [N, J], aligned. J = 14 or 17, the first 14 being LSP_14."""

    mpjpe: np.ndarray
    pa_mpjpe: np.ndarray
    pve: np.ndarray
    joints: np.ndarray
    pa_joints: np.ndarray

    def figures(self) -> dict[str, float]:
        """Means; no `pve_mm` where no surface is known."""
        found = {"mpjpe_mm": float(self.mpjpe.mean()), "pa_mpjpe_mm": float(self.pa_mpjpe.mean())}
        if np.isfinite(self.pve).any():
            found["pve_mm"] = float(np.nanmean(self.pve))
        return found

    def by_joint(self) -> dict[str, float]:
        """Mean error of each kind of joint, mm (Table 4)."""
        return {name: float(self.joints[:, list(index)].mean()) for name, index in JOINT_KINDS.items()}


@torch.no_grad()
def evaluate(
    net: HMR,
    people: People,
    criterion: Criterion,
    device: str = "cpu",
    models: dict[str, BodyModel] | None = None,
    counted: int = 14,
) -> Errors:
    """Errors on people whose 3D joints or body are known. ValueError: someone of whom neither is.

    counted: 14 or 17 joints, see COUNTED.
    models: `bodies_by_gender`, that make the true surface of people whose gender is given (3DPW).
    """
    net.eval()
    predicted_joints, predicted_surface = [], []
    for start in range(0, len(people), BATCH):
        rows = range(start, min(start + BATCH, len(people)))
        samples = [load_sample(people, row, Change(), tilted=False) for row in rows]
        shown = {k: torch.from_numpy(np.stack([s[k] for s in samples])).to(device) for k in SHOWN}
        prediction = net(to_input(shown["image"]), hints_of(shown))
        bodies = criterion.bodies(prediction)
        surface = bodies.vertices_cam - crop_translation(prediction.cam)[:, None]
        predicted_joints.append(criterion.joints.evaluated(bodies.joints_m, surface).cpu().numpy())
        predicted_surface.append(surface.cpu().numpy())
    joints, surface = np.concatenate(predicted_joints), np.concatenate(predicted_surface)
    true_joints, true_surface = truth(people, criterion, models or {}, COUNTED[counted])
    return errors(joints, surface, true_joints, true_surface, COUNTED[counted])


def truth(people: People, criterion: Criterion, models: dict[str, BodyModel], counted=LSP_14):
    """True joints [N, 24, 3] and surfaces, a list of [V, 3] m or None, in camera axes and pelvis on pelvis."""
    known = (people.joints_m[:, list(counted), 3] > 0).all(1)
    lost = np.flatnonzero(~known & ~people.has_smpl)
    if len(lost):
        raise ValueError(
            f"evaluation: expected 3D joints (S) or SMPL parameters of everybody, {people.images[lost[0]]} has neither"
        )
    joints, surfaces = people.joints_m[..., :3].copy(), [None] * len(people)
    middle = joints[:, HIPS].mean(1)
    joints[:, PELVIS] = np.where(people.joints_m[:, PELVIS, 3:] > 0, joints[:, PELVIS], middle)
    regress = {gender: SpinJoints(body, criterion.joints.regressor) for gender, body in models.items()}
    for row in np.flatnonzero(people.has_smpl):
        regressor = regress.get(people.genders[row], criterion.joints)
        like = regressor.body.template
        betas, pose = (torch.tensor(a[row][None]).to(like) for a in (people.betas, people.pose))
        posed = regressor.body(betas, pose)
        own = regressor.evaluated(regressor(posed), posed.vertices)[0].cpu().numpy()
        surface = posed.vertices[0].cpu().numpy()
        if not known[row]:
            joints[row] = own
        surfaces[row] = surface - own[PELVIS] + joints[row, PELVIS]  # `S` is centred elsewhere than the body
    return joints, surfaces


def errors(
    joints: np.ndarray, surface: np.ndarray, true_joints: np.ndarray, true_surface: list, counted=LSP_14
) -> Errors:
    """joints, true_joints [N, 24, 3] m; surface [N, V, 3] m; true_surface: N of [V, 3] m or None; counted: which."""
    root, true_root = joints[:, [PELVIS]], true_joints[:, [PELVIS]]
    centred, true = joints[:, list(counted)] - root, true_joints[:, list(counted)] - true_root
    distance = 1000 * np.linalg.norm(centred - true, axis=-1)
    aligned = procrustes(centred, true)
    pve = [
        np.nan if t is None else 1000 * np.linalg.norm((s - r) - (t - tr), axis=-1).mean()
        for s, t, r, tr in zip(surface, true_surface, root, true_root, strict=True)
    ]
    return Errors(
        distance.mean(1),
        pa_mpjpe_mm(centred, true),
        np.array(pve),
        distance,
        1000 * np.linalg.norm(aligned - true, axis=-1),
    )


def bodies_by_gender(config: TrainConfig, device: str) -> dict[str, BodyModel]:
    """The models "m" and "f" that a configuration names, of people whose gender is given."""
    genders = {"m": config.body_male, "f": config.body_female}
    return {key: load_body(path).to(device) for key, path in genders.items() if path}


def evaluate_run(config: TrainConfig, net: HMR, criterion: Criterion, device: str) -> dict[str, float]:
    """Evaluates every validation source and writes `out`/results.json and results.md."""
    models = bodies_by_gender(config, device)
    figures, rows, joint_rows = {}, [], []
    for source in config.validation:
        found = evaluate(
            net, load_people(source, criterion.body.name), criterion, device, models, source.joints
        )
        own = found.figures()
        figures |= {f"{source.name}/{key}": value for key, value in own.items()}
        rows.append([source.name, len(found.mpjpe), *(f"{own.get(k, np.nan):.1f}" for k in COLUMNS)])
        joint_rows.append([source.name, *(f"{value:.1f}" for value in found.by_joint().values())])
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(
        json.dumps(plain({"figures": figures, "joints": joint_rows}), indent=1) + "\n"
    )
    tables = markdown(["dataset", "people", *COLUMNS], rows), markdown(["dataset", *JOINT_KINDS], joint_rows)
    (out / "results.md").write_text("# Errors, mm\n\n" + "\n".join(tables))
    print("\n".join(tables))
    return figures


COLUMNS = ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm")


def markdown(columns: list[str], rows: list[list]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (columns, ["---"] * len(columns), *rows)]
    return "\n".join(lines) + "\n"
