r"""Is a dataset what it claims to be? Counts, missing files, joints that look swapped, and a picture of 16 samples.

    dsr-check --file dataset.npz --images DIR [--labels DIR [--label-classes atr]]
        [--body SMPL.npz] [--out check.png]

(python -m regressor.check is the same.) Exit code 1 if something looks wrong.
"""

import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import torch

from fitter.body.model import BodyModel, load_body
from fitter.body.spin_joints import HIPS
from fitter.help import command_line
from fitter.label.label_classes import likelier_order
from fitter.label.label_files import read_ids, to_photo_size
from fitter.see.keypoints import BODY_25, MIRROR_25
from fitter.see.picture import read_image
from regressor.config import Source
from regressor.data import SPIN_24_KEYPOINTS, SPIN_24_MIRROR, People, load_people
from regressor.losses import SpinJoints
from regressor.metrics import procrustes
from regressor.pictures import contact_sheet

LOOKED_AT = 500  # people, for what needs their body
SWAPPED = 0.9  # distance as given / with left and right exchanged, from which exchanged looks better
BONES = ((0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8), (9, 10), (10, 11), (2, 3), (8, 9))  # of SPIN's 24


def main(arguments: list[str] | None = None) -> int:
    parser = command_line("dsr-check", __doc__)
    parser.add_argument("--file", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--labels")
    parser.add_argument("--label-classes", default="lip", help="what their ids mean, as fit.py's")
    parser.add_argument("--body")
    parser.add_argument("--out", type=Path, help="PNG of 16 samples, augmented, with keypoints and labels")
    options = parser.parse_args(arguments)
    source = Source(
        Path(options.file).name, options.file, options.images, options.labels, options.label_classes
    )
    try:
        body = load_body(options.body)
        people = load_people(source, body.name)
    except (ValueError, FileNotFoundError) as error:
        print(f"dsr-check: {error}", file=sys.stderr)
        return 2
    facts, troubles = inspect(people, body)
    for name, value in facts.items():
        print(f"{name:44s}{value}")
    for trouble in troubles:
        print(f"LOOKS WRONG  {trouble}")
    if options.out:
        cv2.imwrite(str(options.out), contact_sheet(people)[..., ::-1])
        print(f"16 samples: {options.out}")
    return 1 if troubles else 0


def inspect(people: People, body: BodyModel) -> tuple[dict[str, object], list[str]]:
    """Facts by name, and what looks wrong, in words."""
    seen = people.keypoints_px[..., 2] > 0
    known = people.joints_m[..., 3] > 0
    missing = [path for path in dict.fromkeys(people.images) if not path.is_file()]
    facts = {
        "people": len(people),
        "photos": len(set(people.images)),
        "photos missing": len(missing),
        "people with labels": sum(path is not None for path in people.labels),
        "people with SMPL parameters": int(people.has_smpl.sum()),
        "people with 3D joints": int(known.any(1).sum()),
        "keypoints seen per person": f"{seen.sum(1).mean():.1f} of 25",
        "crop's side, px: least, median, most": " ".join(
            f"{v:.0f}" for v in np.percentile(people.side_px, [0, 50, 100])
        ),
    }
    troubles = [f"{len(missing)} photos are missing, the first {missing[0]}"] if missing else []
    half = people.side_px[:, None, None] / 2
    offset = np.abs(people.keypoints_px[..., :2] - people.center_px[:, None]) / half
    outside = ((offset > 1.2).any(-1) & seen).sum() / max(seen.sum(), 1)
    facts["keypoints far outside their crop"] = f"{100 * outside:.1f} %"
    if outside > 0.1:
        troubles.append(
            "keypoints lie outside their crops: is `scale` in 200 px, `center` in photo px, x first?"
        )
    if np.abs(people.pose).max(initial=0) > 4 * np.pi:
        troubles.append(
            f"pose reaches {np.abs(people.pose).max():.1f}: expected axis-angle in radians, not degrees"
        )
    lengths = [
        np.linalg.norm(people.joints_m[:, a, :3] - people.joints_m[:, b, :3], axis=1) for a, b in BONES
    ]
    if (
        known.any()
        and not 0.1
        < np.median([np.median(one[known.all(1)]) for one in lengths if known.all(1).any()] or 0.3)
        < 0.6
    ):
        troubles.append("3D bones are not between 0.1 and 0.6 long: expected metres, got millimetres?")
    return facts, troubles + swapped(people, body) + mistaken_labels(people)


def mistaken_labels(people: People) -> list[str]:
    """Where the labels' ids look like another order's at the keypoints, of more than half of those looked at."""
    rows = [row for row, path in enumerate(people.labels) if path and people.images[row].is_file()][
        :LOOKED_AT
    ]
    likelier = Counter()
    for row in rows:
        size = read_image(people.images[row]).shape[:2]
        ids = to_photo_size(read_ids(people.labels[row], people.label_classes[row]), size, people.labels[row])
        likelier[likelier_order(ids, people.label_classes[row], [people.keypoints_px[row]])] += 1
    name, count = max(likelier.items(), key=lambda one: one[1], default=("", 0))
    return (
        [f"labels: {count} of {len(rows)} look like {name.upper()}'s ids: label_classes {name}"]
        if name
        else []
    )


def swapped(people: People, body: BodyModel) -> list[str]:
    """Where joints match the SMPL bodies better with left and right exchanged."""
    rows = np.flatnonzero(people.has_smpl)[:LOOKED_AT]
    if not len(rows):
        return []
    regress, found = SpinJoints(body), []
    like = body.template
    with torch.no_grad():
        posed = body(*(torch.tensor(a[rows]).to(like) for a in (people.betas, people.pose)))
        joints = regress(posed).cpu().numpy()
    paired = [i for i, name in enumerate(SPIN_24_KEYPOINTS) if name and i < 12]  # the limbs
    mirrored = [SPIN_24_MIRROR[i] for i in paired]
    given = people.joints_m[rows]
    whole = (given[:, paired, 3] > 0).all(1)
    if whole.any():
        true = given[whole][..., :3]
        as_given, exchanged = (
            np.median(
                np.linalg.norm(
                    procrustes(joints[whole][:, order], true[:, paired]) - true[:, paired], axis=-1
                )
            )
            for order in (paired, mirrored)
        )
        if exchanged < SWAPPED * as_given:
            found.append(
                f"S: {1000 * exchanged:.0f} mm from the SMPL bodies with left and right exchanged, "
                f"{1000 * as_given:.0f} mm as they are"
            )
        centred = joints[whole] - joints[whole][:, HIPS].mean(1, keepdims=True)
        turned = np.median(np.linalg.norm(centred - (true - true[:, HIPS].mean(1, keepdims=True)), axis=-1))
        flipped = np.median(
            np.linalg.norm(centred * [1, -1, -1] - (true - true[:, HIPS].mean(1, keepdims=True)), axis=-1)
        )
        if flipped < SWAPPED * turned:
            found.append(
                "S: nearer to the SMPL bodies turned by 180 degrees about x: expected y down, z forward"
            )
    keypoints = people.keypoints_px[rows]
    order = [BODY_25.index(SPIN_24_KEYPOINTS[i]) for i in paired]
    other = [MIRROR_25[i] for i in order]
    full = (keypoints[:, order, 2] > 0).all(1)
    if full.any():
        flat = joints[full][:, paired, :2]
        flat = flat - flat.mean(1, keepdims=True)
        sides = people.side_px[rows][full][:, None]
        error = []
        for choice in (order, other):
            points = keypoints[full][:, choice, :2]
            points = points - points.mean(1, keepdims=True)
            scale = (points * flat).sum((1, 2)) / (flat**2).sum((1, 2))
            distance = np.linalg.norm(points - scale[:, None, None] * flat, axis=-1)
            error.append(np.median(distance / sides))
        if error[1] < SWAPPED * error[0]:
            found.append(
                f"2D keypoints: {100 * error[1]:.1f} % of the crop from the SMPL bodies with left and right exchanged, "
                f"{100 * error[0]:.1f} % as they are"
            )
    return found


if __name__ == "__main__":
    raise SystemExit(main())
