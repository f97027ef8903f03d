"""Fits as characters: a .glb with each body's skin on SMPL's 24 joints, for Blender, Unity and the like.

glTF 2.0: metres, Y up, the camera at the origin looking along -Z, as `save_mesh` writes unrigged ones. Each person is a
node with the joints below it, turned as fitted; with all rotations zero the body stands in SMPL's rest pose. The shape
is in the mesh. Where the body has pose blend shapes, theirs of the fitted pose are a morph target, "pose", at 1; of
somebody who moves, all 207 are targets, for only so they are right in every frame.
"""

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from fitter.body.model import BodyModel
from fitter.write.motion import UPRIGHT, Motion, rest_of, save_bvh
from fitter.write.overlay import vertex_normals
from fitter.write.result import SKIN_RGBA, Fit
from priors.skeleton import JOINT_NAMES, JOINT_PARENTS

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
        if bounds:
            about |= {
                "min": np.atleast_1d(values.min(0)).tolist(),
                "max": np.atleast_1d(values.max(0)).tolist(),
            }
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


def save_rigged(path: Path, people: Sequence[Fit | Motion], body: BodyModel) -> None:
    """Writes people as one rigged .glb; body: the one that they are fits of.

    Those who move do so in one animation, "motion", whose time 0 is the first frame of anybody. ValueError: nobody.
    """
    motions = [one if isinstance(one, Motion) else Motion.of(one) for one in people]
    if not motions:
        raise ValueError(f"{path}: expected people, got none")
    file, faces = _File(), body.faces.cpu().numpy()
    triangles = file.array(faces.astype(np.uint32).reshape(-1), TRIANGLES)
    skin_sets = _skin_sets(file, body.weights.cpu().numpy())
    look = {
        "baseColorFactor": [value / 255 for value in SKIN_RGBA],
        "metallicFactor": 0,
        "roughnessFactor": 0.8,
    }
    material = file.add("materials", {"name": "skin", "pbrMetallicRoughness": look})
    start_s = min(motion.frames[0] / motion.fps for motion in motions)
    animation: dict = {"name": "motion", "channels": [], "samplers": []}
    for motion in motions:
        rest, joints = (part.astype(np.float32) for part in rest_of(motion.betas, body))
        attributes = {
            "POSITION": file.array(rest, VERTICES, bounds=True),
            "NORMAL": file.array(vertex_normals(rest, faces).astype(np.float32), VERTICES),
        }
        primitive = {"attributes": attributes | skin_sets, "indices": triangles, "material": material}
        mesh: dict = {"name": motion.name, "primitives": [primitive]}
        weights = None
        if body.has_pose_dirs:
            targets, weights = _pose_targets(motion, body)
            primitive["targets"] = [{"POSITION": file.array(one, VERTICES, bounds=True)} for one in targets]
            names = ["pose"] if len(targets) == 1 else [f"pose{number}" for number in range(len(targets))]
            mesh |= {"weights": weights[0].tolist(), "extras": {"targetNames": names}}
        turned, place = motion.turned.astype(np.float32), UPRIGHT.apply(motion.transl_cam).astype(np.float32)
        nodes = _joint_nodes(file, turned[0], joints)
        person = {
            "name": motion.name,
            "rotation": UPRIGHT.as_quat().tolist(),
            "translation": place[0].tolist(),
            "children": [nodes[0]],
        }
        inverse = np.tile(np.eye(4, dtype=np.float32), (24, 1, 1))
        inverse[:, 3, :3] = -joints  # column-major
        skin = {
            "name": motion.name,
            "joints": nodes,
            "skeleton": nodes[0],
            "inverseBindMatrices": file.array(inverse),
        }
        skinned = {
            "name": f"{motion.name}_mesh",
            "mesh": file.add("meshes", mesh),
            "skin": file.add("skins", skin),
        }
        roots = [file.add("nodes", person), file.add("nodes", skinned)]
        file.document["scenes"][0]["nodes"] += roots
        if len(motion.frames) > 1:
            moved = [(roots[0], "translation", place)]
            moved += [(node, "rotation", turned[:, joint]) for joint, node in enumerate(nodes)]
            moved += [(roots[1], "weights", weights.reshape(-1))] if weights is not None else []
            _animate(file, animation, motion.frames / motion.fps - start_s, moved)
    if animation["channels"]:
        file.add("animations", animation)
    file.write(path)


def motion_files(
    name: str, people: Sequence[str], motion_of: Callable[[str], Motion], kind: str, body: BodyModel
) -> dict[str, Callable[[Path], None]]:
    """A clip's people as they move, as `write_files` takes them.

    kind: rigged = one .glb each; scene = one of all, `<name>_people.glb`; bvh = one .bvh each; motion_of: a person's
    motion by their id, asked for when the file is written
    """
    if kind == "bvh":
        return {
            f"{name}_{who}.bvh": lambda path, who=who: save_bvh(path, motion_of(who), body) for who in people
        }
    whose = {"people": people} if kind == "scene" else {who: [who] for who in people}
    return {
        f"{name}_{end}.glb": lambda path, ids=ids: save_rigged(path, [motion_of(who) for who in ids], body)
        for end, ids in whose.items()
    }


def _animate(
    file: _File, animation: dict, times_s: np.ndarray, moved: list[tuple[int, str, np.ndarray]]
) -> None:
    """Adds to an animation what moves at times_s [T]: nodes, what of them, and its values."""
    times = file.array(times_s.astype(np.float32), bounds=True)
    for node, what, values in moved:
        sampler = {"input": times, "output": file.array(values), "interpolation": "LINEAR"}
        animation["channels"].append(
            {"sampler": len(animation["samplers"]), "target": {"node": node, "path": what}}
        )
        animation["samplers"].append(sampler)


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


def _joint_nodes(file: _File, turned: np.ndarray, joints: np.ndarray) -> list[int]:
    """The 24 joints as nodes, parents first, turned by quaternions [24, 4]; joints [24, 3] m at rest."""
    numbers: list[int] = []
    for joint, parent in enumerate(JOINT_PARENTS):
        bone = joints[joint] - (joints[parent] if parent >= 0 else 0)
        node = {"name": JOINT_NAMES[joint], "translation": bone.tolist(), "rotation": turned[joint].tolist()}
        numbers.append(file.add("nodes", node))
        if parent >= 0:
            file.document["nodes"][numbers[parent]].setdefault("children", []).append(numbers[joint])
    return numbers


def _pose_targets(motion: Motion, body: BodyModel) -> tuple[np.ndarray, np.ndarray]:
    """Morph targets [K, V, 3] float32 m and their weights [T, K]: of one frame what the pose blend shapes add, of
    several the 207 blend shapes themselves."""
    turns = Rotation.from_rotvec(motion.pose.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)[:, 1:]
    features = (turns - np.eye(3)).reshape(-1, 207)
    dirs = body.pose_dirs.cpu().numpy().reshape(207, -1, 3)
    if len(features) > 1:
        return dirs.astype(np.float32), features.astype(np.float32)
    return np.tensordot(features, dirs, 1).astype(np.float32), np.ones((1, 1), np.float32)
