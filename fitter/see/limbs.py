"""The body parts that a person's 2D keypoints span, as capsules, and how far a pixel is from each.

For telling left from right in label maps, and one person's pixels from another's, before any body is fitted.
"""

import numpy as np

from fitter.see.keypoints import BODY_25
from fitter.see.person_box import BOX_CONFIDENCE

PARTS = ("head", "torso", "left-arm", "right-arm", "left-leg", "right-leg")
FAR = np.inf  # distance to a part that the keypoints do not show
# fmt: off
# part, ends (BODY_25, "L" and "R" left off: both sides), length and radius as shares of standing height
# (SMPL's mean body; a length of 0: too variable in the picture to measure the person by)
SEGMENTS = (
    ("head", "Ear", "Ear", 0.09, 0.050), ("head", "Nose", "Ear", 0, 0.050),
    ("head", "Nose", "Nose", 0, 0.050),
    ("torso", "Shoulder", "Shoulder", 0.20, 0.030), ("torso", "Neck", "MidHip", 0.31, 0.080),
    ("torso", "Hip", "Hip", 0, 0.050),
    ("arm", "Shoulder", "Elbow", 0.155, 0.032), ("arm", "Elbow", "Wrist", 0.150, 0.026),
    ("leg", "Hip", "Knee", 0.225, 0.050), ("leg", "Knee", "Ankle", 0.240, 0.034),
    ("leg", "Ankle", "BigToe", 0, 0.026), ("leg", "Heel", "BigToe", 0, 0.026),
    ("leg", "Ankle", "Ankle", 0, 0.030),
)
# fmt: on
NECK_SHARE = 0.75  # of the way from the head's middle to the keypoint Neck, which lies below the collar
HAND_SHARE = 0.60  # of the forearm, beyond the wrist: to the fingers' middle joints
NECK_RADIUS, HAND_RADIUS = 0.032, 0.032
FACE_POINTS = ("Nose", "LEye", "REye", "LEar", "REar")


def standing_height_px(keypoints_px: np.ndarray, min_confidence: float = BOX_CONFIDENCE) -> float:
    """The person's scale: how tall they would stand in this picture, from the bones seen in it.

    keypoints_px: [25, 3]. A bone seen at an angle is too short, so it is the second largest of the bones'
    estimates; where fewer than two are seen, that of the one or the longer side of the keypoints' extent, whichever is
    more. A bone counts if both ends have more than `min_confidence`. ValueError: no keypoint at all.
    """
    estimates = []
    for _, a, b, length, _ in SEGMENTS:
        for start, end in _ends(a, b):
            p, q = keypoints_px[BODY_25.index(start)], keypoints_px[BODY_25.index(end)]
            if length and min(p[2], q[2]) > min_confidence:
                estimates.append(np.linalg.norm(p[:2] - q[:2]) / length)
    if len(estimates) >= 2:
        return float(max(np.sort(estimates)[-2], 1.0))
    seen = keypoints_px[keypoints_px[:, 2] > 0, :2]
    if not len(seen):
        raise ValueError("standing_height_px: expected a keypoint of confidence > 0, got none")
    return float(max((seen.max(0) - seen.min(0)).max(), *estimates, 1.0))


