"""Fits as characters: a .glb with each body's skin on SMPL's 24 joints, for Blender, Unity and the like.

glTF 2.0: metres, Y up, the camera at the origin looking along -Z, as `save_mesh` writes unrigged ones. Each person is a
node with the joints below it, turned as fitted; with all rotations zero the body stands in SMPL's rest pose. The shape
is in the mesh. Where the body has pose blend shapes, theirs of the fitted pose are a morph target, "pose", at 1.
"""

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from fitter.body.model import BodyModel
from fitter.write.overlay import vertex_normals
from fitter.write.result import SKIN_RGBA, Fit
from priors.skeleton import JOINT_NAMES, JOINT_PARENTS

UPRIGHT = (1.0, 0.0, 0.0, 0.0)  # half a turn about X, a quaternion x y z w: from the camera's axes to Y up
FLOAT, UINT8, UINT32 = 5126, 5121, 5125  # glTF's component types
KINDS = {np.dtype(np.float32): FLOAT, np.dtype(np.uint8): UINT8, np.dtype(np.uint32): UINT32}
SHAPES = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
VERTICES, TRIANGLES = 34962, 34963  # what a buffer is for


class _File:
    """A glTF document that grows, and its binary part."""

    def __init__(self):
        self.data = bytearray()
        self.document: dict = {"asset": {"version": "2.0", "generator": "dsr-fitter"}, "scene": 0}
        self.document["scenes"] = [{"nodes": []}]

    def add(self, kind: str, item: dict) -> int:
        """Its number among the document's items of a kind."""
        items = self.document.setdefault(kind, [])
        items.append(item)
        return len(items) - 1

    def array(self, values: np.ndarray, target: int | None = None, bounds: bool = False) -> int:
        """An accessor of values [N, ...]."""
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": values.nbytes}
        view |= {"target": target} if target else {}
        self.data += np.ascontiguousarray(values).tobytes()
        self.data += bytes(-len(self.data) % 4)
        about = {"componentType": KINDS[values.dtype], "type": SHAPES[values.shape[1:]], "count": len(values)}
        about |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()} if bounds else {}
        return self.add("accessors", about | {"bufferView": self.add("bufferViews", view)})

    def write(self, path: Path) -> None:
        """A .glb: header, document, binary part."""
        text = json.dumps(self.document | {"buffers": [{"byteLength": len(self.data)}]}).encode()
        text += b" " * (-len(text) % 4)
        chunks = [
            struct.pack("<I4s", len(part), kind) + part
            for part, kind in ((text, b"JSON"), (bytes(self.data), b"BIN\0"))
        ]
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + sum(map(len, chunks))) + b"".join(chunks))


def save_rigged(path: Path, fits: Sequence[Fit], body: BodyModel) -> None:
    """Writes people as one rigged .glb; body: the one that they are fits of."""
    file = _File()
    arrays = {name: getattr(body, name).cpu().numpy() for name in ("template", "shape_dirs", "weights")}
    arrays |= {name: getattr(body, name).cpu().numpy() for name in ("joint_template", "joint_shape_dirs")}
    triangles = file.array(body.faces.cpu().numpy().astype(np.uint32).reshape(-1), TRIANGLES)
    skin_sets = _skin_sets(file, arrays["weights"])
    material = file.add(
        "materials",
        {
            "name": "skin",
            "pbrMetallicRoughness": {
                "baseColorFactor": [value / 255 for value in SKIN_RGBA],
                "metallicFactor": 0,
                "roughnessFactor": 0.8,
            },
        },
    )
    for fit in fits:
        who = "_".join(part for part in (Path(fit.name).name, fit.person) if part)
        rest = (arrays["template"] + arrays["shape_dirs"] @ fit.betas).astype(np.float32)
        joints = (arrays["joint_template"] + arrays["joint_shape_dirs"] @ fit.betas).astype(np.float32)
        attributes = {
            "POSITION": file.array(rest, VERTICES, bounds=True),
            "NORMAL": file.array(vertex_normals(rest, body.faces.cpu().numpy()).astype(np.float32), VERTICES),
        }
        primitive = {"attributes": attributes | skin_sets, "indices": triangles, "material": material}
        mesh: dict = {"name": who, "primitives": [primitive]}
        if body.has_pose_dirs:
            offsets = file.array(_pose_offsets(fit, body), VERTICES, bounds=True)
            primitive["targets"] = [{"POSITION": offsets}]
            mesh |= {"weights": [1.0], "extras": {"targetNames": ["pose"]}}
        nodes = _joint_nodes(file, fit, joints)
        place = (fit.transl_cam * [1, -1, -1]).tolist()
        person = {"name": who, "rotation": UPRIGHT, "translation": place, "children": [nodes[0]]}
        inverse = np.tile(np.eye(4, dtype=np.float32), (24, 1, 1))
        inverse[:, 3, :3] = -joints  # column-major
        skin = {
            "name": who,
            "joints": nodes,
            "skeleton": nodes[0],
            "inverseBindMatrices": file.array(inverse),
        }
        skinned = {"name": f"{who}_mesh", "mesh": file.add("meshes", mesh), "skin": file.add("skins", skin)}
        file.document["scenes"][0]["nodes"] += [file.add("nodes", person), file.add("nodes", skinned)]
    file.write(path)


def _skin_sets(file: _File, weights: np.ndarray) -> dict[str, int]:
    """JOINTS_n and WEIGHTS_n of skinning weights [V, 24], four joints a set, the largest first."""
    count = -(-int((weights > 0).sum(1).max()) // 4) * 4
    joints = np.argsort(-weights, axis=1, kind="stable")[:, :count]
    shares = np.take_along_axis(weights, joints, 1)
    shares = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    joints = np.where(shares > 0, joints, 0).astype(np.uint8)
    sets = {}
    for number in range(count // 4):
        four = np.s_[:, 4 * number : 4 * number + 4]
        sets[f"JOINTS_{number}"] = file.array(joints[four], VERTICES)
        sets[f"WEIGHTS_{number}"] = file.array(shares[four], VERTICES)
    return sets


def _joint_nodes(file: _File, fit: Fit, joints: np.ndarray) -> list[int]:
    """The 24 joints as nodes, parents first, turned as fitted; joints [24, 3] m at rest."""
    turned = Rotation.from_rotvec(fit.pose.reshape(24, 3)).as_quat()
    numbers: list[int] = []
    for joint, parent in enumerate(JOINT_PARENTS):
        bone = joints[joint] - (joints[parent] if parent >= 0 else 0)
        node = {"name": JOINT_NAMES[joint], "translation": bone.tolist(), "rotation": turned[joint].tolist()}
        numbers.append(file.add("nodes", node))
        if parent >= 0:
            file.document["nodes"][numbers[parent]].setdefault("children", []).append(numbers[joint])
    return numbers


def _pose_offsets(fit: Fit, body: BodyModel) -> np.ndarray:
    """What the pose blend shapes add at rest, [V, 3] float32 m."""
    turned = Rotation.from_rotvec(fit.pose.reshape(24, 3)[1:]).as_matrix() - np.eye(3)
    with torch.no_grad():
        return (turned.reshape(207) @ body.pose_dirs.cpu().numpy()).reshape(-1, 3).astype(np.float32)
