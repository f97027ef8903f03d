"""Votes for the clothing prior: every point of a body that a view shows takes the label that covers it there.

The bodies are under dressed figures (collect_votes) or in labelled photos, by their fits (votes_of_fits).
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from fitter.label.label_files import UNKNOWN
from priors.clothing import LABELS
from priors.skeleton import JOINT_NAMES
from synth.clothes.figures import Template, Wardrobe
from synth.clothes.outfits import draw_outfits
from synth.clothing_prior.views import (
    IMAGE_PX,
    VIEWS,
    body_views,
    camera_views,
    render_ids,
    seen_ids,
    view_votes,
)

SEED = 5
SHAPES_PER_GENDER = 13
OUTFITS_PER_SHAPE = 20


def collect_votes(
    wardrobe: Wardrobe,
    shapes_per_gender: int = SHAPES_PER_GENDER,
    outfits_per_shape: int = OUTFITS_PER_SHAPE,
    seed: int = SEED,
    genders: Sequence[str] = ("female", "male"),
    on_figure: Callable[[str, np.ndarray], None] | None = None,
) -> np.ndarray:
    """Votes [V, 20] over all shapes, outfits of the split "prior", and views.

    on_figure(name, label images [VIEWS, H, W]) is called with every dressed figure.
    """
    from fitter.raster.rasterizer import make_rasterizer

    rng = np.random.default_rng(seed)
    rasterizer = make_rasterizer("cpu")
    faces, count = wardrobe.template.faces, len(wardrobe.template.vertices_m)
    votes = np.zeros((count, len(LABELS)))
    for gender in genders:
        bodies = wardrobe.draw_bodies(gender, shapes_per_gender)
        outfits = draw_outfits(gender, shapes_per_gender * outfits_per_shape, rng, "prior")
        for i, base_dm in enumerate(bodies):
            rotations = camera_views(rng.uniform(0, 360 / VIEWS))
            naked_m, centre_m = wardrobe.naked(base_dm)
            views = body_views(render_ids(rasterizer, naked_m - centre_m, faces, rotations), faces)
            for outfit in outfits[i::shapes_per_gender]:
                figure = wardrobe.dress(base_dm, outfit)
                ids = render_ids(rasterizer, figure.vertices_m - centre_m, figure.faces, rotations)
                label_images = np.append(0, figure.labels)[ids[..., 2].astype(int)]
                for view, label_image in zip(views, label_images, strict=True):
                    votes += view_votes(view, label_image, count)
                if on_figure is not None:
                    worn = ", ".join(choice.name for choice in outfit if choice.layers)
                    on_figure(f"{gender}: {worn}", label_images)
    return votes


def template_of(body) -> Template:
    """The same of any fitter.body.model.BodyModel, SMPL's too: mirror images are the nearest vertices."""

    vertices_m = body.template.numpy().astype(float)
    _, mirror_ids = cKDTree(vertices_m).query(vertices_m * [-1, 1, 1])
    left_eye = int(body.landmark_ids[1])
    return Template(vertices_m, body.faces.numpy(), body.part_ids.numpy(), mirror_ids, JOINT_NAMES, left_eye)


def votes_of_fits(fits: Iterable[Path], labels: Path, body) -> tuple[np.ndarray, int]:
    """Votes [V, 20] of all fits (fit.py's npz files) that are valid and have a label map, and of how many.

    labels: folder of label maps named as the photos, <photo>.png or <photo>_<person>.png; photos may be many
    views of one person. Where one map shows several people it is the one's whose body covers most of it.
    body: the fits' BodyModel. ValueError: a fit of another body; no fit with a label map.
    """
    from fitter.raster.rasterizer import make_rasterizer

    rasterizer, voted = make_rasterizer("cpu"), 0
    votes = np.zeros((body.vertex_count, len(LABELS)))
    for people in _by_map(fits, labels, body.name):
        best, most = None, 0.0
        for fit, path in people:
            found, covered = _votes_of_fit(rasterizer, fit, path, body)
            if covered > most:
                best, most = found, covered
        if best is not None:
            votes += best
            voted += 1
    if not voted:
        raise ValueError(
            f"{labels}: expected label maps named as the fits' photos, found none for a valid fit"
        )
    return votes, voted


def _by_map(fits: Iterable[Path], labels: Path, body_name: str) -> Iterable[list[tuple[dict, Path]]]:
    """Valid fits with their label map, grouped by map, in their order."""
    from fitter.label.label_files import label_files
    from fitter.see.photos import Photo
    from fitter.write.result import load_fit

    groups: dict[Path, list[tuple[dict, Path]]] = {}
    loaded = [(path, load_fit(path)) for path in fits]
    images = {fit.image: str(Path(fit.image).with_suffix("")) for _, fit in loaded}
    found = label_files(
        [Photo(Path(image), image, name) for image, name in images.items()], labels, needed=False
    )
    for path, fit in loaded:
        if fit.body_model != body_name:
            raise ValueError(
                f"{path}: expected a fit of {body_name}, got one of {fit.body_model}; give its --body"
            )
        maps = found.get(fit.image, {})
        own = maps.get(fit.person, maps.get(None))
        if fit.valid and own is not None:
            groups.setdefault(own, []).append((fit, own))
    return groups.values()


def _votes_of_fit(rasterizer, fit: dict, path: Path, body) -> tuple[np.ndarray, float]:
    """Votes [V, 20] of one person in one photo, and how many labelled pixels their body covers at this scale."""
    import cv2
    import torch

    from fitter.label.label_files import read_labels, to_photo_size
    from fitter.label.person_labels import clean_labels

    width, height = (int(side) for side in fit.image_size_px)
    scale = min(1.0, IMAGE_PX[0] / max(width, height))
    size = round(height * scale), round(width * scale)
    ids = to_photo_size(read_labels(path), (height, width), path)
    ids = clean_labels(ids, fit.observed_px).ids
    ids = cv2.resize(np.where(ids == UNKNOWN, 0, ids), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    dtype = body.template.dtype
    with torch.no_grad():
        posed = body(*(torch.tensor(getattr(fit, name), dtype=dtype)[None] for name in ("betas", "pose")))
    points_cam = posed.vertices.numpy() + fit.transl_cam
    faces = body.faces.numpy()
    focal_px, center_px = fit.focal_px * scale, fit.center_px * scale
    view = body_views(seen_ids(rasterizer, points_cam, faces, focal_px, center_px, size), faces)[0]
    covered = float((ids.reshape(-1)[view.pixels] > 0).sum())
    return view_votes(view, ids, body.vertex_count), covered
