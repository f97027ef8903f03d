"""Rigged .glb files: read by trimesh and pygltflib, and skinned by hand as glTF says, they are the fitted bodies."""

import copy
import json
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation
from test_clothing import fit_of_open_body

from fitter.body.model import BodyModel, load_body
from fitter.write.motion import Motion, save_bvh
from fitter.write.result import Fit, save_mesh, vertices_of
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


def motion_of(seed: int, frames=range(6), name: str = "runner") -> Motion:
    """Somebody who turns round once and more while they move, and bends all joints."""
    rng, count = np.random.default_rng(seed), len(frames)
    pose = rng.normal(0, 0.4, 72) + np.cumsum(rng.normal(0, 0.1, (count, 72)), 0)
    heading = Rotation.from_euler("y", np.linspace(0, 400, count)[:, None], degrees=True)
    pose[:, :3] = (Rotation.from_euler("x", 170, degrees=True) * heading).as_rotvec()
    place = np.array([0.3, -0.2, 4.0]) + np.cumsum(rng.normal(0, 0.2, (count, 3)), 0)
    return Motion(name, rng.normal(0, 1, 10), pose, place, np.array(frames), 25.0)


@pytest.fixture
def bending_body(toy_body) -> BodyModel:
    """The toy body with pose blend shapes."""
    body = copy.deepcopy(toy_body)
    body.has_pose_dirs = True
    body.pose_dirs = 0.01 * torch.randn(207, 432, generator=torch.Generator().manual_seed(0)).double()
    return body


def at_frame(document: dict, data: bytes, row: int) -> dict:
    """The document with its nodes where the animation has them at its key of that row; numpy for quaternions."""
    moved = copy.deepcopy(document)
    for channel in document["animations"][0]["channels"]:
        sampler = document["animations"][0]["samplers"][channel["sampler"]]
        times, values = (array(document, data, sampler[which]) for which in ("input", "output"))
        value = values.reshape(len(times), -1)[row]
        target = channel["target"]
        node = moved["nodes"][target["node"]]
        if target["path"] == "weights":
            moved["meshes"][node["mesh"]]["weights"] = value
        else:
            node[target["path"]] = value
    return moved


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
        bounds = np.float32([about["min"], about["max"]])
        np.testing.assert_array_equal(np.reshape([values.min(0), values.max(0)], bounds.shape), bounds)
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
def test_a_viewer_sees_the_fitted_bodies(kind, tmp_path, bending_body):
    body = load_body() if kind == "open" else bending_body
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
    assert not file.animations
    save_rigged(tmp_path / "b.glb", [motion_of(1), motion_of(2, [2, 9])], body)
    assert len(trimesh.load(tmp_path / "b.glb").geometry) == 2
    (animation,) = pygltflib.GLTF2().load(str(tmp_path / "b.glb")).animations
    assert len(animation.channels) == 2 * 25
    moved = {channel.target.path for channel in animation.channels}
    assert moved == {"translation", "rotation"}


@pytest.mark.parametrize("kind", ["open", "toy with pose blend shapes"])
def test_a_viewer_sees_them_move(kind, tmp_path, bending_body):
    """Two people, one of whom comes later: at every key each is where their fit is."""
    body = load_body() if kind == "open" else bending_body
    people = [motion_of(1, range(10, 16)), motion_of(2, [12, 13, 17], "late")]  # time 0 is frame 10
    save_rigged(tmp_path / "a.glb", people, body)
    document, data = read(tmp_path / "a.glb")
    (animation,) = document["animations"]
    samplers = animation["samplers"]
    times = [array(document, data, samplers[at]["input"]) for at in (0, len(samplers) - 1)]
    np.testing.assert_allclose(times[0], np.arange(6) / 25, atol=1e-7)
    np.testing.assert_allclose(times[1], [2 / 25, 3 / 25, 7 / 25], atol=1e-7)
    for number, person in enumerate(people):
        expected = vertices_of(
            np.tile(person.betas, (len(person.frames), 1)), person.pose, person.transl_cam, body
        )
        for row in range(len(person.frames) if number else 3):
            found = skinned(at_frame(document, data, row), data, number)
            np.testing.assert_allclose(found, expected[row] * UPRIGHT, atol=2e-5)
    for sampler in samplers[1:25]:  # between two keys viewers turn the short way
        turns = array(document, data, sampler["output"])
        assert ((turns[1:] * turns[:-1]).sum(1) > 0).all()
    with pytest.raises(ValueError, match="expected people, got none"):
        save_rigged(tmp_path / "b.glb", [], body)


