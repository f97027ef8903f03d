"""The shipped keypoint detector: a photo -> people, with onnxruntime on the CPU.

NanoDet-Plus finds the people (`fitter/see/boxes.py`; another function may). For each, MoveNet Thunder gives 17 COCO
joints, of a crop and of the mirror image of another, and BlazePose heavy gives them again, with feet and 3D landmarks.
The networks look for one person and would take the neighbour: where the box of somebody about as large or larger
reaches into a crop, all outside of the person's own box is black. Where the opinions agree they are averaged; where
not, the one with more support is taken and trusted less. Each person is kept once (`fitter/see/each_once.py`); where
the networks took somebody else for the person in a box, they look again with that one painted black.
Networks, origins and licences: `fitter/models/README.md`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from fitter.see.boxes import Boxes, FileBoxes, FindBoxes, NetworkBoxes, load_boxes
from fitter.see.crops import CROP, apply_affine, crop_to_photo, cut_alone, pyramid, rotation
from fitter.see.each_once import MIRROR_17, Skeleton, each_once, is_another, place
from fitter.see.keypoints import COCO_17, Person, to_body_25
from fitter.see.limbs import limb_capsules
from fitter.see.networks import Network
from fitter.see.person_box import box_side, keypoint_box, overlap, padded_box, widened

MODELS = Path(__file__).parents[1] / "models"
JOINT_NETWORKS = ("movenet_thunder", "blazepose_heavy")
FOUND_MARGIN = (
    0.075  # of a found box's longer side: `padded_box` of the joints is wider by this (median of photos)
)
OWN_MARGIN = 0.06  # of a box's longer side: how far the person may reach beyond it
RIVAL = 0.6  # longer side / that of the person's box, from which the networks may take somebody else for the person
SEEN_JOINT, SEEN_JOINTS = 0.15, 5  # a joint's least score, and how many of them make a box
SAME_BOX, MAX_GROWTH = 0.8, 1.3  # overlap and ratio of sides, within which a crop may be centred anew
MIN_TILT = np.pi / 6  # of the torso, from which a crop is turned
MIN_PRESENCE = 0.3  # BlazePose's own doubt: below, it is not asked further and not believed
THUNDER_MARGIN = 1.2  # crop's side / box's longer side
BLAZE_MARGIN = 1.25  # crop's half side / distance of its centre and top landmark
SAME_CROP = 0.15  # change of BlazePose's crop up to which a second look tells nothing new, see `crop_change`
BLAZE_REACH, BLAZE_BOX_REACH = 1.1, 0.95  # first top, in distances of the farthest joint, in half boxes
HEATMAP_STRIDE, HEATMAP_RADIUS, HEATMAP_MIN = 4, 3, 0.5  # px, cells, probability
AGREE = 0.05  # distance of the networks' joints, in box sides, that halves the confidence
DISAGREE = 0.06  # distance above which one of them must be wrong
VOTES = (0.5, 0.5, 1.0)  # Thunder, Thunder mirrored, BlazePose
OUTSIDE = 0.02  # a joint this far outside the photo, in box sides, was not seen
BLAZE_TO_THUNDER = 0.75  # BlazePose's confidence times this compares with Thunder's
# fmt: off
BLAZE_17 = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)  # its index of each COCO_17 joint
# fmt: on
SHOULDERS, HIPS, ANKLES = (5, 6), (11, 12), (15, 16)  # in COCO_17, left and right
BLAZE_FEET = {"LBigToe": 31, "LHeel": 29, "RBigToe": 32, "RHeel": 30}  # it has no small toes
BLAZE_CENTRE, BLAZE_TOP = 33, 34  # the two landmarks that say where to crop next


@dataclass(frozen=True)
class Landmarks:
    """BlazePose's view of one person.

    landmarks_px [39, 3]: x, y in photo px, confidence 0..1 (visibility x presence); world [39, 3] m in camera
    axes, origin between the hips; presence: probability of a person in the crop.
    """

    landmarks_px: np.ndarray
    world: np.ndarray
    presence: float


@dataclass(frozen=True)
class Subject:
    """Whom to look at: the photo's `pyramid`, the person's box [4] px and everybody else's."""

    levels: list[np.ndarray]
    box: np.ndarray
    others: list[np.ndarray]

    def crop(self, to_photo: np.ndarray) -> np.ndarray:
        rivals = [other for other in self.others if box_side(other) > RIVAL * box_side(self.box)]
        return cut_alone(self.levels, to_photo, widened(self.box, OWN_MARGIN), rivals)


