"""Datasets of people in photos: SPIN-format npz or EFT json -> samples that the network learns from.

An augmentation is applied alike to the picture, its labels, keypoints, 3D joints and pose: turned or mirrored, they
still belong together (tests hold it).
"""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from fitter.body.spin_joints import SPIN_24
from fitter.config import Optimisation, Semantics
from fitter.energy.losses import CROP_PX
from fitter.energy.semantics import target_in
from fitter.label.label_classes import UNKNOWN, read_classes
from fitter.label.label_files import label_files, mirrored_ids, read_labels, to_photo_size
from fitter.label.person_labels import OTHERS, clean_labels, own_pixels
from fitter.see.camera import MEASURED_SPREAD_DEG, default_camera
from fitter.see.crops import apply_affine, between_pixels, crop_to_photo, cut, pyramid
from fitter.see.keypoints import BODY_25, MIRROR_25, Person, to_body_25
from fitter.see.person_box import keypoint_box
from fitter.see.photos import Photo
from fitter.see.picture import read_image
from priors.checkpoint import cause, read_npz
from priors.simple import down_in_camera
from priors.skeleton import mirror_pose
from regressor.config import Augmentation, Source
from regressor.hmr import limb_input

BOX_TO_SIDE = 200.0  # px of the crop's side per unit of SPIN's `scale`
# SPIN's 24 as keypoints: BODY_25 names, None where BODY_25 has no such point
SPIN_24_KEYPOINTS = (
    "RAnkle", "RKnee", "RHip", "LHip", "LKnee", "LAnkle", "RWrist", "RElbow", "RShoulder", "LShoulder", "LElbow",
    "LWrist", "Neck", None, None, None, None, None, None, "Nose", "LEye", "REye", "LEar", "REar",
)  # fmt: skip
UNTOLD = Optimisation()  # how far a camera may be tilted of which nothing is known
GUESSED = (
    0.9  # of the hidden keypoints whose place is known: told to a network that learns, as a detector guesses
)
NOT_DETECTED = tuple(BODY_25.index(name) for name in ("Neck", "MidHip", "LSmallToe", "RSmallToe"))
_OTHER_SIDE = {"r": "l", "l": "r", "right": "left", "left": "right"}
SPIN_24_MIRROR = tuple(
    index if name.split("_")[0] not in _OTHER_SIDE
    else SPIN_24.index("_".join([_OTHER_SIDE[name.split("_")[0]], *name.split("_")[1:]]))
    for index, name in enumerate(SPIN_24)
)  # fmt: skip


@dataclass(frozen=True)
class People:
    """The people of a dataset, N rows, photo px and metres.

    images, labels, masks: paths, None where there is none; label_classes: what the labels' ids mean; genders: m, f, or
    empty; center_px [N, 2], side_px [N]: the crop; keypoints_px [N, 25, 3]: BODY_25 with confidence; joints_m
    [N, 24, 4]: SPIN's 24 joints, camera axes, with confidence; pose [N, 72] rad, root in camera axes; betas [N, 10];
    has_smpl [N] bool; focal_px [N], principal_px [N, 2], tilt_deg [N, 2]: the camera, pitch and roll as in
    `fitter.see.camera`, nan where the file does not say.
    """

    images: tuple[Path, ...]
    labels: tuple[Path | None, ...]
    masks: tuple[Path | None, ...]
    label_classes: tuple[str, ...]
    genders: tuple[str, ...]
    center_px: np.ndarray
    side_px: np.ndarray
    keypoints_px: np.ndarray
    joints_m: np.ndarray
    pose: np.ndarray
    betas: np.ndarray
    has_smpl: np.ndarray
    focal_px: np.ndarray
    principal_px: np.ndarray
    tilt_deg: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def rows_of_map(self) -> dict[Path | None, list[int]]:
        """Rows by their label map."""
        found = defaultdict(list)
        for row, path in enumerate(self.labels):
            found[path].append(row)
        return found

    def rows(self, index) -> "People":
        pick = [getattr(self, field.name) for field in fields(self)]
        return People(*(tuple(v[i] for i in index) if isinstance(v, tuple) else v[index] for v in pick))


