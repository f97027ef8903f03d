"""What one process of a fit keeps where a network takes part: it starts the optimiser, or is fine-tuned instead."""

from dataclasses import replace
from functools import cached_property

import numpy as np

from fitter.config import FitConfig
from fitter.run import Session
from regressor.checkpoints import load_hmr
from regressor.config import FROM_NETWORK
from regressor.eft import fine_tuned, make_criterion
from regressor.predict import as_fits, predict, square_of


class StartedSession(Session):
    """The optimiser begins at the network's bodies (--init checkpoint:FILE), and at the same turned half round."""

    starts_turned = True

    def __init__(self, config: FitConfig):
        super().__init__(config)
        self.net = load_hmr(config.init.removeprefix(FROM_NETWORK))

    def initial(self, name, image, people, camera) -> list:
        fits = predict(self.net, image, people, camera, self.body)
        usable = [np.isfinite(fit.vertices_cam).all() and fit.transl_cam[2] > 0 for fit in fits]
        return [vars(fit) if good else None for fit, good in zip(fits, usable, strict=True)]


class EftSession(Session):
    """Each person is fitted by fine-tuning the network (--method eft)."""

    def __init__(self, config: FitConfig):
        super().__init__(config)
        self.net = load_hmr(config.checkpoint)

    @cached_property
    def criterion(self):
        return make_criterion(self.body, self.config.semantics, self.config.clothing_prior)

    @property
    def labelled(self) -> bool:
        return bool(self.config.eft.semantics) and super().labelled

    def fit(self, image_name, name, image, people, labels, start, camera) -> list:
        fits = []
        for person, known in zip(people, labels, strict=True):
            prediction, first, last = fine_tuned(
                self.net, image, person, known, self.criterion, self.config.eft, self.config.weights
            )
            found = as_fits(
                prediction,
                [square_of(person)],
                [person],
                camera,
                self.body,
                image_name,
                self.prior,
                self.config.limits,
            )[0]
            quality = found.quality | {"energy": last, "energy_start": first}
            fits.append(replace(found, name=name, quality=quality, energies={"eft": last},
                                people_in_photo=len(people), configuration=self.configuration))  # fmt: skip
        return fits
