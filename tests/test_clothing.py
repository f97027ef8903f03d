"""The clothing prior: the shipped file, its transfer to other bodies, and how it is learned."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import toy_arrays

import fitter
from fitter.body.model import load_body
from fitter.label.label_files import write_labels
from fitter.write.result import Fit, save_fit
from priors import clothing
from priors.clothing import CLASS_LABELS, LABELS, MC_LABELS, MIRROR_LABELS, OPEN_PRIOR, load_clothing_prior
from priors.skeleton import JOINT_NAMES, MIRROR_JOINTS
from synth.clothes import garments
from synth.clothes.figures import Template, load_template
from synth.clothing_prior import build as clothing_prior
from synth.clothing_prior import views as label_views
from synth.clothing_prior import votes as clothing_votes

OPEN_BODY = Path(fitter.__file__).parent / "data" / "open_body.npz"


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template(OPEN_BODY)


@pytest.fixture(scope="module")
def prob(template) -> np.ndarray:
    return load_clothing_prior(None, template.vertices_m, template.faces).prob


def of_part(prob, template, joint) -> dict[str, float]:
    """Mean probability by label name over a body part."""
    mean = prob[template.part_ids == JOINT_NAMES.index(joint)].mean(0)
    return dict(zip(LABELS, mean, strict=True))


# --- the shipped file


def test_shipped_prior_was_learned_on_the_shipped_body(template):
    with np.load(OPEN_PRIOR, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["vertices"], template.vertices_m)
        np.testing.assert_array_equal(file["faces"], template.faces)
        assert "CC0" in str(file["licence"])
    assert OPEN_PRIOR.stat().st_size <= 500_000


def test_rows_are_probabilities_and_symmetric(prob, template):
    assert prob.shape == (len(template.vertices_m), 20)
    assert prob.min() >= 0
    np.testing.assert_allclose(prob.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(prob[:, 0], clothing_prior.BACKGROUND, atol=1e-3)
    np.testing.assert_allclose(prob, prob[template.mirror_ids][:, MIRROR_LABELS], atol=1e-12)


def test_a_part_never_shows_another_parts_label(prob, template):
    left_leg = np.isin(template.part_ids, [JOINT_NAMES.index(f"left_{p}") for p in ("knee", "ankle", "foot")])
    for label in (
        "left-arm",
        "right-arm",
        "right-leg",
        "right-shoe",
        "face",
        "hair",
        "upper-clothes",
        "glove",
    ):
        assert prob[left_leg, LABELS.index(label)].max() == 0, label
    head = template.part_ids == JOINT_NAMES.index("head")
    for label in ("upper-clothes", "pants", "left-arm", "left-leg", "left-shoe"):
        assert prob[head, LABELS.index(label)].max() == 0, label
    allowed = clothing_prior.allowed_labels(template.part_ids, JOINT_NAMES)
    assert (prob[:, 1:][~allowed[:, 1:]] == 0).all()


def test_people_are_dressed_as_in_the_street(prob, template):
    trunk = of_part(prob, template, "spine2")
    assert sum(trunk[LABELS[i]] for i in CLASS_LABELS["upper"]) > 0.9
    assert of_part(prob, template, "left_hand")["left-arm"] > 0.8
    assert of_part(prob, template, "right_foot")["right-shoe"] > 0.8
    forearm, upper_arm = of_part(prob, template, "left_elbow"), of_part(prob, template, "left_shoulder")
    assert 0.2 < forearm["left-arm"] < 0.4  # on photos of others 28 %
    assert 0.03 < upper_arm["left-arm"] < 0.15  # 7 %
    assert upper_arm["coat"] > upper_arm["upper-clothes"] > 0.2
    thigh, calf = of_part(prob, template, "left_hip"), of_part(prob, template, "left_knee")
    assert 0.5 < thigh["pants"] < 0.75 and 0.45 < calf["pants"] < 0.7
    assert 0.1 < thigh["skirt"] + thigh["dress"] < 0.3
    assert thigh["left-leg"] < calf["left-leg"] < 0.4


def test_head_has_a_face_in_front_and_hair_behind(prob, template):
    with np.load(OPEN_BODY) as file:
        marks = dict(zip(file["landmark_names"].tolist(), file["landmark_ids"].tolist(), strict=True))
    assert prob[marks["nose"], LABELS.index("face")] > 0.8
    assert prob[marks["left_eye"], LABELS.index("sunglasses")] > 0.1
    head = np.nonzero(template.part_ids == JOINT_NAMES.index("head"))[0]
    back = head[template.vertices_m[head, 2].argmin()]
    top = head[template.vertices_m[head, 1].argmax()]
    assert prob[back, LABELS.index("hair")] > 0.7 and prob[top, LABELS.index("hair")] > 0.7
    assert prob[marks["left_big_toe"], LABELS.index("left-shoe")] > 0.8  # +x is the person's left


# --- reading and transfer


def halved(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each triangle cut in two across its first edge's middle; no vertex is shared: another topology."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    middle = (a + b) / 2
    corners = np.concatenate([np.stack([a, middle, c], 1), np.stack([middle, b, c], 1)])
    return corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3)


def test_transfer_to_another_topology_keeps_values(prob, template):
    vertices, faces = halved(template.vertices_m.astype(float), template.faces)
    extremes = [*vertices.argmin(0), *vertices.argmax(0)]  # the bodies are laid on each other by their boxes
    order = np.append(np.random.default_rng(0).permutation(len(vertices))[:3000], extremes)
    moved = load_clothing_prior(None, vertices[order], faces).prob
    own = np.concatenate([prob[template.faces[:, k]] for k in range(3)]).reshape(3, -1, 20)
    first = np.stack([own[0], (own[0] + own[1]) / 2, own[2]], 1)
    second = np.stack([(own[0] + own[1]) / 2, own[1], own[2]], 1)
    expected = np.concatenate([first, second]).reshape(-1, 20)[order]
    # the same surface: only the laying-out and the closest point's rounding differ
    assert np.abs(moved - expected).max() < 0.02
    assert np.abs(moved - expected).mean() < 1e-4


def test_transfer_to_a_coarser_body(prob, template):
    """One vertex in ten, moved off the surface a little, takes what lies under it."""
    picked = np.random.default_rng(1).permutation(len(prob))[:700]
    offset = np.random.default_rng(2).normal(0, 0.002, (700, 3))  # metres
    extremes = [*template.vertices_m.argmin(0), *template.vertices_m.argmax(0)]
    vertices = np.concatenate([template.vertices_m[picked] + offset, template.vertices_m[extremes]])
    moved = load_clothing_prior(None, vertices, np.zeros((1, 3), int)).prob[:700]
    wrong = moved[:, 1:].argmax(1) != prob[picked, 1:].argmax(1)
    assert wrong.mean() < 0.03
    assert np.abs(moved - prob[picked]).sum(1).mean() / 2 < 0.03


def test_transfer_to_another_build_keeps_parts_apart(prob, template):
    """Arms 8 % longer, legs 8 % shorter, 10 % broader, 1.2 times the size, standing elsewhere."""
    vertices = template.vertices_m.astype(float)
    arm = np.clip(np.abs(vertices[:, 0]) - 0.17, 0, None)
    vertices[:, 0] += np.sign(vertices[:, 0]) * 0.08 * arm
    vertices[:, 1] -= np.where(vertices[:, 1] < -0.3, 0.08 * (vertices[:, 1] + 0.3), 0)
    vertices[:, 2] *= 1.1
    moved = load_clothing_prior(None, 1.2 * vertices + [0.3, 1.0, -0.2], template.faces).prob
    np.testing.assert_allclose(moved.sum(1), 1, atol=1e-12)
    for joint, label in (("left_hand", "left-arm"), ("right_foot", "right-shoe"), ("left_foot", "left-shoe")):
        assert of_part(moved, template, joint)[label] > 0.8, joint
    same = moved[:, 1:].argmax(1) == prob[:, 1:].argmax(1)
    assert same.mean() > 0.85
    left = template.vertices_m[:, 0] > 0.02
    for label in ("right-arm", "right-leg", "right-shoe"):
        assert moved[left, LABELS.index(label)].max() < 0.01, label


def test_per_face_file_of_the_reference(tmp_path):
    toy = toy_arrays()
    faces, vertices = toy["f"], toy["v_template"]
    per_face = np.zeros((len(faces), 20))
    per_face[:, 5] = 3.0
    per_face[faces.min(1) >= 72, 5], per_face[faces.min(1) >= 72, 9] = 1.0, 1.0
    np.save(tmp_path / "semantic_prior.npy", per_face)
    prior = load_clothing_prior(str(tmp_path / "semantic_prior.npy"), vertices, faces)
    assert prior.name == "semantic_prior"
    np.testing.assert_allclose(prior.prob[:72, 5], 1)
    np.testing.assert_allclose(prior.prob[72:, [5, 9]], 0.5)
    np.save(tmp_path / "other.npy", per_face[:-1])
    with pytest.raises(ValueError, match="13776 faces"):
        load_clothing_prior(str(tmp_path / "other.npy"), vertices, faces)


def test_files_that_are_no_prior_are_refused(tmp_path, template):
    with pytest.raises(FileNotFoundError, match="found no file"):
        load_clothing_prior(str(tmp_path / "none.npz"), template.vertices_m, template.faces)
    np.savez(tmp_path / "bare.npz", prob=np.ones((3, 20)))
    with pytest.raises(ValueError, match="'faces', 'vertices'"):
        load_clothing_prior(str(tmp_path / "bare.npz"), template.vertices_m, template.faces)
    np.savez(tmp_path / "short.npz", prob=np.ones((3, 4)), vertices=np.zeros((3, 3)), faces=[[0, 1, 2]])
    with pytest.raises(ValueError, match="\\(3, 4\\)"):
        load_clothing_prior(str(tmp_path / "short.npz"), template.vertices_m, template.faces)


def test_classes_share_the_labels_out():
    matrix = clothing.class_matrix()
    np.testing.assert_array_equal(matrix.sum(1), 1)
    assert np.nonzero(matrix[:, 1])[0].tolist() == [9, 12]
    assert all(
        LABELS[MIRROR_LABELS[i]].replace("left", "right") == LABELS[i].replace("left", "right")
        for i in range(20)
    )
    assert {LABELS[i] for i in MC_LABELS} == {"face", "left-arm", "right-arm", "left-shoe", "right-shoe"}


# --- how it is learned


def strip() -> Template:
    """Two left-hand squares and their mirror images: part left_hand in x > 0, right_hand in x < 0."""
    xs = np.array([1.0, 2, 3])
    points = np.array([(x, y, 0) for x in xs for y in (0, 1)])
    quads = [(0, 2, 1), (1, 2, 3), (2, 4, 3), (3, 4, 5)]
    faces = np.array(quads + [(a + 6, c + 6, b + 6) for a, b, c in quads])
    hand = JOINT_NAMES.index("left_hand")
    return Template(
        vertices_m=np.concatenate([points, points * [-1, 1, 1]]),
        faces=faces,
        part_ids=np.repeat([hand, MIRROR_JOINTS[hand]], 6),
        mirror_ids=np.roll(np.arange(12), 6),
        joint_names=JOINT_NAMES,
        left_eye=0,
    )


def test_prior_from_votes_by_hand(monkeypatch):
    monkeypatch.setattr(clothing_prior, "SMOOTHING_ROUNDS", 0)
    body = strip()
    votes = np.zeros((12, 20))
    glove, arm, right_arm, face = (LABELS.index(n) for n in ("glove", "left-arm", "right-arm", "face"))
    votes[:4, glove], votes[:4, arm], votes[:4, face] = 1.0, 2.0, 50.0  # a hand in front of a face
    votes[6:10, glove] = 3.0  # the right hand, with the left: glove 4, arm 2
    before = votes.copy()
    prob = clothing_prior.prior_from_votes(votes, body, background=0.1)
    np.testing.assert_array_equal(votes, before)
    np.testing.assert_allclose(prob.sum(1), 1)
    np.testing.assert_allclose(prob[:, glove], 0.9 * 4 / 6)  # also vertices 4, 5, never seen
    np.testing.assert_allclose(prob[:6, arm], 0.9 * 2 / 6)
    np.testing.assert_allclose(prob[6:, right_arm], 0.9 * 2 / 6)
    np.testing.assert_allclose(prob[:, 0], 0.1)
    with pytest.raises(ValueError, match="allowed label at every vertex"):
        clothing_prior.prior_from_votes(np.where(np.arange(20) == face, 1.0, 0.0)[None].repeat(12, 0), body)


def test_smoothing_spreads_but_keeps_the_sum():
    votes = np.zeros((12, 20))
    votes[0:2, LABELS.index("glove")] = 1
    votes[2:6, LABELS.index("left-arm")] = 1
    prob = clothing_prior.prior_from_votes(votes, strip())
    glove = prob[:6, LABELS.index("glove")]
    assert 0.95 > glove[0] > glove[2] > glove[4] > 0
    np.testing.assert_allclose(prob.sum(1), 1)


def test_view_votes_by_hand():
    view = label_views.BodyView(
        pixels=np.array([0, 3]),
        corners=np.array([[0, 1, 2], [0, 1, 2]]),
        weights=np.array([[1.0, 0.0, 0.0], [0.5, 0.25, 0.25]]),
    )
    votes = label_views.view_votes(view, np.array([[5, 9], [9, 13]]), 4)
    assert votes[0, 5] == pytest.approx(1 / 1.5) and votes[0, 13] == pytest.approx(0.5 / 1.5)
    assert votes[1, 13] == 1 and votes[3].sum() == 0
    with_background = label_views.view_votes(view, np.array([[0, 9], [9, 13]]), 4)
    assert with_background[0, 0] == 0 and with_background[0].sum() == pytest.approx(0.5 / 1.5)


def test_views_go_round_and_show_the_left_hand_at_the_right():
    """Seen from the front the person's left (+x) is on the right; half a turn later on the left."""
    from fitter.raster.rasterizer import make_rasterizer

    rotations = label_views.camera_views(0.0)
    assert rotations.shape == (10, 3, 3)
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (10, 3, 3)), atol=1e-12
    )
    body = strip()  # its left half faces the front
    vertices = 0.2 * body.vertices_m
    images = label_views.render_ids(make_rasterizer("cpu"), vertices, body.faces, rotations[[0, 5]])
    columns = [np.nonzero(np.isin(image[..., 2], [1, 2, 3, 4]))[1] for image in images]
    middle = label_views.IMAGE_PX[1] / 2
    assert columns[0].min() > middle and columns[1].max() < middle
    rows = np.nonzero(images[0][..., 2])[0]
    assert rows.max() < label_views.IMAGE_PX[0] / 2  # y > 0 is up, row 0 at the top


