"""`--help` on one screen: what people need to say, in the order in which they need it; `--help-all` has the rest.

What all commands say of themselves and of wrong usage. Imports nothing heavy.
"""

import re
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

WIDTH = 27  # of the options' column

# (heading, ((option as it is typed, what it does), ...)), ...
FIT = (
    ("photos in, results out", (
        ("--images PATH", "a photo, a folder (with all in it), or tars: 'photos-{000..010}.tar'"),
        ("--sequence true, --fps N", "folders of numbered frames are clips, as videos (.mp4) are"),
        ("--out DIR", "for results (out); the same command goes on where it was stopped"),
        ("--people WHO", "all, largest, or a number: so many of the largest"),
    )),
    ("what you know about them", (
        ("--camera PATH", "intrinsics in px, a file or one a photo; else EXIF, else a guess"),
        ("--views PATH", "calibration of several cameras: one body in all photos of an instant"),
        ("--keypoints PATH", "JSON of OpenPose, COCO, MMPose, ...; else the shipped detector's"),
        ("--keypoint-names ORDER", "which is which: coco, crowdpose, ..., or a YAML file"),
        ("--labels DIR", "clothing labels, <photo>.png; else the shipped parser's"),
        ("--label-classes ORDER", "what their ids mean: lip, cihp, atr, pascal, sapiens, or YAML"),
        ("--ignore DIR", "masks of what is not to be judged, named as labels"),
    )),
    ("bodies and networks", (
        ("--body FILE", "SMPL's .pkl or .npz; else the open body"),
        ("--parser WHO", "none: keypoints and priors alone, twice as fast; or your FILE.onnx"),
        ("--detector FILE", "boxes about people, .json, or a detector, .onnx; else the shipped"),
        ("--pose-prior PRIOR", "gmm or vposer"),
        ("--init DIR", "begin at results of these photos; network; or checkpoint:FILE"),
        ("--method METHOD", "optimize, network, eft (by the shipped network, or --checkpoint FILE)"),
    )),
    ("what is written", (
        ("--overlay, --report false", "without pictures, without report.html"),
        ("--save-mesh KIND", "obj, ply, glb; rigged: with skeleton; scene: all in one; bvh: clips"),
        ("--export FORMAT", "a dataset: spin, eft, bedlam, camerahmr, 4dhumans, humandata, ..."),
        ("--rejection RULE", "whom it leaves out: valid (whoever is not), none, spin, eft, ..."),
        ("--decisions FILE", "whom you rejected in report.html is left out too"),
        ("--overwrite true", "fit again what is there already"),
    )),
    ("many photos", (
        ("--jobs N, --batch N", "processes (0: one a core); photos fitted together"),
        ("--device DEVICE", "auto, cpu or cuda"),
        ("--shard K/N", "every N-th photo, as one of N tasks that share --out"),
        ("--cluster URL", "dask://... or ray://..."),
    )),
    ("all else, with defaults: --help-all", (
        ("--config NAME", "a preset (spin_weights, published, ...) or a YAML file of settings"),
        ("--weights.pose 5", "any number of the method by its name; in YAML: weights: {pose: 5}"),
    )),
)  # fmt: skip


def short(usage: str, about: str, groups) -> str:
    """The text of `--help`; groups: as FIT."""
    lines = [f"usage: {usage}", "", about]
    for heading, options in groups:
        lines += ["", heading]
        lines += [f"  {option:<{WIDTH}}{what}" for option, what in options]
    return "\n".join(lines) + "\n"


def whole(usage: str, full: str) -> str:
    """The text of `--help-all`, of jsonargparse's; with hyphens, as options may be typed."""
    options = re.sub(r"--[a-z][\w.]*", lambda found: found[0].replace("_", "-"), full)
    return f"usage: {usage}\n\n" + options.partition("\n\n")[2]


def settings_named(groups) -> set[str]:
    """Names of the settings that a short help speaks of, "weights.pose" too."""
    options = (option for _, options in groups for option, _ in options)
    return {name.replace("-", "_") for option in options for name in re.findall(r"--([a-z][\w.-]*)", option)}


def called(script: str) -> str:
    """What this command was started as: its installed name (dsr-fit), else the script's."""
    name = Path(sys.argv[0]).name if sys.argv else ""
    return name if name.startswith("dsr-") else script


class _OneLine(ArgumentParser):
    """argparse's, but what is wrong is one line."""

    def error(self, message: str):
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def command_line(prog: str, about: str | None) -> ArgumentParser:
    """The parser of a small command; about: its module's docstring. Wrong usage ends the program in one line, exit code
    2."""
    return _OneLine(
        prog=prog, description=about, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False
    )