def load_people(source: Source, body: str | None = None) -> People:
    """People of a dataset's file. ValueError: what it lacks; FileNotFoundError: no such file.

    body: name of the body that learns; poses and shapes of a file whose `body_model` it is count, of others as the
    file's `has_smpl` says.
    """
    path = Path(source.file)
    if not path.is_file():
        raise FileNotFoundError(f"{source.name}: expected the dataset's file {path}, found none")
    try:
        rows = _from_eft(path) if path.suffix == ".json" else _from_spin(path)
        _check_rows(rows)
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, ValueError) as error:
        if str(path) in str(error):
            raise
        raise ValueError(
            f"{path}: expected a SPIN-format npz or EFT's json, got {cause(error)}; regressor.check looks at one"
        ) from error
    if body and rows["body_model"] == body:
        rows["has_smpl"] = np.ones(len(rows["imgname"]))
    folder = Path(source.images)
    names = [str(name) for name in rows["imgname"]]
    labels = labels_of(source, names, rows.get("labelname"))
    masks = [folder / str(name) if str(name) else None for name in rows["maskname"]]
    people = People(
        tuple(folder / name for name in names),
        labels,
        tuple(masks),
        (source.label_classes,) * len(names),
        tuple(str(gender) for gender in rows["gender"]),
        rows["center"].astype(np.float64),
        rows["scale"].astype(np.float64) * BOX_TO_SIDE,
        rows["keypoints"],
        rows["S"].astype(np.float64),
        rows["pose"].astype(np.float64),
        rows["shape"].astype(np.float64)[:, :10],
        rows["has_smpl"].astype(bool).reshape(-1),
        *_cameras(rows),
    )
    last = source.first + source.count if source.count else len(people)
    people = people.rows(np.arange(len(people))[source.first : last])
    if source.only_2d:
        unknown = np.zeros(len(people), bool)
        people = replace(people, joints_m=np.zeros_like(people.joints_m), has_smpl=unknown)
    return people


