"""One person's fit as plain numpy data: what is written, read back, drawn and exported."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fitter.see.visibility import GUESSED, OUTSIDE
from fitter.write.index import plain
from priors.skeleton import JOINT_NAMES

if TYPE_CHECKING:
    from fitter.body.model import BodyModel

VERSION = "0.4.0"


@dataclass(frozen=True)
class Fit:
    """A fitted person; camera frame of the full image (x right, y down, z forward).

    image: the photo's file name; person: id within the photo; keypoint_source
    pose [72] axis-angle rad, root first; betas [10]; transl_cam [3] m, added after posing as SMPL does
    focal_px, center_px [2]; image_size_px [2] width, height; box_px [4] x0 y0 x1 y1 of the seen keypoints
    name: of the result files, without the person; people_in_photo: how many results this photo has
    derived: observed keypoints that are means of others (BODY_25's names)
    distortion: OpenCV's coefficients of the photo's lens; with them all px here are those of the undistorted photo
    joints_cam [24, 3] m; vertices_cam [V, 3] m, None in a fit that was read from a file;
    keypoints_px [25, 2] the model's; observed_px [25, 3] with confidence
    keypoints_cam [25, 3] m, where the model's keypoints lie; None in a fit that was read from an older file
    joint_states [24] uint8 of `fitter.see.visibility`: 2 seen, 1 guessed, 0 outside of the photo
    label_source: file of clothing labels, "parser", or "none" and, after a semicolon, why
    runner_up: pose, betas and transl_cam [85] of another body that the keypoints allow nearly as well, [0] without one;
    open_limbs: limbs that point away from the camera in one of the two and towards it in the other
    energies: weighted terms by name; quality: numbers by name; valid and reasons against it
    """

    image: str
    person: str
    keypoint_source: str
    pose: np.ndarray
    betas: np.ndarray
    transl_cam: np.ndarray
    focal_px: np.ndarray
    center_px: np.ndarray
    image_size_px: np.ndarray
    box_px: np.ndarray
    joints_cam: np.ndarray
    vertices_cam: np.ndarray | None
    keypoints_px: np.ndarray
    observed_px: np.ndarray
    joint_states: np.ndarray
    energies: dict[str, float]
    quality: dict[str, float]
    valid: bool
    reasons: tuple[str, ...]
    body_model: str
    pose_prior: str
    camera_source: str
    label_source: str = "none"
    name: str = ""
    people_in_photo: int = 1
    derived: tuple[str, ...] = ()
    distortion: tuple[float, ...] = ()
    keypoints_cam: np.ndarray | None = None
    runner_up: np.ndarray = field(default_factory=lambda: np.zeros(0))
    open_limbs: tuple[str, ...] = ()
    configuration: dict = field(default_factory=dict)
    inputs: dict = field(default_factory=dict)
    version: str = VERSION

    def __repr__(self) -> str:
        """In one line; the fields are above."""
        doubt = "valid" if self.valid else "; ".join(self.reasons) or "not valid"
        place = ", ".join(f"{value:.2f}" for value in self.transl_cam)
        return f"Fit({self.image!r}, person {self.person!r}, at ({place}) m, {doubt})"

    def posed(self, body: "BodyModel | None" = None) -> "Fit":
        """The same fit with its vertices_cam, posed anew; a file does not hold them.

        body: `fitter.load_body`'s, to load it once for many fits; not given: the fit's own. ValueError: another body.
        """
        body = body_of(self.body_model, self.configuration, body)
        return replace(
            self, vertices_cam=vertices_of(self.betas[None], self.pose[None], self.transl_cam[None], body)[0]
        )


def vertices_of(betas: np.ndarray, pose: np.ndarray, transl_cam: np.ndarray, body: "BodyModel") -> np.ndarray:
    """Vertices [N, V, 3] m in the camera frame, of betas [N, 10], pose [N, 72] rad, transl_cam [N, 3] m."""
    import torch

    shape, angles, place = (
        torch.as_tensor(np.asarray(a)).to(body.template) for a in (betas, pose, transl_cam)
    )
    with torch.no_grad():
        return (body(shape, angles).vertices + place[:, None]).cpu().numpy()


def body_of(name: str, configuration: dict, body: "BodyModel | None") -> "BodyModel":
    """The body that fits are of: `body`, or the file that their configuration names, or the open one. ValueError: the
    given one is another; FileNotFoundError: the file is gone."""
    if body is None:
        from fitter.body.model import load_body

        body = load_body(configuration.get("body"))
    if body.name != name:
        raise ValueError(f"expected the fits' body {name!r}, got {body.name!r}; give it: load_body(FILE)")
    return body


def is_finite(fit: Fit) -> bool:
    """Whether it is a body at all: only a network's answer may be none, and such a one is not written."""
    parts = (fit.pose, fit.betas, fit.transl_cam, fit.vertices_cam)
    return all(np.isfinite(part).all() for part in parts if part is not None)


def fit_id(fit: Fit) -> str:
    """16 letters by which this very body in this camera is known: of another fit of the person they are others."""
    content = hashlib.sha256(fit.body_model.encode())
    for name in ("pose", "betas", "transl_cam", "focal_px", "center_px"):
        content.update(np.asarray(getattr(fit, name), np.float32).tobytes())
    return content.hexdigest()[:16]


def skipped_row(image: str, fit: Fit) -> dict:
    """Its row of the summary where it is not written."""
    return {"image": image, "person": fit.person, "status": "skipped", "reasons": list(fit.reasons)}


def refused_row(image: str, reason: str) -> dict:
    """The summary's row of what the detector took for a person at first, or of one in a file who cannot be fitted."""
    return {"image": image, "person": None, "status": "refused", "reasons": [reason]}


def noted_row(image: str, note: str) -> dict:
    """The summary's row of what was left out or changed of a photo that was fitted."""
    return {"image": image, "person": None, "status": "noted", "reasons": [note]}


def save_fit(path: Path, fit: Fit) -> None:
    """Writes a .npz that needs no pickle: arrays as float32, text as unicode, dicts and lists as JSON text.

    Vertices are left out: body model, pose, betas and transl_cam give them.
    """
    entries = {}
    for item in fields(fit):
        value = getattr(fit, item.name)
        if item.name == "vertices_cam" or value is None:
            continue
        if isinstance(value, dict | tuple):
            value = json.dumps(plain(value), allow_nan=False)
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
            value = value.astype(np.float32)
        entries[item.name] = np.asarray(value)
    with open(path, "wb") as file:
        np.savez_compressed(file, **entries)  # type: ignore[arg-type]


JSON_FIELDS = {"energies": dict, "quality": dict, "reasons": list, "configuration": dict, "inputs": dict,
               "derived": list, "distortion": list, "open_limbs": list}  # fmt: skip
SHAPES = {
    "pose": (72,), "betas": (10,), "transl_cam": (3,), "focal_px": (2,), "center_px": (2,), "image_size_px": (2,),
    "box_px": (4,), "joints_cam": (24, 3), "keypoints_px": (25, 2), "keypoints_cam": (25, 3), "observed_px": (25, 3),
    "joint_states": (24,), "runner_up": (85,),
}  # fmt: skip
ONE = {"valid": ("b", "yes or no"), "people_in_photo": ("iu", "number")}  # the other fields are one text each


def load_fit(path: str | Path) -> Fit:
    """What save_fit wrote, but for vertices_cam; ValueError if the file is no such result."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if not hasattr(file, "files"):
                raise ValueError("one array")
            entries = {key: file[key] for key in file.files}
        known = [item for item in fields(Fit) if item.name in entries and item.name != "vertices_cam"]
        values: dict = {"vertices_cam": None} | {i.name: _read(i.name, entries[i.name]) for i in known}
        needed = {f.name for f in fields(Fit) if f.default is MISSING and f.default_factory is MISSING}
        if needed - values.keys():
            raise ValueError(f"no {', '.join(sorted(needed - values.keys()))}")
        return Fit(**values)
    except Exception as error:
        raise ValueError(
            f"{path}: expected a fit as written by fit.py (.npz), got: {str(error) or type(error).__name__}; fit that "
            f"photo again, or give another file"
        ) from error


def _read(name: str, value: np.ndarray):
    """An entry of a result as its field holds it; ValueError: it is something else."""
    if name in SHAPES:
        none = name == "runner_up" and value.shape == (0,)
        if value.dtype.kind not in "fiu" or (value.shape != SHAPES[name] and not none):
            raise ValueError(
                f"{name} of {value.dtype} and shape {value.shape}, not numbers of {SHAPES[name]}"
            )
        return value
    kind, what = ONE.get(name, ("U", "text"))
    if value.ndim or value.dtype.kind not in kind:
        raise ValueError(f"{name} of {value.dtype} and shape {value.shape}, not one {what}")
    if name not in JSON_FIELDS:
        return value.item()
    try:
        value = json.loads(value.item())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} that is not JSON: {error}") from error
    if not isinstance(value, JSON_FIELDS[name]):
        raise ValueError(f"{name} as {type(value).__name__}, not {JSON_FIELDS[name].__name__}")
    if name in ("energies", "quality"):  # null stands for what is not finite
        return {term: np.nan if one is None else one for term, one in value.items()}
    return tuple(value) if isinstance(value, list) else value


def summary_row(fit: Fit) -> dict:
    """One line of summary.jsonl."""
    return {
        "image": fit.image,
        "person": fit.person,
        "status": "fitted",
        "valid": fit.valid,
        "reasons": list(fit.reasons),
        **{f"energy_{name}": round(value, 4) for name, value in fit.energies.items()},
        **{name: round(value, 4) for name, value in fit.quality.items()},
        "guessed": joints_that_are(fit, GUESSED),
        "outside": joints_that_are(fit, OUTSIDE),
        "open_limbs": list(fit.open_limbs),
        "keypoints": fit.keypoint_source,
        "camera": fit.camera_source,
        "labels": fit.label_source,
        "files": files_of(fit),
    }


def files_of(fit: Fit) -> dict[str, list[str]]:
    """The files that its keypoints, camera, labels and masks were looked for in, where such were given."""
    found: dict[str, list[str]] = {}
    for role, about in fit.inputs.items():
        setting = role.split(" ")[0]
        if setting in ("keypoints", "camera", "labels", "ignore"):
            found.setdefault(setting, []).append(about["path"])
    return found


def joints_that_are(fit: Fit, state: int) -> list[str]:
    """Names of the joints that were seen, guessed, or lie outside of the photo."""
    return [name for name, one in zip(JOINT_NAMES, fit.joint_states, strict=True) if one == state]


SKIN_RGBA = (201, 165, 142, 255)


def mesh_files(name: str, fit: Fit, faces: np.ndarray, kind: str) -> dict[str, Callable[[Path], None]]:
    """The files of a person's mesh, as `write_files` takes them: `<name>.<kind>`, and the material of an .obj.

    kind: obj, ply or glb; faces: [F, 3]
    """
    files = {f"{name}.{kind}": lambda path: save_mesh(path, fit, faces, Path(name).name)}
    if kind == "obj":
        red, green, blue = (f"{value / 255:.3f}" for value in SKIN_RGBA[:3])
        material = f"newmtl skin\nKd {red} {green} {blue}\nKs 0 0 0\nillum 1\n"
        files[f"{name}.mtl"] = lambda path: path.write_text(material)
    return files


def save_mesh(path: Path, fit: Fit, faces: np.ndarray, name: str) -> None:
    """Posed mesh in metres as .obj, .ply or .glb; Y up and facing the viewer, where viewers expect it.

    With normals, and called `name` in the file (a .ply says so in a comment). The material is "skin": in the .glb, for
    an .obj in `<name>.mtl`; a .ply knows none, its vertices have that colour.
    """
    import trimesh

    upright = fit.vertices_cam * np.array([1.0, -1.0, -1.0])
    mesh = trimesh.Trimesh(upright, faces, process=False)
    if path.suffix == ".obj":
        text = trimesh.exchange.obj.export_obj(mesh, include_normals=True, include_color=False, header=None)
        path.write_text(f"mtllib {name}.mtl\no {name}\nusemtl skin\n{text}\n")
    elif path.suffix == ".ply":
        mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=np.tile(SKIN_RGBA, (len(upright), 1)))
        content = trimesh.exchange.ply.export_ply(mesh, vertex_normal=True)
        about = f"comment {name}\nelement vertex".encode()
        path.write_bytes(content.replace(b"element vertex", about, 1))
    else:
        material = trimesh.visual.material.PBRMaterial(
            name="skin", baseColorFactor=SKIN_RGBA, metallicFactor=0.0, roughnessFactor=0.8
        )
        mesh.visual = trimesh.visual.TextureVisuals(material=material)
        scene = trimesh.Scene()
        scene.add_geometry(mesh, node_name=name, geom_name=name)
        path.write_bytes(trimesh.exchange.gltf.export_glb(scene, include_normals=True))
