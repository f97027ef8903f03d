"""Who in one frame of a clip is who in the next: people tracked by where their keypoints are, over gaps as well."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from fitter.see.each_once import likeness
from fitter.see.keypoints import BODY_25, COCO_17, Person, select_people
from fitter.see.person_box import BOX_CONFIDENCE, box_iou, keypoint_box

GAP_S = 0.5  # for which somebody may be out of sight
SAME = 0.2  # mean of likeness and overlap of boxes, from which two people of two frames may be one
SHORTEST_S, SHORTEST = 0.25, 5  # a track of less, and of fewer frames, is noise; of clips longer than that
_COCO = [BODY_25.index(name) for name in COCO_17]


@dataclass
class Track:
    """A person's frames in order, and who they are there: numbers of frames, increasing, and people."""

    frames: list[int] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)

    def add(self, frame: int, person: Person) -> None:
        self.frames.append(frame)
        self.people.append(person)

    def expected(self, frame: int) -> np.ndarray:
        """Keypoints [25, 3] px where they would be if the person moved on as in the last two frames."""
        now = self.people[-1].keypoints_px.copy()
        if len(self.people) > 1 and self.frames[-1] - self.frames[-2] <= frame - self.frames[-1]:
            before = self.people[-2].keypoints_px
            both = (now[:, 2] > BOX_CONFIDENCE) & (before[:, 2] > BOX_CONFIDENCE)
            if both.any():
                step = np.median(now[both, :2] - before[both, :2], 0)
                now[:, :2] += step * (frame - self.frames[-1]) / (self.frames[-1] - self.frames[-2])
        return now

    @property
    def size(self) -> float:
        """Area of the boxes, summed over frames."""
        return float(sum(np.prod(person.box_px[2:] - person.box_px[:2]) for person in self.people))

    def filled(self) -> "Track":
        """The same without gaps: where the person was not found, keypoints between, which nobody saw (confidence 0)."""
        whole = Track()
        for frame, person in zip(self.frames, self.people, strict=True):
            if whole.frames:
                start, last = whole.frames[-1], whole.people[-1]
                for missing in range(start + 1, frame):
                    whole.add(missing, _between(last, person, (missing - start) / (frame - start)))
            whole.add(frame, person)
        return whole


def _between(one: Person, other: Person, share: float) -> Person:
    points = (1 - share) * one.keypoints_px + share * other.keypoints_px
    points[:, 2] = 0
    box = (1 - share) * one.box_px + share * other.box_px
    return replace(one, keypoints_px=points, box_px=box, landmarks_3d=None)


class Tracker:
    """Takes the people of frame after frame; `tracks` are those so far."""

    def __init__(self, fps: float):
        self.gap, self.fps = max(1, round(GAP_S * fps)), fps
        self.tracks: list[Track] = []
        self.frames = 0

    def add(self, people: Sequence[Person]) -> None:
        """The next frame's."""
        frame, self.frames = self.frames, self.frames + 1
        active = [track for track in self.tracks if frame - track.frames[-1] <= self.gap]
        left = set(range(len(people)))
        if active and people:
            same = np.array([[_same(track, frame, person) for person in people] for track in active])
            for row, column in zip(*linear_sum_assignment(-same), strict=True):
                if same[row, column] > SAME:
                    active[row].add(frame, people[column])
                    left.discard(column)
        for column in sorted(left):
            track = Track()
            track.add(frame, people[column])
            self.tracks.append(track)

    def found(self, choice: str | int) -> tuple[list[Track], int]:
        """Tracks of the chosen people ('all', 'largest', N), largest first, and how many were too short to be one."""
        select_people([], choice)  # or it cannot be chosen by
        least = min(self.frames, max(SHORTEST, round(SHORTEST_S * self.fps)))
        whole = [track for track in self.tracks if len(track.frames) >= least]
        count = len(whole) if choice == "all" else 1 if choice == "largest" else int(choice)
        return sorted(whole, key=lambda track: -track.size)[:count], len(self.tracks) - len(whole)


def _same(track: Track, frame: int, person: Person) -> float:
    """0..1: how likely a person of a frame is the track's."""
    expected = track.expected(frame)
    alike = likeness(expected[_COCO], person.keypoints_px[_COCO])
    return (alike + box_iou(keypoint_box(expected), person.box_px)) / 2
