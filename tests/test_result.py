"""A fit as files: what is kept, read back, and shown by other tools."""

import numpy as np
import pytest
import torch
import trimesh

from fitter.body.model import load_body
from fitter.see.visibility import SEEN
from fitter.write.files import write_files
from fitter.write.result import VERSION, Fit, load_fit, mesh_files, save_fit


@pytest.fixture
def fit():
    """Somebody who stands 4 m in front of the camera, upright in the photo."""
    body = load_body()
    pose = torch.zeros(1, 72)
    pose[0, 0] = np.pi
    posed = body(torch.zeros(1, 10), pose)
    place = np.array([0.3, 0.1, 4.0])
    keypoints = np.random.default_rng(0).normal(0, 0.5, (25, 3)) + place
    return Fit(
        image="people/a b.jpg", person="7", keypoint_source="openpose", pose=pose[0].numpy(), betas=np.zeros(10),
        transl_cam=place, focal_px=np.array([500.0, 500.0]), center_px=np.array([160.0, 120.0]),
        image_size_px=np.array([320, 240]), box_px=np.array([100.0, 20, 180, 220]),
        joints_cam=posed.joints[0].numpy() + place, vertices_cam=posed.vertices[0].numpy() + place,
        keypoints_px=keypoints[:, :2] / keypoints[:, 2:] * 500 + [160, 120], keypoints_cam=keypoints,
        observed_px=np.ones((25, 3)), joint_states=np.full(24, SEEN, np.uint8), energies={"pose": 1.0}, quality={},
        valid=True, reasons=(), body_model=body.name, pose_prior="gmm", camera_source="default",
    )  # fmt: skip


def test_keypoints_in_the_camera_are_kept_and_lie_on_those_in_the_photo(fit, tmp_path):
    save_fit(tmp_path / "a.npz", fit)
    read = load_fit(tmp_path / "a.npz")
    assert read.keypoints_cam.shape == (25, 3)
    px = read.keypoints_cam[:, :2] / read.keypoints_cam[:, 2:] * read.focal_px + read.center_px
    np.testing.assert_allclose(px, read.keypoints_px, atol=1e-2)


def test_results_from_before_are_read(fit, tmp_path):
    save_fit(tmp_path / "a.npz", fit)
    with np.load(tmp_path / "a.npz") as file:
        np.savez(tmp_path / "old.npz", **{key: file[key] for key in file.files if key != "keypoints_cam"})
    read = load_fit(tmp_path / "old.npz")
    assert read.keypoints_cam is None and read.version == VERSION


@pytest.mark.parametrize(
    "entry, instead, said",
    [
        ("pose", np.zeros(71), r"pose of float64 and shape \(71,\), not numbers of \(72,\)"),
        ("pose", np.array("left"), "pose of <U4"),
        ("observed_px", np.zeros((17, 3)), r"observed_px of .* \(17, 3\), not numbers of \(25, 3\)"),
        ("energies", np.array("{"), "energies that is not JSON"),
        ("reasons", np.array("3"), "reasons as int, not list"),
        ("image", np.zeros(3), "image of .* not one text"),
        ("valid", np.array("no"), "valid of .* not one yes or no"),
    ],
)
def test_a_damaged_result_is_refused_by_name(fit, tmp_path, entry, instead, said):
    save_fit(tmp_path / "a.npz", fit)
    with np.load(tmp_path / "a.npz") as file:
        entries = {key: file[key] for key in file.files}
    np.savez(tmp_path / "a.npz", **{**entries, entry: instead})
    with pytest.raises(
        ValueError, match=rf"a\.npz: expected a fit as written by fit\.py.*{said}.*; fit that photo again"
    ):
        load_fit(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", ["obj", "ply", "glb"])
def test_meshes_have_normals_a_material_and_a_name(fit, tmp_path, kind):
    body = load_body()
    faces = body.faces.numpy()
    written = write_files(tmp_path, mesh_files("people/a b_7", fit, faces, kind))
    endings = {"obj": {"obj", "mtl"}}.get(kind, {kind})
    assert {path for path, _ in written} == {f"people/a b_7.{ending}" for ending in endings}
    path = tmp_path / f"people/a b_7.{kind}"
    scene = trimesh.load_scene(path, process=False)
    if kind == "glb":
        assert list(scene.graph.nodes_geometry) == ["a b_7"]
    mesh = next(iter(scene.geometry.values()))
    assert mesh.vertices.shape == (body.vertex_count, 3) and len(mesh.faces) == len(faces)
    upright = fit.vertices_cam * [1, -1, -1]
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), np.ptp(upright, axis=0), atol=1e-4)
    head, foot = (mesh.vertices[:, 1] == f(mesh.vertices[:, 1]) for f in (np.max, np.min))
    assert mesh.vertices[head][0, 1] - mesh.vertices[foot][0, 1] > 1.4 and mesh.vertices[:, 2].max() < -3
    # normals are in the file, of length 1, and point outwards
    assert "vertex_normals" in mesh._cache.cache
    normals = np.asarray(mesh.vertex_normals)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-3)
    assert ((mesh.vertices - mesh.vertices.mean(0)) * normals).sum(1).mean() > 0.02
    skin = mesh.visual.vertex_colors[0] if kind == "ply" else mesh.visual.material.main_color
    np.testing.assert_allclose(skin[:3], (201, 165, 142), atol=1)
    text = path.read_bytes()
    if kind == "obj":
        assert b"mtllib a b_7.mtl\no a b_7\nusemtl skin\n" in text and b"\nvn " in text
    if kind == "ply":
        assert b"comment a b_7\n" in text
