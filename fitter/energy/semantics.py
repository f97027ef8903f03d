"""The DSR terms of N people: their labels as targets, their bodies rendered with the clothing prior, the losses.

DSR (ICCV 2021), sections 3.2 and 3.3, in the order of the paper: render the semantic prior, compare minimally-clothed
regions tightly (DSR-MC), ask clothed regions only to contain the body (DSR-C).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fitter.config import Semantics
from fitter.energy import losses
from fitter.label.label_files import UNKNOWN
from fitter.label.person_labels import PersonLabels, crop_known, crop_labels, distance_px
from fitter.label.soft_labels import crop_soft
from fitter.raster.rasterizer import Rasterizer
from fitter.raster.render import render_prob
from fitter.rows import Rows, product
from fitter.see.keypoints import Person
from fitter.see.person_box import compared_window
from priors.clothing import LABELS, class_matrix

CENTRE_DEPTH = 0.03  # share of the crop at which a free pixel costs `fill`
MOST_DEPTH = 3.0  # most of `fill` that one costs
FLOOR = 1e-3  # what is left of labels that a photo does not show
MIN_SHARE = 60 / 224**2  # of the crop: fewer pixels of a label are noise (supplement A.2)


@dataclass(frozen=True)
class Targets(Rows):
    """Labels of P people at one crop resolution.

    window_px [P, 4]: what the crops show; classes [P, h, w, 4]: share of each DSR-C class; mc [P, h, w]: share of the
    person's minimally-clothed labels; mc_distance_px [P, h, w]; person [P, h, w]: share of anything but background;
    person_distance_px [P, h, w]; person_depth [P, h, w]: distance to what is not the person, as a share of the crop;
    valid [P, h, w]: share that is known, 0 for people without labels; class_weight [P, 4]; mc_labels [P, 20]: 1 for the
    minimally-clothed labels that the photo shows; labels [P, 20]: 1 for every label that the person shows, and the
    background.
    """

    window_px: Tensor
    classes: Tensor
    mc: Tensor
    mc_distance_px: Tensor
    person: Tensor
    person_distance_px: Tensor
    person_depth: Tensor
    valid: Tensor
    class_weight: Tensor
    mc_labels: Tensor
    labels: Tensor


def make_targets(
    people: list[Person],
    labels: list[PersonLabels | None],
    settings: Semantics,
    crop_px: int,
    dtype: torch.dtype = torch.float32,
) -> Targets:
    """Targets of people in square crops of crop_px x crop_px; zeros for those without labels."""
    rows = [
        target_in(compared_window(person.box_px), known, settings, crop_px)
        for person, known in zip(people, labels, strict=True)
    ]
    return Targets(
        **{name: torch.tensor(np.stack([row[name] for row in rows]), dtype=dtype) for name in rows[0]}
    )


def target_in(
    window: np.ndarray, labels: PersonLabels | None, settings: Semantics, crop_px: int
) -> dict[str, np.ndarray]:
    """One row of Targets by field, of a window [4] of the picture that the labels are of; zeros without labels."""
    size = (crop_px, crop_px)
    ids = np.zeros((1, 1), np.uint8) if labels is None else labels.ids
    known = np.zeros_like(ids) if labels is None else labels.valid
    soft = labels and labels.soft
    if soft is None:
        prob, valid = crop_labels(ids, known, window, size)
    else:  # of the map only where it is known; an unsure parser pulls less
        valid = crop_known((ids != UNKNOWN) & (known > 0), window, size)
        prob, seen = crop_soft(soft, window, size)
        valid = valid * seen
    shown = np.zeros(len(LABELS), np.float32)
    shown[list(labels.mc_labels) if labels else []] = 1
    classes = prob @ class_matrix().astype(np.float32)
    mc, person = prob @ shown, classes[..., 1] + classes[..., 2] + classes[..., 3]
    pixels = valid.reshape(-1) @ prob.reshape(-1, len(LABELS))  # that are known, of each label
    least = MIN_SHARE * crop_px**2
    weight = class_weights(pixels @ class_matrix(), least) if settings.balance_classes else np.ones(4)
    present = pixels >= least
    present[0] = True
    return {
        "window_px": window,
        "classes": classes,
        "mc": mc,
        "mc_distance_px": distance_px(mc > 0.5),
        "person": person,
        "person_distance_px": distance_px(person > 0.5),
        "person_depth": distance_px((person <= 0.5) & (valid > 0.5)) / crop_px,
        "valid": valid,
        "class_weight": weight,
        "mc_labels": shown,
        "labels": present,
    }


def class_weights(pixels: np.ndarray, least: float) -> np.ndarray:
    """Reference code's balance: smallest class's pixels / the class's pixels, [4]; 0 for classes under `least`."""
    present = pixels >= least
    smallest = pixels[present].min(initial=np.inf)
    return np.where(present, smallest / np.maximum(pixels, 1), 0.0)


