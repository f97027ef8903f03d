"""Clothed people: a body of Anny's full shape space, dressed, posed by Anny's own rig, exact to the vertex.

A bone follows its own T-pose (open_body_pose) and then the SMPL joints that it belongs to, so one SMPL pose moves
bodies, clothes and hair. The naked surface keeps the open body's vertices, and that is the truth a fit is
compared with: it lies outside the open body's ten shape components.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from priors.skeleton import JOINT_PARENTS
from synth.clothes.figures import Wardrobe, vertex_normals
from synth.clothes.wear import Choice
from synth.open_body.pose import joint_weights, t_pose_affines

CLEARANCE_M = 0.003  # of each layer of cloth from the skin, and of the next from it
NEAR_SKIN_M = 0.06  # cloth further from the skin than this is not in it, but beside another limb


@dataclass(frozen=True)
class ClothedPerson:
    """One dressed and posed body; points relative to the pelvis joint, in the axes of the pose's root.

    pose: [72] rad; vertices_m: [N, 3], the skin's V first; faces: [F, 3]; labels: [F] ids; layers: [N];
    rest_m: [N, 3] before posing, where textures are fixed; naked_m: [V, 3], the open body's vertices on the exact
    surface, joints_m: [24, 3]; naked_t_m: [V, 3] and joints_t_m: [24, 3] in the T-pose; betas: [10], the open body's
    nearest, residual_mm: mean distance of its posed vertices from naked_m; clothes: names of the choices.
    """

    gender: str
    clothes: tuple[str, ...]
    pose: np.ndarray
    vertices_m: np.ndarray
    faces: np.ndarray
    labels: np.ndarray
    layers: np.ndarray
    rest_m: np.ndarray
    naked_m: np.ndarray
    joints_m: np.ndarray
    naked_t_m: np.ndarray
    joints_t_m: np.ndarray
    betas: np.ndarray
    residual_mm: float


class Tailor:
    """Makes ClothedPersons out of a wardrobe and the open body (fitter.body.model.BodyModel)."""

    def __init__(self, wardrobe: Wardrobe, body):
        self.wardrobe, self.body = wardrobe, body
        rig = wardrobe.rig
        self.shares = joint_weights(
            np.eye(len(rig.labels)), rig.labels, rig.parents
        )  # bone -> joints, [B, 24]

    @cached_property
    def _to_betas(self) -> np.ndarray:
        directions = self.body.shape_dirs.numpy().astype(float)
        return np.linalg.pinv(directions.reshape(-1, directions.shape[-1]))

    def make(self, coefficients: np.ndarray, gender: str, outfit: tuple[Choice, ...], pose: np.ndarray):
        """-> ClothedPerson. coefficients: [K] of a shape; pose: [72] rad, the root in any axes."""
        wardrobe, rig = self.wardrobe, self.wardrobe.rig
        base_dm = wardrobe.body(coefficients)
        figure = wardrobe.dress(base_dm, outfit)
        naked, _ = wardrobe.naked(base_dm)
        to_t, joints_t = t_pose_affines(rig.heads(coefficients)[None], rig.labels, rig.parents)
        to_t, joints_t = to_t[0], joints_t[0]
        joints = joint_affines(pose, joints_t)
        to_posed = _follow(self.shares, joints, to_t)
        pelvis = joints_t[0]
        posed = skinned(figure.bone_weights, to_posed, figure.vertices_m) - pelvis
        naked_posed = skinned(wardrobe.skin_weights, to_posed, naked) - pelvis
        naked_t = skinned(wardrobe.skin_weights, to_t, naked) - pelvis
        posed = out_of_skin(posed, figure.layers, naked_posed, wardrobe.template.faces)
        joints_posed = np.einsum("jab,jb->ja", joints[:, :, :3], joints_t) + joints[:, :, 3] - pelvis
        betas, residual = self.register(naked_t, naked_posed, pose)
        return ClothedPerson(
            gender=gender,
            clothes=tuple(choice.name for choice in outfit if choice.layers),
            pose=pose,
            vertices_m=posed,
            faces=figure.faces,
            labels=figure.labels,
            layers=figure.layers,
            rest_m=figure.vertices_m,
            naked_m=naked_posed,
            joints_m=joints_posed,
            naked_t_m=naked_t,
            joints_t_m=joints_t - pelvis,
            betas=betas,
            residual_mm=residual,
        )

    def register(
        self, naked_t_m: np.ndarray, naked_m: np.ndarray, pose: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """The open body's shape for a T-posed surface [V, 3], least squares; how far it is from the posed one, mm."""
        import torch

        template = self.body.template.numpy().astype(float)
        betas = self._to_betas @ (naked_t_m - template).ravel()
        with torch.no_grad():
            dtype = self.body.template.dtype
            posed = self.body(torch.tensor(betas[None], dtype=dtype), torch.tensor(pose[None], dtype=dtype))
        fitted = (posed.vertices[0] - posed.joints[0, 0]).numpy()
        offset = naked_m - fitted
        return betas, float(1000 * np.linalg.norm(offset - offset.mean(0), axis=1).mean())


