"""Whether keypoints from a file can be of the photo, and of a body: else they are refused, with the likely cause.

Keypoints that were made on a larger, a smaller or an unrotated copy of the photo, or that are shares of its size, give
bodies that fit them perfectly and have nothing to do with the photo.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from fitter.see.keypoints import BODY_25, Person, confident
from fitter.see.person_box import BOX_CONFIDENCE, box_iou, person_extent

NORMALISED_PX = 2.0  # no person is within so many px of the photo's origin
BEYOND = 0.02  # of the photo's longer side: so far may a tool miss the edge
MOST_BEYOND = 0.25  # share of a photo's keypoints: networks place few surely beyond the edge
FAR = 10  # times the photo's longer side
SAME_SIZE = 0.01  # sizes that differ by less are the same
LYING = 0.8  # cosine of the angle between people and where unrotated ones point
LEAST_EXTENT_PX = 2.0
SURELY_SOMEBODY = 0.5  # score of a detector's box that says so
ELSEWHERE = 0.5  # IoU below which a box is of something else: see `elsewhere`
SCATTERED = 1.9  # times the shortest tree between the points: see `scattered`
LEAST_POINTS = 8  # that say whether they make a body
# EXIF's orientation -> where up lies in the picture as it is stored
STORED_UP = {3: (0, 1), 4: (0, 1), 5: (-1, 0), 6: (-1, 0), 7: (1, 0), 8: (1, 0)}
UPPER = ("Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder")
LOWER = ("LHip", "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle")
ABOVE = {"Nose": "Neck", "MidHip": "Neck"}  # the next keypoint towards the neck
CHAINS = ("Nose Eye Ear", "Neck Shoulder Elbow Wrist", "MidHip Hip Knee Ankle BigToe SmallToe", "Ankle Heel")
for _names in (
    [name if name in BODY_25 else side + name for name in c.split()] for c in CHAINS for side in "LR"
):
    ABOVE |= dict(zip(_names[1:], _names, strict=False))
BONES = {BODY_25.index(end): BODY_25.index(start) for end, start in ABOVE.items()}


@dataclass(frozen=True)
class Found:
    """What a file says of one photo. left_out: whom it names that cannot be fitted, and why, in words; size_px: width
    and height of the picture that it is about, None if it does not say; where: the file, for messages."""

    people: list[Person]
    left_out: list[str] = field(default_factory=list)
    size_px: tuple[float, float] | None = None
    where: str = "keypoints"


def of_this_photo(found: Found, size_px: tuple[int, int], orientation: int = 1) -> Found:
    """Leaves out those who are hardly there: one keypoint, or all on a spot.

    size_px: width, height of the photo, upright; orientation: by EXIF, as it is stored. ValueError: the keypoints are
    not of this photo as it is seen upright, with the likely cause.
    """
    refuse_other_size(found, size_px, orientation)
    sure = [person.keypoints_px[person.keypoints_px[:, 2] > BOX_CONFIDENCE, :2] for person in found.people]
    points = np.concatenate([*sure, np.zeros((0, 2))])
    got = f"the photo's size is {size_px[0]} x {size_px[1]} px"
    if len(points) > 1 and np.abs(points).max() <= NORMALISED_PX and min(size_px) > 4 * NORMALISED_PX:
        span = "-1..1" if points.min() < 0 else "0..1"
        raise ValueError(
            f"{found.where}: expected px, got all within {points.min():.2g}..{points.max():.2g}, and {got}. They look "
            f"normalised to {span}: multiply them by the photo's width and height"
            + (" (after adding 1 and halving)" if points.min() < 0 else "")
        )
    if share_beyond(points, size_px) > MOST_BEYOND:
        stored = size_px[::-1] if orientation in (5, 6, 7, 8) else size_px
        turned = stored != size_px and share_beyond(points, stored) <= MOST_BEYOND
        raise ValueError(
            f"{found.where}: expected keypoints in the photo, got {share_beyond(points, size_px):.0%} beyond its "
            f"edges, up to x, y = {points[:, 0].max():.0f}, {points[:, 1].max():.0f}, and {got}. "
            + (
                UNROTATED
                if turned
                else "They look as if made on a picture of another size: scale them to this one"
            )
        )
    up = STORED_UP.get(orientation)
    leans = [lean for lean in map(_upwards, found.people) if lean is not None]
    if up and leans and all(np.dot(lean, up) > LYING for lean in leans):
        where = {(0, 1): "down", (-1, 0): "left", (1, 0): "right"}[up]
        raise ValueError(
            f"{found.where}: everybody's head points {where} in the upright photo. {UNROTATED}. If people do lie so, "
            "save the photo upright, without the EXIF tag"
        )
    people, left_out = [], list(found.left_out)
    for person in found.people:
        reason = hardly_there(person, size_px)
        people += [] if reason else [person]
        left_out += [f"{found.where}, person {person.id}: {reason}"] if reason else []
    return replace(found, people=people, left_out=left_out)


def elsewhere(people: list[Person], found: list[tuple[float, np.ndarray]], size_px: tuple[int, int]) -> str:
    """What speaks against a photo's keypoints altogether: nobody is where a detector surely sees somebody; else "".

    found: scores and boxes [4] px; size_px: width, height. Of 65 photos the best of whose people was right by 0.6 at
    least; keypoints of a picture 1.4 or half times as large, or with x and y exchanged, come to 0.3 to 0.55.
    """
    boxes = [box for score, box in found if score >= SURELY_SOMEBODY]
    extents = [person_extent(person.keypoints_px) for person in people]
    inside = [np.clip(extent.reshape(2, 2), 0, size_px).reshape(4) for extent in extents]
    best = max((box_iou(one, box) for one in inside for box in boxes), default=1.0)
    if best >= ELSEWHERE:
        return ""
    return (
        f"nobody's keypoints are where the detector sees people in this photo (IoU {best:.2f} < {ELSEWHERE}): they may "
        "be another picture's, or this one's at another size"
    )


UNROTATED = (
    "They look as if made on the photo as it is stored, unrotated: its EXIF tag turns it, so detect again on the "
    "upright photo"
)


def orientation_of(source) -> int:
    """EXIF's orientation, 1..8, of a photo (a path or a file object); 1, as it is stored, if it says none."""
    from PIL import Image
    from PIL.ExifTags import Base

    try:
        with Image.open(source) as image:
            orientation = image.getexif().get(Base.Orientation, 1)
    except Exception:  # damaged tags: Pillow's readers raise many types
        return 1
    return orientation if orientation in range(1, 9) else 1


