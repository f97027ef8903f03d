"""`python fit.py`, composed: the optimiser, and the methods in which a network takes part.

--init network begins the optimiser at the network's bodies beside where it begins by itself, --method eft fine-tunes
the network on each person, --method network takes its answer as it is. Each makes a `fitter.method.Method`. The network
is the shipped one, or a checkpoint's.
"""

import math
import sys
from dataclasses import replace

from fitter.cli import main as fit_main
from fitter.cli import read_config, run
from fitter.config import FitConfig
from fitter.options import network_in


def main(arguments: list[str] | None = None) -> int:
    """Exit codes are the fitter's (`fitter.cli.main`)."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        config = read_config(words)
    except ValueError:
        return fit_main(words)  # which says what is wrong
    return run(config, method_of(config))


def method_of(config: FitConfig):
    """What makes the Method that a configuration asks for; None for the optimiser alone."""
    if config.method != "optimize":
        return {"eft": fine_tuning, "network": network_alone}[config.method]
    return begun_by_network if network_in(config) else None


def begun_by_network(config: FitConfig, objective):
    """The optimiser begins at the network's bodies, and once more where it begins without: who ends lower counts."""
    from fitter.method import optimizer
    from regressor.checkpoints import load_hmr
    from regressor.predict import predict

    net = load_hmr(network_in(config), config.mean_params)

    def begin(view) -> list:
        if view.trouble:
            return []
        fits = predict(net, view.image_rgb, list(view.people), view.camera, objective, config.limits)
        return [fit if usable(fit) else None for fit in fits]

    return replace(
        optimizer(config, objective), begin=begin, first=lambda seen: lower_of_both(objective, seen, config)
    )


def lower_of_both(objective, seen: list, config: FitConfig) -> list:
    """Fits to keypoints alone begun at each sighting's `start`, or without it where that ends at less energy."""
    from fitter.people import fit_keypoints

    alone = fit_keypoints(objective, [replace(one, start=None) for one in seen], config)
    begun = fit_keypoints(objective, seen, config)
    return [min(both, key=ended_at) for both in zip(begun, alone, strict=True)]


def ended_at(fit) -> float:
    """A fit's energy, infinite where it is no number."""
    energy = fit.quality["energy"]
    return energy if math.isfinite(energy) else math.inf


def network_alone(config: FitConfig, objective):
    """The network's bodies."""
    from fitter.method import Method
    from regressor.checkpoints import load_hmr
    from regressor.predict import predict

    net = load_hmr(network_in(config), config.mean_params)

    def first(seen: list) -> list:
        return [
            predict(net, one.image_rgb, [one.person], one.camera, objective, config.limits, one.image)[0]
            for one in seen
        ]

    return Method(begin=nowhere, first=first, clothe=None)


def fine_tuning(config: FitConfig, objective):
    """Each person is fitted by fine-tuning the network (EFT)."""
    from fitter.method import Method, labelled
    from regressor.checkpoints import load_hmr
    from regressor.eft import fine_tuned, make_criterion
    from regressor.predict import as_fits, square_of

    net = load_hmr(network_in(config), config.mean_params)
    semantics = objective.semantics.settings if objective.semantics else config.semantics
    criterion = make_criterion(objective.body, semantics, config.clothing_prior)

    def fit(one):
        prediction, first, last = fine_tuned(net, one, criterion, config.eft, config.weights)
        found = as_fits(prediction, [square_of(one.person)], [one], objective, config.limits)[0]
        return replace(
            found, quality=found.quality | {"energy": last, "energy_start": first}, energies={"eft": last}
        )

    both = bool(config.eft.semantics) and labelled(config)
    return Method(
        begin=nowhere,
        first=lambda seen: [fit(one) for one in seen],
        clothe=(lambda seen, first: [fit(one) for one in seen]) if both else None,
    )


def nowhere(view) -> list:
    """No body to begin from, for anybody."""
    return [None] * len(view.people)


def usable(fit) -> bool:
    """Whether a network's answer is a body before the camera."""
    from fitter.write.result import is_finite

    return is_finite(fit) and fit.transl_cam[2] > 0