def _cameras(rows: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`People.focal_px`, `principal_px` and `tilt_deg` by what files call them: ours, CLIFF's."""
    count = len(rows["imgname"])
    focal = np.asarray(rows.get("focal_px", rows.get("focal_l", np.full(count, np.nan))), float).reshape(
        count, -1
    )
    centre = np.asarray(rows.get("center_px", np.full((count, 2), np.nan)), float).reshape(count, 2)
    tilt = np.asarray(rows.get("tilt_deg", np.full((count, 2), np.nan)), float).reshape(count, 2)
    return focal.mean(1), centre, tilt


def labels_of(source: Source, names: list[str], own: np.ndarray | None = None) -> tuple[Path | None, ...]:
    """The label map of each row, None without one: the person's own where the file names it and the folder has it
    (`own`, "" for none: what `--export` wrote), else that of the image by the longest end of their paths.

    ValueError: `label_files`'s; maps of single people alone where the file does not say whose they are; some of the
    maps that it names are missing."""
    if not source.labels:
        return (None,) * len(names)
    read_classes(source.label_classes)
    if own is not None:
        maps = tuple(Path(source.labels) / str(name) if str(name) else None for name in own)
        lost = [path for path in maps if path and not path.is_file()]
        if len(lost) < sum(path is not None for path in maps):
            if lost:
                raise ValueError(
                    f"{source.name}: labels {lost[0]}: expected this map, which {source.file} names"
                )
            return maps
    photos = [Photo(Path(source.images) / n, n, str(Path(n).with_suffix(""))) for n in dict.fromkeys(names)]
    found = label_files(photos, source.labels, f"{source.name}: labels")
    if not any(None in own for own in found.values()):
        raise ValueError(
            f"{source.name}: labels {source.labels}: expected maps of whole images, <image>.png, got those of single "
            "people alone"
        )
    return tuple(found.get(name, {}).get(None) for name in names)


def _check_rows(rows: dict) -> None:
    """ValueError: an entry that is not one finite row a person."""
    count = len(rows["imgname"])
    shapes = {"center": (2,), "scale": (), "keypoints": (25, 3), "S": (24, 4), "pose": (72,), "shape": (10,)}
    for name, shape in shapes.items():
        array = np.asarray(rows[name])
        array = array[:, :10] if name == "shape" and array.ndim == 2 else array
        if array.dtype.kind not in "fiu" or array.shape != (count, *shape) or not np.isfinite(array).all():
            raise ValueError(
                f"{name} of {array.dtype} {array.shape}, not finite numbers of {(count, *shape)}"
            )
    for name in ("has_smpl", "maskname", "gender"):
        if len(np.reshape(rows[name], -1)) != count:
            raise ValueError(f"{name} of {np.size(rows[name])} people, imgname of {count}")


def _from_spin(path: Path) -> dict[str, np.ndarray]:
    entries = read_npz(path, "dataset")
    missing = {"imgname", "center", "scale"} - entries.keys()
    if missing:
        raise ValueError(f"{path}: expected SPIN's imgname, center and scale; got {sorted(entries)}")
    count = len(entries["imgname"])
    keypoints = entries.get("openpose", np.zeros((count, 25, 3))).astype(np.float64)
    if "part" in entries:
        bare = ~(keypoints[..., 2] > 0).any(1)
        part = entries["part"].astype(np.float64)
        for row in np.flatnonzero(bare):
            keypoints[row] = to_body_25(part[row], SPIN_24_KEYPOINTS)[0]
    has_smpl = np.ones(count) if "pose" in entries and "shape" in entries else np.zeros(count)
    defaults = {
        "S": np.zeros((count, 24, 4)),
        "pose": np.zeros((count, 72)),
        "shape": np.zeros((count, 10)),
        "has_smpl": has_smpl,
        "maskname": np.full(count, ""),
        "gender": np.full(count, ""),
    }
    named = {"body_model": str(entries.get("body_model", "")), "keypoints": keypoints}
    return defaults | entries | named


def _from_eft(path: Path) -> dict[str, np.ndarray]:
    """EFT's pseudo-ground-truth: rotation matrices, 49 keypoints of which the first 25 are OpenPose's."""
    data = json.loads(path.read_text())
    if not isinstance(data, dict) or "data" not in data:
        raise ValueError(f"{path}: expected EFT's json {{ver, data, meta}}")
    rows = data["data"]
    keypoints = np.array([row["gt_keypoint_2d"] for row in rows], np.float64).reshape(len(rows), -1, 3)
    people = []
    for points in keypoints:  # COCO annotations lie in the last 24, OpenPose's 25 are often empty
        seen = (points[:25, 2] > 0).any()
        people.append(points[:25] if seen else to_body_25(points[25:], SPIN_24_KEYPOINTS)[0])
    matrices = np.array([row["parm_pose"] for row in rows], np.float64).reshape(-1, 3, 3)
    return {
        "imgname": np.array([row["imageName"] for row in rows]),
        "labelname": np.array([row.get("labelName", "") for row in rows], str),
        "maskname": np.full(len(rows), ""),
        "gender": np.full(len(rows), ""),
        "center": np.array([row["bbox_center"] for row in rows], np.float64),
        "scale": np.array([row["bbox_scale"] for row in rows], np.float64),
        "keypoints": np.array(people),
        "S": np.zeros((len(rows), 24, 4)),
        "pose": Rotation.from_matrix(matrices).as_rotvec().reshape(-1, 72),
        "shape": np.array([row["parm_shape"] for row in rows], np.float64),
        "has_smpl": np.array([row.get("smpltype", "smpl") == "smpl" for row in rows]),
        "body_model": (data.get("meta") or {}).get("body_model", ""),
    }


@dataclass(frozen=True)
class Change:
    """One augmentation: mirrored; turned by angle_rad; the crop's side times `scale`; channels times gain [3]."""

    flip: bool = False
    angle_rad: float = 0.0
    scale: float = 1.0
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)


def draw_change(settings: Augmentation, rng: np.random.Generator) -> Change:
    """SPIN's augmentation."""
    most = 2 * settings.rotation_deg
    angle = np.clip(rng.normal(0, settings.rotation_deg), -most, most) if settings.rotation_deg else 0.0
    scale = np.clip(rng.normal(1, settings.scale), 1 - settings.scale, 1 + settings.scale)
    return Change(
        bool(rng.random() < settings.flip),
        0.0 if rng.random() < settings.no_rotation else float(np.radians(angle)),
        float(scale),
        tuple(rng.uniform(1 - settings.noise, 1 + settings.noise, 3).tolist()),
    )


def crop_affine(people: People, row: int, change: Change) -> np.ndarray:
    """[2, 3]: px of the (not yet mirrored) crop -> px of the photo."""
    half = people.side_px[row] * change.scale / 2
    return crop_to_photo(people.center_px[row], half, change.angle_rad, CROP_PX)