def refuse_other_size(found: Found, size_px: tuple[int, int], orientation: int = 1) -> None:
    """ValueError: a file says that a photo has another size (width, height) than it has."""
    said = found.size_px
    if said is None or all(abs(a - b) <= max(1, SAME_SIZE * b) for a, b in zip(said, size_px, strict=True)):
        return
    ratio = [a / b for a, b in zip(said, size_px, strict=True)]
    cause = "another picture, or a part of it"
    if orientation in (5, 6, 7, 8) and all(abs(a - b) <= 1 for a, b in zip(said[::-1], size_px, strict=True)):
        cause = UNROTATED
    elif abs(ratio[0] - ratio[1]) <= SAME_SIZE * ratio[0]:
        cause = f"divide the keypoints by {ratio[0]:.4g}, and the size in the file"
    raise ValueError(
        f"{found.where}: expected keypoints of a photo of {size_px[0]} x {size_px[1]} px, got an entry of one of "
        f"{said[0]:g} x {said[1]:g} px: {cause}"
    )


def share_beyond(points_px: np.ndarray, size_px: tuple[int, int]) -> float:
    """How many of the points [N, 2] lie clearly beyond the edges of a photo (width, height)."""
    margin = BEYOND * max(size_px)
    beyond = ((points_px < -margin) | (points_px > np.array(size_px) + margin)).any(1)
    return float(beyond.mean()) if len(points_px) else 0.0


def hardly_there(person: Person, size_px: tuple[int, int]) -> str:
    """Why a person's keypoints do not serve in a photo (width, height): too few, or beyond it; "" if they do."""
    seen = person.keypoints_px[(person.keypoints_px[:, 2] > 0) & ~np.isin(BODY_25, person.derived), :2]
    if len(seen) < 2:
        return f"{len(seen)} keypoint, expected 2 or more"
    beyond = share_beyond(person.keypoints_px[person.keypoints_px[:, 2] > BOX_CONFIDENCE, :2], size_px)
    if beyond > 0.5 or np.abs(seen).max() > FAR * max(size_px):
        return f"{beyond:.0%} of the sure keypoints beyond the photo's edges, or one far beyond them"
    extent = float(np.ptp(seen, 0).max())
    return "" if extent >= LEAST_EXTENT_PX else f"all keypoints within {extent:.2g} px of each other"


def _upwards(person: Person) -> np.ndarray | None:
    """Unit vector from a person's hips and legs to head and shoulders; None if they are not seen."""
    sure = confident(person.keypoints_px, person.derived)
    parts = [[BODY_25.index(n) for n in names if sure[BODY_25.index(n)]] for names in (UPPER, LOWER)]
    if not all(parts):
        return None
    high, low = (person.keypoints_px[part, :2].mean(0) for part in parts)
    return (high - low) / max(float(np.linalg.norm(high - low)), 1e-9)


def scattered(person: Person) -> float | None:
    """How much longer the skeleton between a person's keypoints is than the shortest tree between them.

    1.06 to 1.79 for 259 captured poses in any view; Human3.6M's order read as COCO's: more than 1.9 for 99 %, AP-10K's
    animals 95 %. None: too few keypoints to say.
    """
    from scipy.sparse.csgraph import minimum_spanning_tree
    from scipy.spatial.distance import cdist

    seen = confident(person.keypoints_px, person.derived)
    points = person.keypoints_px[:, :2]
    if seen.sum() < LEAST_POINTS:
        return None
    length, tops = 0.0, []
    for at in np.flatnonzero(seen):
        to = BONES.get(at)
        while to is not None and not seen[to]:
            to = BONES.get(to)
        if to is None:
            tops.append(at)
        else:
            length += float(np.linalg.norm(points[at] - points[to]))
    trees = [minimum_spanning_tree(cdist(some, some)).sum() for some in (points[tops], points[seen])]
    return (length + trees[0]) / max(trees[1], 1e-9)


def refuse_scattered(people: list[Person], where: str, remedy: str) -> None:
    """ValueError: the keypoints of a photo do not make bodies in the order in which they were read."""
    ratios = [ratio for ratio in map(scattered, people) if ratio is not None]
    if ratios and float(np.median(ratios)) > SCATTERED:
        raise ValueError(
            f"{where}: keypoints that do not make a body in the order in which they were read (Human3.6M's 17 and "
            f"animals' are not COCO's); {remedy}"
        )