def joint_affines(pose: np.ndarray, joints_t: np.ndarray) -> np.ndarray:
    """How SMPL's joints move points from the T-pose: pose [72] rad, joints_t [24, 3] m -> [24, 3, 4]."""
    turns = Rotation.from_rotvec(pose.reshape(24, 3)).as_matrix()
    result = np.empty((24, 3, 4))
    place = np.empty((24, 3))
    for joint, parent in enumerate(JOINT_PARENTS):
        if parent < 0:
            result[joint, :, :3], place[joint] = turns[joint], joints_t[joint]
        else:
            result[joint, :, :3] = result[parent, :, :3] @ turns[joint]
            place[joint] = place[parent] + result[parent, :, :3] @ (joints_t[joint] - joints_t[parent])
        result[joint, :, 3] = place[joint] - result[joint, :, :3] @ joints_t[joint]
    return result


def _follow(shares: np.ndarray, joints: np.ndarray, to_t: np.ndarray) -> np.ndarray:
    """Bones [B, 3, 4] that go to the T-pose and on with their joints. shares [B, 24], joints [24, 3, 4]."""
    onward = np.einsum("bj,jac->bac", shares, joints)
    linear = onward[:, :, :3] @ to_t[:, :, :3]
    offset = np.einsum("bac,bc->ba", onward[:, :, :3], to_t[:, :, 3]) + onward[:, :, 3]
    return np.concatenate([linear, offset[..., None]], -1)


def skinned(weights: csr_matrix, affines: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Linear blend skinning. weights: sparse [N, B], affines: [B, 3, 4], points: [N, 3] -> [N, 3]."""
    blended = (weights @ affines.reshape(len(affines), 12)).reshape(-1, 3, 4)
    return np.einsum("nac,nc->na", blended[:, :, :3], points) + blended[:, :, 3]


def out_of_skin(
    points: np.ndarray, layers: np.ndarray, skin: np.ndarray, skin_faces: np.ndarray
) -> np.ndarray:
    """Cloth that sank into the skin, pushed out along the skin's normal; each layer further than the one below.

    points: [N, 3] m; layers: [N], 0 is skin and stays; skin: [V, 3] m. -> [N, 3].
    """
    cloth = np.nonzero(layers)[0]
    if not len(cloth):
        return points
    _, near = cKDTree(skin).query(points[cloth], distance_upper_bound=NEAR_SKIN_M)
    close = near < len(skin)
    cloth, near = cloth[close], near[close]
    normals = vertex_normals(skin, skin_faces)[near]
    height = np.einsum("nc,nc->n", points[cloth] - skin[near], normals)
    lack = np.clip(CLEARANCE_M * layers[cloth] - height, 0, None)
    pushed = points.copy()
    pushed[cloth] += lack[:, None] * normals
    return pushed