def load_sample(
    people: People,
    row: int,
    change: Change,
    semantics: Semantics | None = None,
    dsr_px: int = 0,
    spoil: Callable[[np.ndarray], np.ndarray] | None = None,
    tilted: bool = True,
) -> dict[str, np.ndarray]:
    """One person as the network sees them, float32.

    image [224, 224, 3] in 0..1; keypoints_px [25, 3] in the crop; shown_px: what `spoil` makes of them, as the network
    is told them; limbs: their `limb_input`; to_rays [2, 3]: px of the crop -> (x, y) / z of viewing rays; down [5]:
    `gravity`, as the file says where `tilted`; joints_m [24, 4]; rotations [24, 3, 3]; betas [10]; has_smpl;
    `targets.*`: labels (`energy.semantics.Targets`), zeros for people without, absent without semantics.
    """
    image = read_image(people.images[row])
    to_photo = crop_affine(people, row, change)
    crop = cut(pyramid(image), to_photo, (CROP_PX, CROP_PX))
    pose, joints = turned(people.pose[row], people.joints_m[row], change)
    sample = {
        "image": np.clip(crop / 255 * change.gain, 0, 1),
        "keypoints_px": cropped_keypoints(people.keypoints_px[row], to_photo),
        "joints_m": joints,
        "betas": people.betas[row],
        "has_smpl": np.array(people.has_smpl[row]),
    }
    if change.flip:
        pose = mirror_pose(pose)
        sample["image"] = sample["image"][:, ::-1]
        sample["keypoints_px"] = mirrored_keypoints(sample["keypoints_px"])
        sample["joints_m"] = mirrored_joints(joints)
    sample["shown_px"] = sample["keypoints_px"]
    if spoil:
        placed = cropped_keypoints(people.keypoints_px[row], to_photo, hidden=True)
        sample["shown_px"] = spoil(mirrored_keypoints(placed, hidden=True) if change.flip else placed)
    sample["limbs"] = limb_input(sample["shown_px"])
    sample["to_rays"] = rays_affine(people, row, to_photo, image.shape[:2], change)
    sample["down"] = gravity(people.tilt_deg[row] if tilted else np.full(2, np.nan), change)
    sample["rotations"] = Rotation.from_rotvec(pose.reshape(24, 3)).as_matrix()
    if semantics is not None:
        labels = None
        if people.labels[row] is not None:
            labels = clean_labels(
                cropped_labels(people, row, change, image.shape[:2]), sample["keypoints_px"]
            )
        window = np.array([0.0, 0.0, CROP_PX, CROP_PX])
        for name, value in target_in(window, labels, semantics, dsr_px).items():
            sample[f"targets.{name}"] = value
    return {key: np.array(value, np.float32, order="C") for key, value in sample.items()}


def rays_affine(
    people: People, row: int, to_photo: np.ndarray, size: tuple[int, int], change: Change
) -> np.ndarray:
    """[2, 3]: px of the changed crop -> (x, y) / z of viewing rays, in the axes that `turned` brings the pose to.
    size: height, width of the photo, which say the camera where the file does not."""
    default = default_camera(size[1], size[0])
    focal, centre = people.focal_px[row], people.principal_px[row]
    focal = focal if np.isfinite(focal) else default.fx_px
    centre = centre if np.isfinite(centre).all() else np.array([default.cx_px, default.cy_px])
    c, s = np.cos(change.angle_rad), np.sin(change.angle_rad)
    rays = np.array([[c, s], [-s, c]]) @ (to_photo - np.column_stack([np.zeros((2, 2)), centre])) / focal
    if change.flip:
        rays[:, 2] += CROP_PX * rays[:, 0]
        rays[:, 0] *= -1
        rays[0] *= -1
    return rays


def gravity(tilt_deg: np.ndarray, change: Change) -> np.ndarray:
    """[5]: the direction of gravity in the axes that `turned` brings the pose to, and how far pitch and roll may be
    off, rad: of a camera of known tilt, or (nan) of one that is taken to be level."""
    unknown = UNTOLD.pitch_spread_deg, UNTOLD.roll_spread_deg
    if not np.isfinite(tilt_deg).all():
        return np.array([0.0, 1.0, 0.0, *np.radians(unknown)])
    down = down_in_camera(torch.tensor(np.radians(tilt_deg))[None])[0].numpy()
    down = Rotation.from_euler("z", -change.angle_rad).apply(down)
    return np.array([*(down * [-1 if change.flip else 1, 1, 1]), *np.radians([MEASURED_SPREAD_DEG] * 2)])