# --- learned from fits and label maps


def fit_of_open_body(**changes) -> Fit:
    """A standing body 4 m before a camera of 300 x 400 px."""
    body = load_body()
    posed = body(torch.zeros(1, 10), torch.tensor([[np.pi, *[0.0] * 71]], dtype=torch.float32))
    transl = np.array([0.0, 0.0, 4.0])
    keypoints = np.ones((25, 3))
    keypoints[:, 0], keypoints[:, 1] = np.linspace(20, 280, 25), np.linspace(20, 380, 25)
    entries = dict.fromkeys((field.name for field in dataclasses.fields(Fit)), np.zeros(1)) | {
        "image": "a.jpg", "person": "0", "name": "a", "pose": np.array([np.pi, *[0.0] * 71]), "betas": np.zeros(10),
        "transl_cam": transl, "focal_px": np.full(2, 700.0), "center_px": np.array([150.0, 200.0]),
        "image_size_px": np.array([300, 400]), "observed_px": keypoints, "energies": {}, "quality": {},
        "valid": True, "reasons": (), "body_model": body.name, "configuration": {}, "people_in_photo": 1,
        "vertices_cam": posed.vertices[0].numpy() + transl, "keypoint_source": "", "pose_prior": "",
        "runner_up": np.zeros(0), "open_limbs": (),
        "camera_source": "", "version": "", "derived": (), "inputs": {}, "distortion": (), "box_px": np.zeros(4),
        "label_source": "",
        "joints_cam": np.zeros((24, 3)), "keypoints_px": np.zeros((25, 2)), "keypoints_cam": np.zeros((25, 3)),
        "joint_states": np.zeros(24),
    }  # fmt: skip
    return Fit(**(entries | changes))


