"""Rigged .glb files: read by trimesh and pygltflib, and skinned by hand as glTF says, they are the fitted bodies."""

import copy
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation
from test_clothing import fit_of_open_body

from fitter.body.model import BodyModel, load_body
from fitter.write.result import Fit, vertices_of
from fitter.write.rigged import save_rigged
from priors.skeleton import JOINT_NAMES

TYPES = {5126: np.float32, 5121: np.uint8, 5125: np.uint32}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}
UPRIGHT = np.array([1.0, -1.0, -1.0])


def fit_of(body: BodyModel, seed: int, person: str) -> Fit:
    rng = np.random.default_rng(seed)
    made = {
        "pose": rng.normal(0, 0.4, 72).astype(np.float32),
        "betas": rng.normal(0, 1, 10).astype(np.float32),
        "transl_cam": np.array([0.3, -0.2, 4.0], np.float32),
    }
    vertices = vertices_of(*(made[name][None] for name in ("betas", "pose", "transl_cam")), body)[0]
    return replace(fit_of_open_body(), person=person, name="a/b", vertices_cam=vertices, **made)


def read(path: Path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    magic, version, length, size = struct.unpack_from("<4sIII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data)) and size % 4 == 0
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def array(document: dict, data: bytes, number: int) -> np.ndarray:
    about = document["accessors"][number]
    start = document["bufferViews"][about["bufferView"]]["byteOffset"]
    width = WIDTHS[about["type"]]
    values = np.frombuffer(data, TYPES[about["componentType"]], about["count"] * width, start)
    values = values.reshape(-1, width) if width > 1 else values
    if "min" in about:
        np.testing.assert_array_equal(
            [values.min(0), values.max(0)], np.float32([about["min"], about["max"]])
        )
    return values


def matrices(document: dict) -> dict[int, np.ndarray]:
    """Each node's own place in the scene, [4, 4]."""
    found: dict[int, np.ndarray] = {}

    def visit(number: int, above: np.ndarray) -> None:
        node, own = document["nodes"][number], np.eye(4)
        own[:3, :3] = Rotation.from_quat(node.get("rotation", (0, 0, 0, 1))).as_matrix()
        own[:3, 3] = node.get("translation", (0, 0, 0))
        found[number] = above @ own
        for child in node.get("children", ()):
            visit(child, found[number])

    for root in document["scenes"][0]["nodes"]:
        visit(root, np.eye(4))
    return found


def skinned(document: dict, data: bytes, skin_number: int) -> np.ndarray:
    """A mesh's vertices as a viewer moves them: glTF 2.0, section 3.7.3."""
    mesh = document["meshes"][skin_number]
    primitive, skin = mesh["primitives"][0], document["skins"][skin_number]
    vertices = array(document, data, primitive["attributes"]["POSITION"]).astype(float)
    for target, weight in zip(primitive.get("targets", []), mesh.get("weights", []), strict=True):
        vertices = vertices + weight * array(document, data, target["POSITION"])
    inverse = array(document, data, skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    places = matrices(document)
    moves = np.stack([places[node] @ bind for node, bind in zip(skin["joints"], inverse, strict=True)])
    four, result, total = np.column_stack([vertices, np.ones(len(vertices))]), 0, 0
    names = [name for name in primitive["attributes"] if name.startswith("JOINTS")]
    for name in names:
        joints = array(document, data, primitive["attributes"][name])
        weights = array(document, data, primitive["attributes"][name.replace("JOINTS", "WEIGHTS")])
        total = total + weights.sum(1)
        result = result + np.einsum("vk,vkij,vj->vi", weights, moves[joints], four)[:, :3]
    np.testing.assert_allclose(total, 1, atol=1e-6)
    return result


@pytest.mark.parametrize("kind", ["open", "toy with pose blend shapes"])
def test_a_viewer_sees_the_fitted_bodies(kind, tmp_path, toy_body):
    body = load_body()
    if kind != "open":
        body = copy.deepcopy(toy_body)
        body.has_pose_dirs = True
        body.pose_dirs = 0.01 * torch.randn(207, 432, generator=torch.Generator().manual_seed(0)).double()
    fits = [fit_of(body, seed, str(seed)) for seed in (1, 2)]
    save_rigged(tmp_path / "a.glb", fits, body)
    document, data = read(tmp_path / "a.glb")
    assert document["buffers"] == [{"byteLength": len(data)}]
    for number, fit in enumerate(fits):
        assert document["meshes"][number]["name"] == f"b_{fit.person}"
        found = skinned(document, data, number)
        np.testing.assert_allclose(found, fit.vertices_cam * UPRIGHT, atol=2e-5)
        places = matrices(document)
        joints = np.stack([places[node][:3, 3] for node in document["skins"][number]["joints"]])
        posed = body(*(torch.tensor(a)[None].to(body.template) for a in (fit.betas, fit.pose))).joints[0]
        np.testing.assert_allclose(joints, (posed.numpy() + fit.transl_cam) * UPRIGHT, atol=2e-5)
        names = [document["nodes"][node]["name"] for node in document["skins"][number]["joints"]]
        assert names == list(JOINT_NAMES)
    for node in document["nodes"]:
        node["rotation"] = (0, 0, 0, 1)
    rest = skinned(document, data, 0) - fits[0].transl_cam * UPRIGHT
    shaped = body.template.numpy() + body.shape_dirs.numpy() @ fits[0].betas
    if kind == "open":
        np.testing.assert_allclose(rest, shaped, atol=2e-5)  # no rotation: the rest pose


def test_other_readers_take_it(tmp_path):
    body = load_body()
    fits = [fit_of(body, seed, str(seed)) for seed in (1, 2)]
    save_rigged(tmp_path / "a.glb", fits, body)
    scene = trimesh.load(tmp_path / "a.glb")
    assert [len(mesh.vertices) for mesh in scene.geometry.values()] == [body.vertex_count] * 2
    assert set(JOINT_NAMES) <= {name.split("_1")[0] for name in scene.graph.nodes}
    pygltflib = pytest.importorskip("pygltflib")
    file = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    assert [len(skin.joints) for skin in file.skins] == [24, 24] and len(file.meshes) == 2
    assert [file.nodes[node].name for node in file.skins[1].joints] == list(JOINT_NAMES)