@dataclass(frozen=True)
class Seen:
    """N people's rendered bodies beside their labels: classes [N, h, w, 4] and mc [N, h, w], rendered probabilities."""

    classes: Tensor
    mc: Tensor
    targets: Targets
    settings: Semantics

    @property
    def coverage(self) -> Tensor:
        return self.classes.sum(-1)


def _target(seen: Seen) -> Tensor:
    targets = seen.targets
    weighted = seen.settings.balance_classes  # else they all weigh 1
    return targets.classes * targets.class_weight[:, None, None] if weighted else targets.classes


def _one_sided(seen: Seen) -> Tensor:
    share = seen.settings.centre
    factor = 1 - share + share * (seen.targets.person_depth / CENTRE_DEPTH).clamp(max=MOST_DEPTH)
    return losses.clothing_one_sided(
        seen.classes, _target(seen), seen.targets.valid, seen.settings.fill, factor
    )


# term, whose weight has the same name: its forms, of which `Semantics` chooses one under that name
FORMS: dict[str, dict[str, Callable[[Seen], Tensor]]] = {
    "mc": {
        "iou": lambda s: losses.silhouette_iou(s.mc * s.targets.valid, s.targets.mc * s.targets.valid),
        "distance": lambda s: losses.silhouette_distance(s.mc * s.targets.valid, s.targets.mc_distance_px),
    },
    "c": {
        "one-sided": _one_sided,
        "published": lambda s: losses.clothing_published(s.classes, _target(s), s.targets.valid),
        "composited": lambda s: losses.clothing_composited(s.classes, _target(s), s.targets.valid),
    },
    "silhouette": {
        "bce": lambda s: losses.silhouette_bce(s.coverage, s.targets.person, s.targets.valid),
        "distance": lambda s: losses.silhouette_distance(
            s.coverage * s.targets.valid, s.targets.person_distance_px
        ),
    },
}


class SemanticTerms(nn.Module):
    """Body faces, clothing prior and settings of the DSR terms; calling it gives their values."""

    def __init__(self, rasterizer: Rasterizer, faces: Tensor, prob: np.ndarray, settings: Semantics):
        super().__init__()
        self.rasterizer, self.settings = rasterizer, settings
        if settings.hard_labels:  # MVP, Table 1: each vertex's most likely label instead of the distribution
            prob = np.eye(len(LABELS))[prob.argmax(1)]
        self.register_buffer("faces", faces)
        self.register_buffer("prob", torch.as_tensor(prob))
        self.register_buffer("classes", torch.as_tensor(class_matrix()).to(self.prob))

    @property
    def names(self) -> tuple[str, ...]:
        """The terms that are in use."""
        return tuple(name for name in FORMS if getattr(self.settings, name) != "none")

    def person_prob(self, targets: Targets, columns: Tensor) -> Tensor:
        """The prior, given what the photo shows of each person, summed over labels: [N, V, C] probabilities.

        columns: [N or 1, 20, C] of 0 and 1, which labels belong together. Unseen labels keep a share of FLOOR.
        """
        if not self.settings.only_seen_labels:
            return self.prob @ columns
        kept = targets.labels[:, :, None].to(self.prob) + FLOOR
        kept = torch.cat([torch.zeros_like(kept[:, :1]), kept[:, 1:]], 1)
        wanted = torch.cat([kept * columns, kept], -1).transpose(1, 2)  # [N, C + 1, 20]
        worn = product(wanted.flatten(0, 1), self.prob.T).reshape(*wanted.shape[:2], -1)
        background = self.prob[:, 0]
        shares = worn[:, :-1] * ((1 - background) / worn[:, -1:]) + background * columns[:, 0, :, None]
        return shares.transpose(1, 2)

    def render(self, vertices_cam: Tensor, focal_px: Tensor, center_px: Tensor, targets: Targets) -> Tensor:
        """Rendered probabilities [N, h, w, 5] of the four classes and of the person's minimally-clothed labels."""
        like = vertices_cam.dtype
        own = targets.mc_labels[..., None].to(self.prob)
        columns = torch.cat([self.classes.expand(len(own), -1, -1), own], -1)
        return render_prob(
            self.rasterizer,
            vertices_cam,
            self.faces,
            self.person_prob(targets, columns).to(like),
            focal_px,
            center_px,
            targets.window_px.to(like),
            tuple(targets.valid.shape[1:]),
        )

    def forward(self, vertices_cam: Tensor, focal_px: Tensor, center_px: Tensor, targets: Targets) -> dict:
        """Unweighted terms by name, each [N]: mc, c, silhouette. vertices_cam: [N, V, 3] m in the photo's camera."""
        prob = self.render(vertices_cam, focal_px, center_px, targets)
        classes, mc = prob.split([4, 1], -1)
        seen = Seen(classes, mc.squeeze(-1), targets, self.settings)
        return {name: FORMS[name][getattr(self.settings, name)](seen) for name in self.names}
