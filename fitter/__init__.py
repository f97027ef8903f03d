"""Fits of SMPL bodies to photos. What programs use, loaded when first named, so that `import fitter` costs nothing:

Fitter, fits of photos; Fit, one person's; load_fit, load_fits, a run's results; Fits, those as arrays; Sequence,
load_sequence, a person through a clip; FitConfig, all settings; Person, somebody's keypoints; load_body, the body
that the fits are of.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fitter.api import Fitter as Fitter
    from fitter.body.model import load_body as load_body
    from fitter.config import FitConfig as FitConfig
    from fitter.see.keypoints import Person as Person
    from fitter.write.arrays import Fits as Fits
    from fitter.write.arrays import load_fits as load_fits
    from fitter.write.result import Fit as Fit
    from fitter.write.result import load_fit as load_fit
    from fitter.write.sequence import Sequence as Sequence
    from fitter.write.sequence import load_sequence as load_sequence

_HOMES = {
    "Fitter": "fitter.api",
    "Fit": "fitter.write.result",
    "load_fit": "fitter.write.result",
    "Sequence": "fitter.write.sequence",
    "load_sequence": "fitter.write.sequence",
    "Fits": "fitter.write.arrays",
    "load_fits": "fitter.write.arrays",
    "FitConfig": "fitter.config",
    "Person": "fitter.see.keypoints",
    "load_body": "fitter.body.model",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'fitter' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