def poorer_keypoints(
    keypoints_px: np.ndarray, settings: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    """Keypoints [25, 3] of a crop as a detector might give them: moved by up to settings.keypoints, some lost, most of
    the hidden ones whose place is known guessed, worse; half the time without those that the shipped detector does not
    know."""
    points = keypoints_px.copy()
    hidden = (points[:, 2] <= 0) & points[:, :2].any(1) & (rng.random(len(points)) < GUESSED)
    points[hidden, :2] += rng.normal(0, settings.keypoints * CROP_PX / 2, (hidden.sum(), 2))
    points[hidden, 2] = 1
    if rng.random() < 0.5:
        points[list(NOT_DETECTED), 2] = 0
    points[:, :2] += rng.normal(0, rng.uniform(0, settings.keypoints) * CROP_PX, (len(points), 2))
    points[rng.random(len(points)) < settings.lost, 2] = 0
    return points


def cropped_labels(people: People, row: int, change: Change, size: tuple[int, int]) -> np.ndarray:
    """[224, 224] uint8: the labels of `own_labels` as the changed crop shows them, UNKNOWN beyond the photo."""
    to_crop = between_pixels(crop_affine(people, row, change))
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    ids = cv2.warpAffine(
        own_labels(people, row, size), to_crop, (CROP_PX, CROP_PX), flags=flags, borderValue=UNKNOWN
    )
    return mirrored_ids(ids) if change.flip else ids


def own_labels(people: People, row: int, size: tuple[int, int]) -> np.ndarray:
    """Label map [H, W] of the person's photo, others' labels unknown: by a mask of the person where there is one, else,
    where rows share a map, by the keypoints of all of them (`own_pixels`, as in a fit)."""
    path = people.labels[row]
    ids = to_photo_size(read_labels(path, people.label_classes[row]), size, path)
    mask = people.masks[row]
    if mask is not None and mask.is_file():
        own = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) > 0
        return np.where(own | (ids == 0), ids, UNKNOWN).astype(np.uint8)
    rows = [other for other in people.rows_of_map[path] if (people.keypoints_px[other, :, 2] > 0).any()]
    if len(rows) > 1 and row in rows:
        points = [people.keypoints_px[other] for other in rows]
        everybody = [Person(str(n), p, "openpose", keypoint_box(p)) for n, p in enumerate(points)]
        ids[own_pixels(ids, everybody)[rows.index(row)] == OTHERS] = UNKNOWN
    return ids


def cropped_keypoints(keypoints_px: np.ndarray, to_photo: np.ndarray, hidden: bool = False) -> np.ndarray:
    """Photo px [K, 3] -> crop px [K, 3]; missing ones stay 0, but for their places where `hidden` and known."""
    moved = apply_affine(cv2.invertAffineTransform(to_photo), keypoints_px[:, :2])
    seen = keypoints_px[:, :2].any(1, keepdims=True) if hidden else keypoints_px[:, 2:] > 0
    return np.column_stack([np.where(seen, moved, 0), keypoints_px[:, 2]])


def turned(pose: np.ndarray, joints_m: np.ndarray, change: Change) -> tuple[np.ndarray, np.ndarray]:
    """Pose [72] and joints [24, 4] in camera axes, turned as the picture is."""
    camera = Rotation.from_euler("z", -change.angle_rad)
    pose, joints = pose.copy(), joints_m.copy()
    pose[:3] = (camera * Rotation.from_rotvec(pose[:3])).as_rotvec()
    joints[:, :3] = camera.apply(joints[:, :3])
    return pose, joints


def mirrored_keypoints(keypoints_px: np.ndarray, hidden: bool = False) -> np.ndarray:
    """[25, 3] in the crop -> of the mirrored crop; hidden: as of `cropped_keypoints`."""
    mirrored = keypoints_px[list(MIRROR_25)].copy()
    known = mirrored[:, :2].any(1) if hidden else mirrored[:, 2] > 0
    mirrored[:, 0] = np.where(known, CROP_PX - mirrored[:, 0], 0)
    return mirrored


def mirrored_joints(joints_m: np.ndarray) -> np.ndarray:
    """[24, 4] -> of the mirrored person."""
    return joints_m[list(SPIN_24_MIRROR)] * [-1, 1, 1, 1]