class Detector:
    """Detector()(image_rgb) -> people. The networks are loaded at the first photo and kept.

    find_boxes: who is in the photo, of `fitter.see.boxes`; the shipped network if not given. Deterministic: the same
    photo gives the same people, bit for bit, on one machine.
    """

    def __init__(self, find_boxes: FindBoxes | None = None, models: str | Path = MODELS):
        self._find_boxes = find_boxes or NetworkBoxes()
        self._thunder, self._blaze = (Network(Path(models) / f"{name}.onnx") for name in JOINT_NETWORKS)

    def __call__(self, image_rgb: np.ndarray, name: str = "") -> list[Person]:
        """image_rgb: [H, W, 3] uint8; name: the photo's, for boxes from a file -> the people in it, largest first; so
        are their ids, "0", "1", ...

        Nobody found: an empty list. ValueError: another kind of array.
        """
        return self.find_people(image_rgb, name)[0]

    def find_people(
        self, image_rgb: np.ndarray, name: str = "", place_box: Callable | None = None
    ) -> tuple[list[Person], list[str]]:
        """The people, and in words what looked like a person at first and was refused.

        place_box: a file's box [4] px of the photo -> in this image, where it is not the photo itself (`Frame.box`).
        """
        if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8:
            raise ValueError(
                f"detector: expected [H, W, 3] uint8 RGB, got {image_rgb.shape} {image_rgb.dtype}"
            )
        levels = pyramid(image_rgb)
        found = self._boxes(levels, name, place_box)
        boxes = [box for _, box in found]
        looks = [
            self._look(image_rgb.shape, Subject(levels, boxes[row], others(boxes, row)))
            for row in range(len(boxes))
        ]
        seen = [Skeleton(box, score, joints) for (score, box), (joints, _) in zip(found, looks, strict=True)]
        kept, refused = each_once(seen)
        for row in [row for row, why in refused.items() if why.first is not None]:
            hidden = pyramid(without(image_rgb, seen[refused[row].first].joints))
            look = self._look(image_rgb.shape, Subject(hidden, boxes[row], others(boxes, row)))
            if is_another(look[0], [seen[other].joints for other in kept]):
                looks[row], seen[row] = look, replace(seen[row], joints=look[0])
                kept.append(row)
                del refused[row]
        people = [_as_person(seen[row].score, *looks[row]) for row in kept]
        people.sort(key=lambda person: -float(np.prod(person.box_px[2:] - person.box_px[:2])))
        people = [replace(person, id=str(row)) for row, person in enumerate(people)]
        return people, [f"{place(boxes[row])}: {refused[row].why}" for row in sorted(refused)]

    def boxes(self, image_rgb: np.ndarray, name: str = "", place_box: Callable | None = None) -> Boxes:
        """Scores and boxes [4] px alone, of `find_people`'s arguments: a sixth of its time."""
        return self._boxes(pyramid(image_rgb), name, place_box)

    def _boxes(self, levels: list[np.ndarray], name: str, place_box: Callable | None) -> Boxes:
        found = self._find_boxes(levels, name)
        if place_box and isinstance(self._find_boxes, FileBoxes):
            found = [(score, place_box(box)) for score, box in found]
        return found

    def _look(self, image_shape: tuple[int, ...], subject: Subject) -> tuple[np.ndarray, Landmarks]:
        """Both networks' joints, [21, 3] px of `fuse`, and BlazePose's landmarks."""
        joints, crop_box = self.thunder_joints(subject)
        landmarks = self.blaze_landmarks(subject, joints, crop_box)
        return fuse(joints, landmarks, box_side(crop_box), image_shape), landmarks

    def thunder_joints(self, subject: Subject) -> tuple[np.ndarray, np.ndarray]:
        """Thunder's joints, [2, 17, 3] (px, px, score), of a crop about the person's box, and, turned back, of the
        mirror image of the crop that this first look has centred on the person; and the box [4] px of the latter.

        A person who leans is looked at twice more, in crops that stand them upright.
        """
        box = widened(subject.box, FOUND_MARGIN)
        first = self._thunder_look(subject, box, 0.0, mirror=False)
        seen = first[:, 2] > SEEN_JOINT
        centred = padded_box(first[seen]) if seen.sum() >= SEEN_JOINTS else box
        growth = box_side(centred) / box_side(box)
        if overlap(centred, box) > SAME_BOX and 1 / MAX_GROWTH < growth < MAX_GROWTH:
            box = centred
        angle = tilt(first)
        if angle:
            first = self._thunder_look(subject, box, angle, mirror=False)
        return np.stack([first, self._thunder_look(subject, box, angle, mirror=True)]), box

    def blaze_landmarks(self, subject: Subject, joints: np.ndarray, box: np.ndarray) -> Landmarks:
        """BlazePose on a crop that Thunder's joints suggest; if it asks for quite another one, on that."""
        crop = first_blaze_crop(vote(joints, np.array(VOTES[:2]), box_side(box)), box)
        found = self._blaze_look(subject, crop)
        asked = found.landmarks_px[[BLAZE_CENTRE, BLAZE_TOP], :2]
        if found.presence < MIN_PRESENCE or crop_change(crop, asked) < SAME_CROP:
            return found
        return self._blaze_look(subject, asked)

    def _thunder_look(self, subject: Subject, box: np.ndarray, angle: float, mirror: bool) -> np.ndarray:
        half = THUNDER_MARGIN * box_side(box) / 2
        to_photo = crop_to_photo((box[:2] + box[2:]) / 2, half, angle)
        crop = subject.crop(to_photo)
        out = self._thunder(image=(crop[:, ::-1] if mirror else crop)[None])["keypoints"][0]
        out = out.astype(np.float64)
        if mirror:
            out = out[MIRROR_17]
            out[:, 1] = 1 - out[:, 1]
        return np.column_stack([apply_affine(to_photo, out[:, 1::-1] * CROP), out[:, 2]])

    def _blaze_look(self, subject: Subject, crop: np.ndarray) -> Landmarks:
        centre, up = crop[0], crop[1] - crop[0]
        angle = np.arctan2(up[0], -up[1])
        to_photo = crop_to_photo(centre, BLAZE_MARGIN * np.linalg.norm(up), angle)
        out = self._blaze(image=subject.crop(to_photo)[None])
        raw = out["landmarks"][0].astype(np.float64)
        xy = apply_affine(to_photo, sharpen(raw[:, :2], out["heatmap"][0]))
        world = out["world"][0].astype(np.float64)
        world[:, :2] = world[:, :2] @ rotation(angle).T  # its metres are in the turned crop's axes
        confidence = raw[:, 3] * raw[:, 4]
        return Landmarks(np.column_stack([xy, confidence]), world, float(out["presence"][0, 0]))


