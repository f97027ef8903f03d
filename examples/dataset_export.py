"""A dataset of your photos: fits a folder, leaves out who is doubtful, and writes SPIN's format; reads it back.

python examples/dataset_export.py [PHOTOS] [OUT] [any options of fit.py]
"""

import sys
from pathlib import Path

import numpy as np

from fitter import load_fits
from fitter.cli import main as fit_folder
from fitter.write.export import export_fits

PHOTOS = Path(__file__).parent / "photos"


def main(photos: str = str(PHOTOS), out: str = "out", *options: str) -> None:
    if fit_folder(["--images", photos, "--out", out, *options]) not in (0, 3):  # 3: some photos were skipped
        raise SystemExit(1)
    fits = load_fits(out)
    sure = fits.valid & (fits.quality["reprojection_pct"] < 3)  # any rule of your own
    print(
        f"{len(fits)} people, {fits.valid.sum()} valid, {sure.sum()} within 3 %: {', '.join(fits.names[sure])}"
    )
    with np.load(export_fits(out, photos, "spin", rejection="valid")) as dataset:
        for name in ("imgname", "pose", "shape", "part"):
            print(name, dataset[name].shape)


if __name__ == "__main__":
    main(*sys.argv[1:])
