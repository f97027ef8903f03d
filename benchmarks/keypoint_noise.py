"""How wrong are the shipped detector's keypoints on real photos? What synthetic keypoints are made noisy by.

    python -m benchmarks.keypoint_noise --data DIR --photos DIR             # four-camera frames, 40 street photos
    python -m benchmarks.keypoint_noise --data DIR --photos DIR --quick     # 4 frames, 4 photos

Three comparisons, all in per cent of the longer side of the person's box:
(a) with the projected joints of the four-camera frames of `benchmarks.multiview` (24 pictures of one man);
(b) with OpenPose's keypoints of the same pictures, which the data brings along;
(c) with itself when the photo is shifted by some px, scaled by 0.9 and 1.1, or mirrored (street photos, by --skip none
    of the hundred that `labelled_photos` tests on).

sigma: 1.48 MAD of one coordinate, after the joint's constant offset (median over both sides and all pictures, in the
axes of the torso) is taken off and reported apart. OpenPose's keypoints count from a confidence of 0.3 up. Truth in
(a) errs too. The cameras are in step (their OpenPose keypoints fit the projected joints best at no delay), but a
constant offset per camera of up to 15 px remains; the median of OpenPose minus projection, which our detector has no
part in, is taken off. The rest is parted by the three-cornered hat: var(detector) = (var(a) + var(b) - var(OpenPose -
projection)) / 2. It is too large by the covariance of OpenPose and the joints made from it, too small by what both
networks get wrong alike. An outlier is further than 4 sigma from its joint's offset, in (a) and (b) at once: then it
is the detector's own. Outliers of (c) are jumps; what the detector gets wrong every time, (c) cannot see. Their size
is the rms of one coordinate. Dropped: confidence below 0.3. Hidden: a bone of the true skeleton, as thick as the
limb, lies before the joint; a face is hidden if the man is seen from behind (the faces are pixelated besides).
"""

import argparse
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from benchmarks.multiview import View, faces_camera, read_views, the_man
from benchmarks.report import Table, write_results
from fitter.see.detect import Detector
from fitter.see.keypoint_files import find_keypoints
from fitter.see.keypoints import BODY_25, MIRROR_25, Person, mirror_keypoints
from fitter.see.person_box import BOX_CONFIDENCE, overlap
from fitter.see.photos import list_photos
from fitter.see.picture import read_image

GROUPS = {
    "face": ("Nose", "LEye", "REye", "LEar", "REar"),
    **{
        name.lower() + "s": ("L" + name, "R" + name) for name in ("Shoulder", "Elbow", "Wrist", "Hip", "Knee")
    },
    "ankles": ("LAnkle", "RAnkle"),
    "feet": ("LBigToe", "RBigToe", "LHeel", "RHeel"),
}
JITTER_OUTLIER_PCT = 3.0  # of the box: far beyond the jitter, which has heavy tails
OUTLIER = 4.0  # sigmas: a normal pair of coordinates is further with a probability of 0.03 %
CONFIDENCE_EDGES = (0.0, 0.3, 0.5, 0.65, 1.01)
# fmt: off
NEIGHBOURS = (
    ("Shoulder", "Elbow"), ("Elbow", "Wrist"), ("Shoulder", "Hip"), ("Hip", "Knee"), ("Knee", "Ankle"),
    ("Ankle", "Heel"), ("Heel", "BigToe"),
)
TWINS = ("Shoulder", "Hip", "Knee", "Ankle")
BONES = (  # ends without a side, same side; radius m
    ("Shoulder", "Elbow", 0.04), ("Elbow", "Wrist", 0.035), ("Hip", "Knee", 0.06), ("Knee", "Ankle", 0.045),
    ("Shoulder", "Hip", 0.08),
)
# fmt: on
HIDES_M = 0.12  # so much nearer to the camera: the joint's own limb does not hide it
SHIFTS_PX = ((5, 3), (-8, 6))
SCALES = (0.9, 1.1)