def others(boxes: list[np.ndarray], row: int) -> list[np.ndarray]:
    return boxes[:row] + boxes[row + 1 :]


def without(image_rgb: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """The photo with the limbs, trunk and head of a skeleton [21, 3] px painted black."""
    picture = image_rgb.copy()
    body, _ = to_body_25(joints, COCO_17 + tuple(BLAZE_FEET))
    for _, *ends, radius in limb_capsules(body):
        start, end = (tuple(int(edge) for edge in point) for point in ends)
        cv2.line(picture, start, end, (0, 0, 0), max(1, round(2 * radius)))
    return picture


def make_detector(choice: str) -> Detector:
    """'shipped', or whose boxes are taken instead of the shipped ones: `fitter.see.boxes.load_boxes`."""
    return Detector(load_boxes(choice))


def fuse(
    joints: np.ndarray, landmarks: Landmarks, side_px: float, image_shape: tuple[int, ...]
) -> np.ndarray:
    """Thunder's joints [2, 17, 3] and BlazePose's landmarks -> [21, 3] px: COCO_17, then BLAZE_FEET.

    side_px: longer side of the person's box. Hips are Thunder's, whose definition is COCO's (BlazePose's lie
    further in). A foot is as sure as BlazePose is right about its ankle. Without BlazePose (presence too
    low): no feet, and half the confidence. Confidence is 0 outside the photo.
    """
    blaze = landmarks.landmarks_px[list(BLAZE_17)] * [1, 1, BLAZE_TO_THUNDER]
    feet = landmarks.landmarks_px[list(BLAZE_FEET.values())]
    if landmarks.presence < MIN_PRESENCE:
        blaze, feet = blaze * [1, 1, 0], feet * [1, 1, 0]
    body = vote(np.concatenate([joints, blaze[None]]), np.array(VOTES), side_px)
    hips = list(HIPS)
    body[hips, :2] = vote(joints[:, hips], np.array(VOTES[:2]), side_px)[:, :2]
    for side, foot in ((ANKLES[0], slice(0, 2)), (ANKLES[1], slice(2, 4))):
        apart = np.linalg.norm(blaze[side, :2] - body[side, :2]) / side_px
        feet[foot, 2] *= BLAZE_TO_THUNDER / (1 + (apart / AGREE) ** 2)
    keypoints = np.concatenate([body, feet])
    height, width = image_shape[:2]
    beyond = np.maximum(-keypoints[:, :2], keypoints[:, :2] - [width, height]).max(1)
    keypoints[beyond > OUTSIDE * side_px, 2] = 0
    return keypoints


def vote(opinions: np.ndarray, votes: np.ndarray, side_px: float) -> np.ndarray:
    """N opinions on the same K joints, [N, K, 3] (px, px, confidence) with votes [N] -> one, [K, 3].

    The opinion with the greatest support (its own and its neighbours' votes x confidence) is averaged with
    those no further from it than DISAGREE. Confidence: the mean over all votes, each falling with its
    distance d from the outcome as 1 / (1 + (d / AGREE)^2), d in box sides: who dissents counts against.
    """
    xy, weight = opinions[..., :2], votes[:, None] * opinions[..., 2]
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=-1) / side_px
    leader = (weight[None] / (1 + (apart / AGREE) ** 2)).sum(1).argmax(0)
    near = apart[leader, :, np.arange(xy.shape[1])].T <= DISAGREE
    share = np.where(near, weight, 0) + 1e-9 * (np.arange(len(votes))[:, None] == leader)
    outcome = (share[..., None] * xy).sum(0) / share.sum(0)[:, None]
    distance = np.linalg.norm(xy - outcome, axis=-1) / side_px
    confidence = (weight / (1 + (distance / AGREE) ** 2)).sum(0) / votes.sum()
    return np.column_stack([outcome, confidence])


