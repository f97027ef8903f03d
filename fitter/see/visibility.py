"""What of a person a photo shows: which keypoints are to be believed, and which joints of a body were seen.

The shipped detector's networks always answer with a whole person. What lies beyond the photo they place at its edge, as
surely as what they see. Of 36 people cut off at 360 places (`benchmarks/people.py` has others), joints that came out
beyond the edge missed by 4 to 7 % of the person's height (medians by confidence); of those within 1 % of the box's side
of it most belong beyond; from 4 % on hardly more of the sure ones than elsewhere. Of joints far inside whose confidence
was 0.15 to 0.3 more than half belong beyond.
"""

import numpy as np

from fitter.see.keypoints import BODY_25, DERIVED, Person
from fitter.see.limbs import standing_height_px
from fitter.see.person_box import BOX_CONFIDENCE, box_side
from priors.skeleton import JOINT_NAMES

EDGE = 0.04  # of the box's longer side: from there on a detected joint is believed as anywhere
DOUBT = (0.1, 0.3)  # the detector's confidence below which a joint says nothing, above which all it says
SCALE_CONFIDENCE = 0.1  # of bones that say how large somebody is
OUTSIDE, GUESSED, SEEN = 0, 1, 2  # of a joint
_ARM = {"shoulder": "Shoulder", "collar": "Shoulder", "elbow": "Elbow", "wrist": "Wrist", "hand": "Wrist"}
_LEG = {"hip": "Hip", "knee": "Knee", "ankle": "Ankle"}
_SHOULDERS, _HIPS = {"LShoulder", "RShoulder", "Neck"}, {"LHip", "RHip", "MidHip"}


def _evidence() -> list[list[set[str]]]:
    """Of each of JOINT_NAMES, sets of keypoints: it is seen where one of every set is."""
    found = {"pelvis": [_HIPS], "neck": [_SHOULDERS], "head": [{"Nose", "LEye", "REye", "LEar", "REar"}]}
    found |= {f"spine{number}": [_SHOULDERS, _HIPS] for number in (1, 2, 3)}
    for side, letter in (("left", "L"), ("right", "R")):
        found |= {f"{side}_{joint}": [{letter + name}] for joint, name in (_ARM | _LEG).items()}
        found[f"{side}_foot"] = [{letter + name for name in ("BigToe", "SmallToe", "Heel")}]
    return [found[name] for name in JOINT_NAMES]


EVIDENCE = _evidence()


def within_photo(person: Person, size_px: tuple[int, int]) -> np.ndarray:
    """Keypoints [25, 3] px, those of the detector less sure the nearer they lie to the photo's edge, 0 beyond it.

    size_px: width, height."""
    keypoints = person.keypoints_px
    if person.source != "detector":
        return keypoints
    keypoints = keypoints.copy()
    inside = np.minimum(keypoints[:, :2], np.subtract(size_px, keypoints[:, :2])).min(1)
    keypoints[:, 2] *= np.clip(inside / (EDGE * box_side(person.box_px)), 0, 1)
    for name in person.derived:
        sides = [BODY_25.index(side) for side in DERIVED[name]]
        keypoints[BODY_25.index(name), 2] = keypoints[sides, 2].min()
    keypoints[keypoints[:, 2] <= 0] = 0
    return keypoints


def believed(confidence: np.ndarray, source: str) -> np.ndarray:
    """How much the energy believes keypoints of a confidence, both 0..1: DOUBT for the detector's."""
    if source != "detector":
        return confidence
    return confidence * np.clip((confidence - DOUBT[0]) / (DOUBT[1] - DOUBT[0]), 0, 1)


def scale_px(person: Person) -> float:
    """How large the person is in the photo: the longer side of their box, or their height if they stood, if that is
    more, as it is of people cut off. What keypoints mean is uncertain by a share of this."""
    if not person.keypoints_px[:, 2].any():  # in a frame of a clip that does not show them
        return box_side(person.box_px)
    return max(box_side(person.box_px), standing_height_px(person.keypoints_px, SCALE_CONFIDENCE))


def joint_states(confidence: np.ndarray, joints_px: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """SEEN, GUESSED or OUTSIDE for each of a body's joints, [24] uint8.

    confidence: [25] of `within_photo`; joints_px: [24, 2], not finite where behind the camera; size_px: width, height.
    """
    surely = {name for name, one in zip(BODY_25, confidence, strict=True) if one > BOX_CONFIDENCE}
    seen = np.array([all(surely & names for names in one) for one in EVIDENCE])
    inside = ((joints_px >= 0) & (joints_px < size_px)).all(1)
    return np.where(seen, SEEN, np.where(inside, GUESSED, OUTSIDE)).astype(np.uint8)


def vertices_seen(states: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How far each vertex belongs to joints that were seen, [V] in 0..1. states: [24]; weights: [V, 24] of skinning."""
    return weights @ (states == SEEN)