def limb_capsules(
    keypoints_px: np.ndarray, min_confidence: float = BOX_CONFIDENCE
) -> list[tuple[int, np.ndarray, np.ndarray, float]]:
    """(index into PARTS, start [2] px, end [2] px, radius px) of all that the keypoints [25, 3] of more than
    `min_confidence` span. Toes and heels that lie better at the other foot's ankle are left out."""
    points = {name: keypoints_px[i] for i, name in enumerate(BODY_25) if keypoints_px[i, 2] > min_confidence}
    for name, pair in {"Neck": ("LShoulder", "RShoulder"), "MidHip": ("LHip", "RHip")}.items():
        if name not in points and all(side in points for side in pair):
            points[name] = (points[pair[0]] + points[pair[1]]) / 2
    for name in ("BigToe", "SmallToe", "Heel"):
        if _swapped(points, name):
            points = {key: point for key, point in points.items() if key[1:] != name}
    height = standing_height_px(keypoints_px)
    capsules = []
    for part, a, b, _, radius in SEGMENTS:
        for start, end in _ends(a, b):
            if start in points and end in points:
                name = part if part in PARTS else ("left-" if start[0] == "L" else "right-") + part
                ends = points[start][:2], points[end][:2]
                capsules.append((PARTS.index(name), *ends, radius * height))
    face = [points[name][:2] for name in FACE_POINTS if name in points]
    if face and "Neck" in points:
        middle = np.mean(face, 0)
        end = middle + NECK_SHARE * (points["Neck"][:2] - middle)
        capsules.append((PARTS.index("head"), middle, end, NECK_RADIUS * height))
    for side, part in (("L", "left-arm"), ("R", "right-arm")):
        if side + "Wrist" in points:
            wrist = points[side + "Wrist"][:2]
            along = HAND_SHARE * (wrist - points[side + "Elbow"][:2]) if side + "Elbow" in points else 0
            capsules.append((PARTS.index(part), wrist, wrist + along, HAND_RADIUS * height))
    return capsules


def part_distances(
    points_px: np.ndarray, keypoints_px: np.ndarray, min_confidence: float = BOX_CONFIDENCE
) -> tuple[np.ndarray, np.ndarray]:
    """How far points are from each part of one person.

    points_px: [N, 2]; keypoints_px: [25, 3]. Returns two [N, 6], columns as PARTS, infinite for parts not
    seen: distance from the part's axis in units of its radius (which part is nearest: a hand before a thigh
    is the hand), and distance beyond the part's surface in standing heights (how far out; <= 0 inside).
    """
    points = np.asarray(points_px, np.float32)
    relative = np.full((len(points), len(PARTS)), FAR, np.float32)
    beyond = relative.copy()
    height = standing_height_px(keypoints_px)
    for part, start, end, radius in limb_capsules(keypoints_px, min_confidence):
        distance = segment_distance(points, start, end)
        relative[:, part] = np.minimum(relative[:, part], distance / np.float32(radius))
        beyond[:, part] = np.minimum(beyond[:, part], (distance - np.float32(radius)) / np.float32(height))
    return relative, beyond


def segment_distance(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distance of points [N, 2] from the segment between start [2] and end [2]: [N]."""
    x, y = (points - start.astype(points.dtype)).T
    along_x, along_y = (end - start).astype(points.dtype)
    squared = float(along_x * along_x + along_y * along_y)
    share = np.clip((x * along_x + y * along_y) / squared, 0, 1) if squared > 0 else 0
    return np.hypot(x - share * along_x, y - share * along_y)


def _swapped(points: dict[str, np.ndarray], name: str) -> bool:
    """Whether the left and right of a foot's points lie better at the other ankle: detectors mix them up."""
    if not all(side + n in points for side in "LR" for n in (name, "Ankle")):
        return False
    cost = {
        (a, b): np.linalg.norm(points[a + name][:2] - points[b + "Ankle"][:2]) for a in "LR" for b in "LR"
    }
    return cost["L", "R"] + cost["R", "L"] < cost["L", "L"] + cost["R", "R"]


def _ends(a: str, b: str) -> list[tuple[str, str]]:
    """BODY_25 names of a segment: both sides where it is paired, left to right where it crosses the body."""
    paired = [name not in BODY_25 for name in (a, b)]
    if a == b and paired[0]:
        crosses = a in ("Ear", "Shoulder", "Hip")
        return [("L" + a, "R" + a)] if crosses else [("L" + a, "L" + a), ("R" + a, "R" + a)]
    return list(dict.fromkeys(((s if paired[0] else "") + a, (s if paired[1] else "") + b) for s in "LR"))