def label_of_part(template) -> np.ndarray:
    """One allowed label for every vertex, told by its part, [V]."""
    return np.array(
        [
            np.nonzero(row[1:])[0][0] + 1
            for row in clothing_prior.allowed_labels(template.part_ids, JOINT_NAMES)
        ]
    )


def write_photo(folder: Path, template, fit: Fit, name: str) -> None:
    from fitter.raster.rasterizer import make_rasterizer

    seen = label_views.seen_ids(
        make_rasterizer("cpu"),
        fit.vertices_cam[None],
        template.faces,
        fit.focal_px,
        fit.center_px,
        (400, 300),
    )[0]
    face = seen[..., 2].astype(int) - 1
    write_labels(folder / name, np.where(face >= 0, label_of_part(template)[template.faces[face, 0]], 0))


def test_votes_of_fits_give_back_what_the_photos_show(tmp_path, template):
    fit = fit_of_open_body()
    save_fit(tmp_path / "a_0.npz", fit)
    save_fit(tmp_path / "b_0.npz", dataclasses.replace(fit, image="b.jpg", valid=False))
    save_fit(tmp_path / "c_0.npz", dataclasses.replace(fit, image="c.jpg"))  # no label map
    away = dataclasses.replace(
        fit, person="1", transl_cam=np.array([0.9, 0.0, 4.0])
    )  # beside the labelled one
    save_fit(tmp_path / "a_1.npz", away)
    for name in ("a.png", "b.png"):
        write_photo(tmp_path, template, fit, name)
    files = sorted(tmp_path.glob("*.npz"))
    votes, views = clothing_votes.votes_of_fits(files, tmp_path, load_body())
    assert views == 1
    seen = votes.sum(1) > 0.5
    assert 0.3 < seen.mean() < 0.6 and votes.sum(1).max() <= 1 + 1e-9
    assert (votes[seen].argmax(1) == label_of_part(template)[seen]).mean() > 0.95
    front = template.vertices_m[seen, 2].mean() - template.vertices_m[~seen, 2].mean()
    assert front > 0.03  # turned by pi about x, the body faces the camera
    with pytest.raises(ValueError, match="expected a fit of"):
        body = load_body()
        body.name = "SMPL"
        clothing_votes.votes_of_fits(files, tmp_path, body)
    with pytest.raises(ValueError, match="expected label maps"):
        clothing_votes.votes_of_fits([tmp_path / "c_0.npz"], tmp_path, load_body())


