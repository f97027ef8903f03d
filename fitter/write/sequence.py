"""A person through a clip as plain numpy data: what is written, and read back."""

import json
from collections.abc import Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fitter.write.index import plain
from fitter.write.motion import Motion
from fitter.write.result import VERSION, Fit, body_of, vertices_of
from fitter.write.store import SEQUENCE

if TYPE_CHECKING:
    from fitter.body.model import BodyModel

OF_FRAMES = ("pose", "transl_cam", "joints_cam", "keypoints_px", "keypoints_cam", "observed_px", "box_px",
             "joint_states")  # fmt: skip
OF_CLIP = ("betas", "focal_px", "center_px", "image_size_px")
TEXTS = ("image", "name", "person", "keypoint_source", "camera_source", "body_model", "pose_prior", "version")
JSON = ("reasons", "distortion", "configuration", "inputs")


@dataclass(frozen=True)
class Sequence:
    """One person in T frames of a clip; camera frame (x right, y down, z forward), as in `Fit`.

    image: the clip's file or folder; name: of the result files, without the person; person: number in the clip
    frames [T] int: numbers of the frames in the clip, one after the other; fps: frames a second
    betas [10]: one shape; pose [T, 72] axis-angle rad, root first; transl_cam [T, 3] m, added after posing
    focal_px, center_px, image_size_px [2]; distortion: as in `Fit`: with it px are the undistorted frame's
    joints_cam [T, 24, 3] m; keypoints_px [T, 25, 2] and keypoints_cam [T, 25, 3] m, the model's; observed_px
    [T, 25, 3] with confidence; box_px [T, 4]; joint_states [T, 24]: 2 seen, 1 guessed, 0 outside of the frame
    seen [T] bool: frames where the person was found, not filled in; labelled [T] bool: with clothing labels
    valid [T] bool, and reasons why not, T tuples; quality: numbers by name, each [T]
    """

    image: str
    name: str
    person: str
    frames: np.ndarray
    fps: float
    betas: np.ndarray
    pose: np.ndarray
    transl_cam: np.ndarray
    focal_px: np.ndarray
    center_px: np.ndarray
    image_size_px: np.ndarray
    joints_cam: np.ndarray
    keypoints_px: np.ndarray
    keypoints_cam: np.ndarray
    observed_px: np.ndarray
    box_px: np.ndarray
    joint_states: np.ndarray
    seen: np.ndarray
    labelled: np.ndarray
    valid: np.ndarray
    reasons: tuple[tuple[str, ...], ...]
    quality: dict[str, np.ndarray]
    distortion: tuple[float, ...]
    keypoint_source: str
    camera_source: str
    body_model: str
    pose_prior: str
    configuration: dict
    inputs: dict
    version: str = VERSION

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        """In one line; the fields are above."""
        return (
            f"Sequence({self.image!r}, person {self.person!r}, frames {self.frames[0]} to {self.frames[-1]} at "
            f"{self.fps:g} a second, {int(self.valid.sum())} of {len(self)} valid)"
        )

    @property
    def motion(self) -> Motion:
        """For BVH and animated .glb (docs/blender.md)."""
        name = f"{Path(self.name).name}_{self.person}"
        return Motion(name, self.betas, self.pose, self.transl_cam, self.frames, self.fps)

    def vertices_cam(self, rows: slice = slice(None), body: "BodyModel | None" = None) -> np.ndarray:
        """[N, V, 3] float32 m in the camera frame of some frames, 80 kB each. body: as of `Fit.posed`."""
        pose, place = self.pose[rows], self.transl_cam[rows]
        body = body_of(self.body_model, self.configuration, body)
        return vertices_of(np.broadcast_to(self.betas, (len(pose), 10)).copy(), pose, place, body)


def sequence_of(
    fits: Several[Fit], frames: Several[int], fps: float, seen: Several[bool], labelled: Several[bool]
) -> Sequence:
    """Fits of one person in frames that follow each other, of one shape."""
    first = fits[0]
    names = list(dict.fromkeys(name for fit in fits for name in fit.quality))
    return Sequence(
        frames=np.asarray(frames, np.int64),
        fps=float(fps),
        seen=np.asarray(seen, bool),
        labelled=np.asarray(labelled, bool),
        valid=np.array([fit.valid for fit in fits]),
        reasons=tuple(fit.reasons for fit in fits),
        quality={name: np.array([fit.quality.get(name, np.nan) for fit in fits]) for name in names},
        **{name: np.stack([getattr(fit, name) for fit in fits]) for name in OF_FRAMES},
        **{
            name: getattr(first, name) for name in (*OF_CLIP, *TEXTS, "distortion", "configuration", "inputs")
        },
    )


def save_sequence(path: Path, sequence: Sequence) -> None:
    """Writes a .npz that needs no pickle: floats as float32, text as unicode, the rest as JSON text; a quality is
    `quality_<name>`."""
    entries = {}
    for item in fields(sequence):
        value = getattr(sequence, item.name)
        if item.name == "quality":
            entries |= {f"quality_{name}": np.asarray(one, np.float32) for name, one in value.items()}
            continue
        if item.name in JSON:
            value = json.dumps(plain(value), allow_nan=False)
        value = np.asarray(value)
        entries[item.name] = value.astype(np.float32) if value.dtype.kind == "f" and value.ndim else value
    with open(path, "wb") as file:
        np.savez_compressed(file, **entries)  # type: ignore[arg-type]


def load_sequence(path: str | Path) -> Sequence:
    """What save_sequence wrote. ValueError: the file is no such result."""
    try:
        with np.load(path, allow_pickle=False) as file:
            entries = {name: file[name] for name in file.files}
        values: dict = {item.name: entries[item.name] for item in fields(Sequence) if item.name != "quality"}
        values |= {name: str(values[name]) for name in TEXTS}
        read = {name: json.loads(str(values[name])) for name in JSON}
        values |= read | {"distortion": tuple(read["distortion"])}
        values["reasons"] = tuple(tuple(one) for one in read["reasons"])
        values["fps"] = float(values["fps"])
        values["quality"] = _by_name(entries)
        return Sequence(**values)
    except Exception as error:
        raise ValueError(
            f"{path}: expected a person's sequence as written by fit.py (*{SEQUENCE}), got: "
            f"{str(error) or type(error).__name__}"
        ) from error


def save_amass(path: Path, sequence: Sequence) -> None:
    """A motion as AMASS has it, .npz: `fitter.write.export_formats.amass_motion`'s poses and trans, betas [16], gender,
    mocap_framerate; body_model says whose betas they are."""
    from fitter.write.export_formats import AMASS_BETAS, amass_motion

    poses, trans = amass_motion(sequence.pose, sequence.transl_cam, sequence.joints_cam[:, 0])
    np.savez_compressed(
        path,
        poses=poses,
        trans=trans,
        betas=np.pad(sequence.betas, (0, AMASS_BETAS - 10)).astype(np.float32),
        gender=np.array("neutral"),
        mocap_framerate=np.array(sequence.fps),
        body_model=np.array(sequence.body_model),
    )


def _by_name(entries: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    start = "quality_"
    return {name.removeprefix(start): value for name, value in entries.items() if name.startswith(start)}