@dataclass(frozen=True)
class Errors:
    """Differences of N people's keypoints.

    error_pct [N, 25, 2]: x, y in the picture, per cent of the box's longer side; known [N, 25] bool: both sides have
    the keypoint; confidence [N, 25] of the first side; axes [N, 25, 2, 2]: rows are unit vectors in the picture,
    outward from the torso's axis (away from the twin of the other side) and down the torso.
    """

    error_pct: np.ndarray
    known: np.ndarray
    confidence: np.ndarray
    axes: np.ndarray

    @cached_property
    def offsets_pct(self) -> dict[str, np.ndarray]:
        """Constant offset [2], outward and down, by joint name without its side: the median of all pictures."""
        along = np.einsum("nkac,nkc->nka", self.axes, self.error_pct)
        offsets = {}
        for index, name in enumerate(BODY_25):
            pair = sorted({index, MIRROR_25[index]})
            if self.known[:, pair].any():
                offsets[_sideless(name)] = np.median(along[:, pair][self.known[:, pair]], 0)
        return offsets

    @cached_property
    def residual_pct(self) -> np.ndarray:
        """[N, 25, 2] errors less their constant offsets; x, y in the picture."""
        constant = np.array([self.offsets_pct.get(_sideless(name), (0, 0)) for name in BODY_25])
        return self.error_pct - np.einsum("nkac,ka->nkc", self.axes, constant)

    def residuals(self, group: str, among: np.ndarray | None = None) -> np.ndarray:
        """[M, 2] of a group's known keypoints, of those `among` [N, 25] bool where given."""
        chosen = self.known if among is None else self.known & among
        return self.residual_pct[:, of_group(group)][chosen[:, of_group(group)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of the four-camera frames")
    parser.add_argument("--photos", required=True, help="folder of street photos")
    parser.add_argument("--skip", type=int, default=109)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    views = read_views(options.data)
    views = views[::6] if options.quick else views
    photos = [photo.path for photo in list_photos(options.photos)][options.skip :: 2][
        : 4 if options.quick else options.count
    ]
    detector = Detector()
    projected, openpose, between, hidden = compare_frames(views, Path(options.data), detector)
    jitter = compare_variants(photos, detector)
    report(projected, openpose, between, hidden, jitter, "keypoint_noise" + "_quick" * options.quick)


def compare_frames(views: list[View], data: Path, detector: Detector):
    """Errors of the detector against projected joints and against OpenPose, of OpenPose against projected joints, and
    which keypoints are hidden [N, 25]."""
    men = [the_man(view, detector(read_image(view.photo))) for view in views]
    others = [find_keypoints(view.photo, data / "keypoints2d")[0].keypoints_px for view in views]
    truths = [project(view) for view in views]
    for camera in sorted({view.name[:5] for view in views}):
        mine = [i for i, view in enumerate(views) if view.name.startswith(camera)]
        apart = [others[i][:, :2] - truths[i][:, :2] for i in mine]
        seen = [(others[i][:, 2] > BOX_CONFIDENCE) & (truths[i][:, 2] > 0) for i in mine]
        offset = np.median(np.concatenate([a[s] for a, s in zip(apart, seen, strict=True)]), 0)
        for i in mine:
            truths[i] = truths[i] + [*offset, 0]
    hidden = np.stack([hidden_joints(v, m.keypoints_px) for v, m in zip(views, men, strict=True)])
    keypoints = [man.keypoints_px for man in men]
    trusted = [other * (other[:, 2:] > BOX_CONFIDENCE) for other in others]
    pairs = ((keypoints, truths), (keypoints, trusted), (others, truths))
    return *(errors(men, first, second) for first, second in pairs), hidden


def project(view: View) -> np.ndarray:
    """The true joints in the picture, lens distortion included: [25, 3] px and 1, or 0 where the data has none.

    Neck and MidHip are left out: OpenPose BODY_25B's are other points."""
    keypoints = np.zeros((25, 3))
    camera = view.camera
    k = np.array([[camera.fx_px, 0, camera.cx_px], [0, camera.fy_px, camera.cy_px], [0, 0, 1]])
    for name, point in view.joints_cam.items():
        if name in BODY_25 and name not in ("Neck", "MidHip") and np.isfinite(point).all():
            px = cv2.projectPoints(point[None], np.zeros(3), np.zeros(3), k, view.distortion)[0].reshape(2)
            keypoints[BODY_25.index(name)] = [*px, 1]
    return keypoints


def hidden_joints(view: View, keypoints_px: np.ndarray) -> np.ndarray:
    """[25] bool: a limb or the trunk of the true skeleton lies before the joint; the face, if seen from behind."""
    joints = view.joints_cam
    samples, radii = [], []
    for start, end, radius in BONES:
        for side in "LR":
            share = np.linspace(0, 1, 30)[:, None]
            samples.append(joints[side + start] + share * (joints[side + end] - joints[side + start]))
            radii += [radius] * 30
    neck, hips = ((joints["L" + n] + joints["R" + n]) / 2 for n in ("Shoulder", "Hip"))
    samples.append(neck + np.linspace(0, 1, 30)[:, None] * (hips - neck))
    points, radii = np.concatenate(samples), np.array(radii + [0.1] * 30)
    hidden = np.zeros(25, bool)
    for name, joint in joints.items():
        if name in BODY_25:
            at = points * (joint[2] / points[:, 2:])  # moved along their rays to the joint's depth
            near = np.linalg.norm(at[:, :2] - joint[:2], axis=1) < radii * joint[2] / points[:, 2]
            hidden[BODY_25.index(name)] = (near & (points[:, 2] < joint[2] - HIDES_M)).any()
    hidden[[BODY_25.index(name) for name in GROUPS["face"]]] = not faces_camera(keypoints_px)
    return hidden


def compare_variants(photos: list[Path], detector: Detector) -> Errors:
    """How the largest person's keypoints scatter round their median over small changes of the photo.

    One row per photo and variant; errors are scaled up by sqrt(n / (n - 1)), for the median is made of them."""
    rows = []
    for photo in photos:
        image = read_image(photo)
        people = detector(image)
        if not people:
            continue
        found = [people[0]]
        for changed, back in variants(image):
            candidates = [(overlap(people[0].box_px, back_box(p.box_px, back)), p) for p in detector(changed)]
            best = max(candidates, key=lambda pair: pair[0], default=(0.0, None))
            if best[0] > 0.5:
                found.append(Person(**{**vars(best[1]), "keypoints_px": back(best[1].keypoints_px)}))
        keypoints = np.stack([person.keypoints_px for person in found])
        seen = (keypoints[..., 2] > 0).all(0)
        middle = np.median(keypoints, 0)
        middle[:, 2] = seen
        grown = middle[:, :2] + np.sqrt(len(found) / max(len(found) - 1, 1)) * (
            keypoints[..., :2] - middle[:, :2]
        )
        grown = np.concatenate([grown, keypoints[..., 2:]], -1)
        rows.append(errors([people[0]] * len(found), list(grown), [middle] * len(found)))
    return Errors(
        *(np.concatenate([getattr(row, name) for row in rows]) for name in Errors.__dataclass_fields__)
    )


def variants(image: np.ndarray):
    """(changed photo, function that takes its keypoints [25, 3] back to the photo) of every small change."""
    height, width = image.shape[:2]
    for x, y in SHIFTS_PX:
        moved = cv2.warpAffine(
            image, np.array([[1.0, 0, x], [0, 1, y]]), (width, height), borderMode=cv2.BORDER_REPLICATE
        )
        yield moved, lambda k, x=x, y=y: k - [x, y, 0]
    for scale in SCALES:
        size = round(width * scale), round(height * scale)
        factors = size[0] / width, size[1] / height
        scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        yield scaled, lambda k, f=factors: k / [*f, 1]
    yield np.ascontiguousarray(image[:, ::-1]), lambda k: mirror_keypoints(k, width)


def back_box(box_px: np.ndarray, back) -> np.ndarray:
    """A box [4] of a changed photo in the photo."""
    corners = np.zeros((25, 3))
    corners[:, :2], corners[:, 2] = box_px[:2], 1
    corners[1::2, :2] = box_px[2:]
    points = back(corners)[:, :2]
    return np.concatenate([points.min(0), points.max(0)])


def errors(people: list[Person], first: list[np.ndarray], second: list[np.ndarray]) -> Errors:
    """first - second, keypoints [25, 3] of each person, in per cent of the person's box."""
    a, b = np.stack(first), np.stack(second)
    boxes = np.stack([person.box_px for person in people])
    side = (boxes[:, 2:] - boxes[:, :2]).max(1)
    seen = np.stack([person.keypoints_px for person in people])[..., :2]
    down = seen[:, BODY_25.index("MidHip")] - seen[:, BODY_25.index("Neck")]
    down = down / np.maximum(np.linalg.norm(down, axis=1, keepdims=True), 1e-9)
    across = np.stack([down[:, 1], -down[:, 0]], 1)
    outward = np.einsum("nkc,nc->nk", seen - seen[:, list(MIRROR_25)], across)
    outward = np.where(outward < 0, -1, 1)[..., None] * across[:, None]
    return Errors(
        error_pct=100 * (a[..., :2] - b[..., :2]) / side[:, None, None],
        known=(a[..., 2] > 0) & (b[..., 2] > 0),
        confidence=a[..., 2],
        axes=np.stack([outward, np.broadcast_to(down[:, None], outward.shape)], 2),
    )


def _sideless(name: str) -> str:
    return name if MIRROR_25[BODY_25.index(name)] == BODY_25.index(name) else name[1:]


def robust_sigma(values: np.ndarray) -> float:
    """1.48 times the median of absolute values (any shape) about 0; nan of none."""
    return float(1.4826 * np.median(np.abs(values))) if values.size else float("nan")


def of_group(group: str) -> list[int]:
    return [BODY_25.index(name) for name in GROUPS[group]]


def hat_sigma(projected: Errors, openpose: Errors, between: Errors, group: str) -> tuple[float, float]:
    """Three-cornered hat: sigma of the detector and of the projected joints, per cent; 0 where the variance comes out
    negative. Only keypoints that all three have."""
    all_three = projected.known & openpose.known
    a, b, c = (robust_sigma(e.residuals(group, all_three)) ** 2 for e in (projected, openpose, between))
    return float(np.sqrt(max((a + b - c) / 2, 0))), float(np.sqrt(max((a + c - b) / 2, 0)))


def outliers(projected: Errors, openpose: Errors, group: str) -> np.ndarray:
    """[M] bool of the group's keypoints that all three have: beyond OUTLIER sigmas in both comparisons."""
    both = projected.known & openpose.known
    found = [e.residuals(group, both) for e in (projected, openpose)]
    return np.all([np.linalg.norm(r, axis=1) > OUTLIER * robust_sigma(r) for r in found], 0)


def correlation(found: Errors, first: str, second: str) -> float:
    """Of two joints' residuals in the same picture, x with x and y with y; each cut at OUTLIER sigmas."""
    columns = [BODY_25.index(first), BODY_25.index(second)]
    pair = found.residual_pct[:, columns][found.known[:, columns].all(1)]
    if len(pair) < 4:
        return float("nan")
    a, b = (
        np.clip(v, -OUTLIER * robust_sigma(v), OUTLIER * robust_sigma(v)) for v in pair.transpose(1, 0, 2)
    )
    return float((a * b).mean() / np.sqrt((a**2).mean() * (b**2).mean()))


def report(projected: Errors, openpose: Errors, between: Errors, hidden, jitter: Errors, name: str) -> None:
    """Writes the tables and figures."""
    three = (projected, openpose, jitter)
    spreads = [
        (group, *(robust_sigma(e.residuals(group, openpose.known)) for e in (projected, openpose, between)),
         robust_sigma(jitter.residuals(group)), *hat_sigma(projected, openpose, between, group))
        for group in GROUPS
    ]  # fmt: skip
    offsets = [
        (joint, *offset, *openpose.offsets_pct.get(joint, (np.nan, np.nan)))
        for joint, offset in projected.offsets_pct.items()
    ]
    pairs = [
        (f"{a} - {b}", *(float(np.mean([correlation(e, s + a, s + b) for s in "LR"])) for e in three))
        for a, b in NEIGHBOURS
    ]
    pairs += [(f"left - right {t}", *(correlation(e, "L" + t, "R" + t) for e in three)) for t in TWINS]
    drops = [drop_row(group, projected, between, hidden, jitter) for group in GROUPS]
    sides = ("(a) projected", "(b) OpenPose", "(c) itself")
    tables = [
        Table(
            "sigma of one coordinate, % of the box",
            (
                "group",
                *sides[:2],
                "OpenPose - projected",
                sides[2],
                "detector, by the hat",
                "projected, by the hat",
            ),
            _rounded(spreads),
        ),
        Table(
            "Outliers, and the rms of their coordinates",
            (
                "group",
                "of (a) and (b) at once",
                "size, %",
                f"of (c): over {JITTER_OUTLIER_PCT:g} %",
                "size, %",
            ),
            [outlier_row(group, projected, openpose, jitter) for group in GROUPS],
        ),
        Table(
            "Dropped: confidence below 0.3",
            ("group", "frames, visible", "frames, hidden", "frames, OpenPose", "street photos"),
            drops,
        ),
        Table(
            "Constant offsets, %: detector minus the other, outward from the torso's axis and down it",
            ("joint", "(a) outward", "(a) down", "(b) outward", "(b) down"),
            _rounded(offsets),
        ),
        Table(
            "Length of the residual by the detector's confidence, %: median / 90th percentile",
            ("confidence", *(cell for side in sides for cell in (side, "n"))),
            confidence_rows(three),
        ),
        Table(
            "Visible and hidden keypoints of the frames",
            ("keypoints", "n", "mean confidence", "median residual (a), %", "90th percentile, %"),
            hidden_rows(projected, hidden),
        ),
        Table("Correlation of residuals in the same picture", ("keypoints", *sides), _rounded(pairs)),
        Table(
            "Shift that all keypoints of a picture share: sigma of the mean residual, %",
            ("comparison", "found", "of independent errors"),
            _rounded([(side, *shared_shift(e)) for side, e in zip(sides, three, strict=True)]),
        ),
    ]
    limbs = [row[5] for row in spreads if row[0] not in ("face", "feet")]
    figures = {
        "keypoint_noise_limb_sigma_pct": (float(np.mean(limbs)), "% of the box"),
        "keypoint_noise_jitter_sigma_pct": (float(np.mean([row[4] for row in spreads])), "% of the box"),
    }
    write_results(name, __doc__, figures, tables)


def outlier_row(group: str, projected: Errors, openpose: Errors, jitter: Errors) -> tuple:
    own = outliers(projected, openpose, group)
    sizes = projected.residuals(group, projected.known & openpose.known)[own]
    shaken = jitter.residuals(group)
    far = np.linalg.norm(shaken, axis=1) > JITTER_OUTLIER_PCT
    return group, f"{own.sum()} of {len(own)}", _rms(sizes), f"{far.sum()} of {len(far)}", _rms(shaken[far])


def drop_row(group: str, projected: Errors, between: Errors, hidden: np.ndarray, jitter: Errors) -> tuple:
    index = of_group(group)
    ours, dark = projected.confidence[:, index], hidden[:, index]
    rest = between.confidence[:, index], jitter.confidence[:, index]
    return group, *(share(confidence) for confidence in (ours[~dark], ours[dark], *rest))


def _rounded(rows: list[tuple]) -> list[tuple]:
    return [(row[0], *(round(float(value), 2) for value in row[1:])) for row in rows]


def _rms(values: np.ndarray) -> str:
    return f"{np.sqrt(np.mean(values**2)):.1f}" if values.size else "-"


def share(confidence: np.ndarray) -> str:
    """Share of keypoints below BOX_CONFIDENCE, in words."""
    return (
        f"{100 * (confidence < BOX_CONFIDENCE).mean():.0f} % of {confidence.size}" if confidence.size else "-"
    )


def confidence_rows(comparisons: tuple[Errors, ...]) -> list[tuple]:
    """Length of the residual, and number, by bin of confidence, of the grouped keypoints."""
    grouped = np.isin(np.arange(25), [k for group in GROUPS for k in of_group(group)])
    rows = []
    for low, high in pairwise(CONFIDENCE_EDGES):
        cells = []
        for found in comparisons:
            chosen = found.known & (found.confidence >= low) & (found.confidence < high) & grouped
            length = np.linalg.norm(found.residual_pct[chosen], axis=-1)
            two = np.percentile(length, [50, 90]) if len(length) else np.full(2, np.nan)
            cells += [f"{two[0]:.2f} / {two[1]:.2f}", len(length)]
        rows.append((f"{low:g} - {min(high, 1):g}", *cells))
    return rows


def hidden_rows(found: Errors, hidden: np.ndarray) -> list[tuple]:
    face = np.isin(np.arange(25), of_group("face"))
    rows = []
    for title, columns in (("face", face), ("limbs", ~face)):
        for word, dark in (("visible", False), ("hidden", True)):
            chosen = found.known & (hidden == dark) & columns
            if chosen.any():
                length = np.linalg.norm(found.residual_pct[chosen], axis=-1)
                values = found.confidence[chosen].mean(), np.median(length), np.percentile(length, 90)
                rows.append((f"{title}, {word}", len(length), *(round(float(v), 2) for v in values)))
    return rows


def shared_shift(found: Errors) -> tuple[float, float]:
    """sigma of a picture's mean residual (each cut at OUTLIER sigmas), and what independent errors would make of it."""
    index = [k for group in GROUPS for k in of_group(group)]
    residual, known = found.residual_pct[:, index], found.known[:, index]
    limit = OUTLIER * robust_sigma(residual[known])
    cut = np.clip(residual, -limit, limit) * known[..., None]
    count = known.sum(1)[:, None]
    independent = np.sqrt(((cut**2).sum(1) / count**2).mean())
    return float(np.sqrt(((cut.sum(1) / count) ** 2).mean())), float(independent)


if __name__ == "__main__":
    main()