def test_a_prior_is_learned_from_fits_by_the_command(tmp_path, template, capsys):
    fit = fit_of_open_body()
    save_fit(tmp_path / "a_0.npz", fit)
    write_photo(tmp_path, template, fit, "a_0.png")
    out = tmp_path / "own.npz"
    clothing_prior.main(["--fits", str(tmp_path), "--labels", str(tmp_path), "--out", str(out)])
    assert "votes of 1 views" in capsys.readouterr().out
    own = load_clothing_prior(str(out), template.vertices_m, template.faces).prob
    np.testing.assert_allclose(own.sum(1), 1)
    assert (own[:, 1:].argmax(1) + 1 == label_of_part(template)).mean() > 0.9
    with pytest.raises(SystemExit):
        clothing_prior.main(["--fits", str(tmp_path), "--out", str(out)])


def test_template_of_a_body_is_the_open_bodys_own(template):
    made = clothing_votes.template_of(load_body())
    np.testing.assert_allclose(made.vertices_m, template.vertices_m, atol=1e-6)
    assert (made.mirror_ids == template.mirror_ids).mean() > 0.99
    np.testing.assert_array_equal(made.part_ids, template.part_ids)
    assert made.left_eye == template.left_eye


# --- garments

MHCLO = """# a garment
name cape
obj_file cape.obj
x_scale 0 1 2.0
y_scale 0 2 1.0
z_scale 0 3 0.5
material cape.mhmat
verts 0
4
0 1 2 0.5 0.25 0.25 0.1 0.2 0.3
5
6
delete_verts
3 7 - 9
12
"""
CAPE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\ng cloth\nf 1/1 2/2 3/3 4/4\n"


