"""Exemplar fine-tuning: the network's weights, not the pose, are moved until one person's keypoints are met.

EFT (Joo, Neverova, Vedaldi, 3DV 2021). What the network learned from many people keeps the pose plausible; the weights
are put back afterwards, so that every person starts from the same network.
"""

import copy
from dataclasses import replace

import numpy as np
import torch

from fitter.config import Eft, Semantics, Weights
from fitter.energy.losses import CROP_PX
from fitter.energy.semantics import Targets, target_in
from fitter.people import Sighting
from fitter.see.crops import crop_to_photo, cut, pyramid
from fitter.see.keypoint_targets import body_targets
from regressor.hmr import HMR, Prediction, to_input
from regressor.losses import Criterion, PhotoCrop, fit_scale, reprojection
from regressor.predict import hints_about, square_of

DSR_PX = 64  # resolution at which the DSR terms are rendered
CAMERA_RATE = 0.01
RATE = {True: 5e-6, False: 1e-5}  # of ResNet-50, and of the small network, on thirty generated people


def fine_tuned(
    net: HMR,
    one: Sighting,
    criterion: Criterion,
    settings: Eft,
    weights: Weights | None = None,
) -> tuple[Prediction, float, float]:
    """The prediction with the least loss seen, and that loss at first and at last. The network is left as it was,
    whatever happens.

    one: with its photo; its labels are used where settings.semantics > 0 and the criterion has the DSR terms; weights:
    the fitter's, which say what these weigh beside the keypoints (the defaults).
    """
    person, labels = one.person, one.labels
    center, side = square_of(person)
    to_photo = crop_to_photo(center, side / 2, 0.0, CROP_PX)
    crop = cut(pyramid(one.image_rgb), to_photo, (CROP_PX, CROP_PX))
    images = to_input(torch.from_numpy(crop[None]).float() / 255)
    square = torch.tensor(np.array([center])).to(images), torch.tensor([side]).to(images)
    lens = ((one.camera.fx_px, one.camera.fy_px), (one.camera.cx_px, one.camera.cy_px))
    photo = PhotoCrop(*square, *(images.new_tensor([part]) for part in lens))
    points = (person.keypoints_px[:, :2] - center) * CROP_PX / side + CROP_PX / 2
    hints = hints_about([one], criterion.body).to(images)
    matrix, trust = body_targets(person.source, *criterion.body.joint_layout)
    keypoints = torch.tensor(np.column_stack([points, person.keypoints_px[:, 2] * trust])[None]).float()
    joints = torch.tensor(matrix).to(criterion.targets)
    targets = None
    if settings.semantics and labels is not None and criterion.semantics is not None:
        window = np.concatenate([center - side / 2, center + side / 2])
        rows = target_in(window, labels, criterion.semantics.settings, DSR_PX)
        targets = Targets(**{name: torch.tensor(value[None]).float() for name, value in rows.items()})
    weights = weights or Weights()
    before = copy.deepcopy(net.state_dict())
    net.eval()  # batch norms and dropout rest: one person is no batch
    rate = RATE[not net.architecture.lite] if settings.rate is None else settings.rate
    moved = torch.zeros(
        1, 3, requires_grad=True
    )  # of the camera, so that the pose need not make up for its errors
    optimiser = torch.optim.Adam(
        [{"params": net.parameters()}, {"params": [moved], "lr": CAMERA_RATE}], lr=rate
    )
    best, least, first = None, float("inf"), float("nan")
    try:
        for step in range(settings.steps + 1):
            prediction = net(images, hints)
            prediction = replace(prediction, cam=prediction.cam + moved)
            bodies = criterion.bodies(prediction, joints, photo)
            met = reprojection(bodies.keypoints_px, keypoints)
            loss = weights.keypoints * met + settings.shape * prediction.betas.square().mean(1)
            if targets is not None:
                terms = criterion.semantics(bodies.vertices_cam, photo.focal_px, photo.center_px, targets)
                weighed = sum(getattr(weights, name) * value for name, value in terms.items())
                loss = loss + settings.semantics * weighed / fit_scale(bodies.keypoints_px)
            value = float(loss.detach())
            first = value if step == 0 else first
            if value < least:
                least, best = value, Prediction(*(part.detach() for part in vars(prediction).values()))
            if not np.isfinite(value) or float(met.detach()) < settings.stop or step == settings.steps:
                break
            optimiser.zero_grad()
            loss.sum().backward()
            optimiser.step()
    finally:
        net.load_state_dict(before)
    return best or prediction, first, least


def make_criterion(body, semantics: Semantics, clothing_prior: str | None = None) -> Criterion:
    """Of a fit's settings, on the CPU."""
    return Criterion(copy.deepcopy(body), semantics, clothing_prior=clothing_prior)