def test_a_motion_that_is_none_is_refused():
    good = motion_of(1)
    for change, message in (
        ({"pose": good.pose[:-1]}, "pose of runner: expected finite .6, 72., got .5, 72."),
        ({"transl_cam": good.transl_cam * np.nan}, "transl_cam of runner: expected finite"),
        ({"frames": np.array([0, 1, 1, 2, 3, 4])}, "frames of runner: expected increasing"),
        ({"fps": 0.0}, "positive fps"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(good, **change)


@pytest.mark.parametrize("per_metre", [1.0, 100.0])
def test_another_reader_of_bvh_finds_the_joints(per_metre, tmp_path):
    """The package bvhio, in every frame, those between two that are missing too; within 1 mm."""
    bvhio = pytest.importorskip("bvhio")
    body, motion = load_body(), motion_of(3, [4, 5, 6, 8, 9])
    save_bvh(tmp_path / "a.bvh", motion, body, per_metre)
    root = bvhio.readAsHierarchy(str(tmp_path / "a.bvh"))
    parsed = bvhio.readAsBvh(str(tmp_path / "a.bvh"))
    assert parsed.FrameCount == 6 and parsed.FrameTime == pytest.approx(1 / 25, abs=1e-7)
    betas, pose = (
        torch.tensor(np.asarray(a), dtype=torch.float32) for a in (motion.betas[None], motion.pose)
    )
    joints = body(betas.expand(5, -1), pose).joints.numpy() + motion.transl_cam[:, None]
    for row, frame in enumerate((0, 1, 2, 4, 5)):
        root.loadPose(frame)
        found = {joint.Name: np.array(joint.PositionWorld) for joint, _, _ in root.layout()}
        found = np.stack([found[name] for name in JOINT_NAMES]) / per_metre
        np.testing.assert_allclose(found, joints[row] * UPRIGHT, atol=1e-3)
    root.loadPose(3)
    between = np.array(root.PositionWorld) / per_metre
    rest = body.joint_template.numpy() + body.joint_shape_dirs.numpy() @ motion.betas
    middle = (motion.transl_cam[2:4].mean(0) + rest[0]) * UPRIGHT
    np.testing.assert_allclose(between, middle, atol=1e-3)


def test_a_bvh_ends_where_the_body_does(tmp_path):
    """The ends of the last bones lie at the tips of hands, feet and head."""
    body, still = load_body(), motion_of(1, [0])
    save_bvh(tmp_path / "a.bvh", replace(still, betas=np.zeros(10)), body)
    text = (tmp_path / "a.bvh").read_text()
    assert text.count("End Site") == 5 and text.count("OFFSET") == 29 and "Frames: 1\n" in text
    head = text[text.index("JOINT head") :].split("End Site")[1].split("OFFSET")[1].split()[:3]
    top = body.joint_template.numpy()[15] + np.array(head, float)
    assert abs(top[1] - body.template.numpy()[:, 1].max()) < 0.04 and abs(top[0]) < 0.01


def test_the_validator_finds_nothing(tmp_path, bending_body):
    """Khronos' glTF validator (npm install --prefix <environment> gltf-validator): no error, no warning."""
    node, modules = shutil.which("node"), os.environ.get("NODE_PATH", str(Path(sys.prefix) / "node_modules"))
    if not node or not (Path(modules) / "gltf-validator").is_dir():
        pytest.skip(f"needs node and gltf-validator in {modules}")
    body = load_body()
    fits = [fit_of(body, seed, str(seed)) for seed in (1, 2)]
    save_mesh(tmp_path / "static.glb", fits[0], body.faces.numpy(), "static")
    save_rigged(tmp_path / "one.glb", fits[:1], body)
    save_rigged(tmp_path / "several.glb", fits, body)
    save_rigged(tmp_path / "moving.glb", [motion_of(1), motion_of(2, [3, 5])], body)
    save_rigged(tmp_path / "bending.glb", [fit_of(bending_body, 1, "1")], bending_body)
    save_rigged(tmp_path / "moving and bending.glb", [motion_of(1), motion_of(2)], bending_body)
    files = sorted(map(str, tmp_path.glob("*.glb")))
    code = """const {validateBytes} = require("gltf-validator"), fs = require("fs");
        Promise.all(process.argv.slice(1).map(file => validateBytes(new Uint8Array(fs.readFileSync(file)))))
            .then(reports => console.log(JSON.stringify(reports.map(report => report.issues))));"""
    environment = os.environ | {"NODE_PATH": modules}
    done = subprocess.run(
        [node, "-e", code, *files], capture_output=True, text=True, check=True, env=environment
    )
    for file, issues in zip(files, json.loads(done.stdout), strict=True):
        assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), (file, issues["messages"])
    assert len(files) == 6