def write_cape(folder: Path, text: str = MHCLO) -> Path:
    (folder / "cape.obj").write_text(CAPE)
    (folder / "cape.mhclo").write_text(text)
    return folder / "cape.mhclo"


def test_garment_is_bound_by_hand(tmp_path):
    cape = garments.read_garment(write_cape(tmp_path))
    assert cape.hidden.tolist() == [3, 7, 8, 9, 12]
    assert cape.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    base = np.zeros((garments.BASE_VERTICES, 3))
    base[1], base[2], base[3] = [4, 0, 0], [0, -3, 0], [0, 0, 0.25]
    base[4], base[5], base[6] = [1, 2, 3], [7, 0, 0], [0, 7, 0]
    bound = garments.bind(cape, base)
    np.testing.assert_allclose(bound[0], [1, 2, 3])
    # anchor 0.25 * (4, 0, 0) + 0.25 * (0, -3, 0); scales 4/2, 3/1, 0.25/0.5
    np.testing.assert_allclose(bound[1], [1 + 0.1 * 2, -0.75 + 0.2 * 3, 0.3 * 0.5])
    np.testing.assert_allclose(garments.bind(cape, 1.5 * base), 1.5 * bound)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("4\n0 1 2 0.5", "4\n0 1 2 3 0.5"), "expected 1 or 9 numbers"),
        (("\n5\n", "\n"), "a binding for each of 4 vertices"),
        (("\n6\n", "\n99999\n"), "below 19158"),
        (("y_scale 0 2 1.0\n", ""), "y_scale"),
    ],
)
def test_broken_garments_are_named(tmp_path, change, message):
    path = write_cape(tmp_path, MHCLO.replace(*change))
    with pytest.raises(ValueError, match=message):
        garments.read_garment(path)


def test_garment_needs_the_whole_base_mesh(tmp_path):
    with pytest.raises(ValueError, match="helpers included"):
        garments.bind(garments.read_garment(write_cape(tmp_path)), np.zeros((13380, 3)))


def test_pieces_are_ranked_by_their_vertices():
    faces = np.array([[0, 1, 2], [3, 4, 5], [4, 5, 6], [8, 9, 10]])
    assert garments.pieces(faces, 12).tolist() == [1, 0, 0, 2]