def tilt(joints: np.ndarray) -> float:
    """Angle [rad] that stands a leaning or lying torso upright in the crop; 0 below MIN_TILT or if unseen.

    joints [17, 3] px. Thunder is surest of upright people.
    """
    torso = list(SHOULDERS + HIPS)
    up = joints[list(SHOULDERS), :2].mean(0) - joints[list(HIPS), :2].mean(0)
    angle = float(np.arctan2(up[0], -up[1]))
    return angle if abs(angle) > MIN_TILT and (joints[torso, 2] > SEEN_JOINT).all() else 0.0


def first_blaze_crop(joints: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Joints [17, 3], box [4] px -> centre and top of BlazePose's first crop, [2, 2] px.

    From hips towards shoulders, as far as the farthest joint; upright about the box if the torso is not seen.
    """
    seen = joints[:, 2] > SEEN_JOINT
    hips, shoulders = (joints[list(pair), :2].mean(0) for pair in (HIPS, SHOULDERS))
    torso = np.linalg.norm(shoulders - hips)
    if seen[list(HIPS + SHOULDERS)].all() and torso > 0:
        reach = np.linalg.norm(joints[seen, :2] - hips, axis=1).max()
        return np.stack([hips, hips + (shoulders - hips) / torso * reach * BLAZE_REACH])
    centre = (box[:2] + box[2:]) / 2
    return np.stack([centre, centre - [0, BLAZE_BOX_REACH * box_side(box) / 2]])


def crop_change(crop: np.ndarray, other: np.ndarray) -> float:
    """How far apart two of BlazePose's crops ([2, 2] px, centre and top) are: the largest of shift in distances of
    centre and top, log of the ratio of those distances, and turn in rad."""
    up, up_other = (complex(*(one[1] - one[0])) for one in (crop, other))
    if not up or not up_other:
        return np.inf
    turned = np.log(up_other / up)  # its real part is the log of the ratio, its imaginary part the angle
    shift = float(np.linalg.norm(other[0] - crop[0])) / abs(up)
    return max(shift, abs(turned.real), abs(turned.imag))


def _as_person(score: float, keypoints: np.ndarray, landmarks: Landmarks) -> Person:
    body, derived = to_body_25(keypoints, COCO_17 + tuple(BLAZE_FEET))
    believed = landmarks.presence >= MIN_PRESENCE
    return Person(
        id="",
        keypoints_px=body,
        source="detector",
        box_px=keypoint_box(body),
        landmarks_3d=landmarks.world[:33] if believed else None,
        score=float(np.clip(score, 0, 1)),
        derived=derived,
    )


def sharpen(points: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Landmarks [N, 2] in crop px, moved to the centroid of their heatmap's 7 x 7 cells where that is sure.

    heatmap: [N, 64, 64] probabilities at stride 4. As MediaPipe's RefineLandmarksFromHeatmap.
    """
    refined = points.copy()
    for i, cell in enumerate(np.floor(points[:, ::-1] / HEATMAP_STRIDE).astype(int)):
        if (cell < 0).any() or (cell >= heatmap.shape[1:]).any():
            continue
        low = np.maximum(cell - HEATMAP_RADIUS, 0)
        window = heatmap[i, low[0] : cell[0] + HEATMAP_RADIUS + 1, low[1] : cell[1] + HEATMAP_RADIUS + 1]
        if window.max() >= HEATMAP_MIN:
            rows, columns = np.indices(window.shape)
            centroid = np.array([(window * columns).sum(), (window * rows).sum()]) / window.sum()
            refined[i] = HEATMAP_STRIDE * (centroid + low[::-1])
    return refined
