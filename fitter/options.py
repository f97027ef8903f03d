"""Settings that need each other, and the files and folders that they name: looked at before the first photo.

Imports nothing heavy.
"""

from dataclasses import fields
from pathlib import Path

from fitter.config import FitConfig

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".mts")
FROM_NETWORK = "checkpoint:"  # how `init` begins where fits start at a network's bodies, before its file
SHIPPED = "shipped"
# settings that may name a folder of files by photo
PER_PHOTO = ("keypoints", "camera", "labels", "ignore", "init")
FOLDERS = ("labels", "ignore", "init")  # of them, those that are folders always
MODEL_FILES = (
    "body",
    "clothing_prior",
    "vposer",
    "checkpoint",
    "detector",
    "parser",
    "mean_params",
    "label_classes",
    "keypoint_names",
)
# whose own errors say what may stand there
SAY_MORE = ("body", "detector", "parser", "label_classes", "keypoint_names")


def labelled(config: FitConfig) -> bool:
    """Whether the DSR terms are used at all: some of them are on, and labels come from somewhere."""
    return config.semantics.used and (bool(config.labels) or config.parser != "none")


def of_clips(config: FitConfig) -> bool:
    """Whether videos or sequences of frames are fitted, not photos."""
    return config.sequence or Path(config.images).suffix.lower() in VIDEO_SUFFIXES


def network_in(config: FitConfig) -> str | None:
    """The file of the network that takes part, or `shipped`; None where none does."""
    if config.method != "optimize":
        return config.checkpoint or SHIPPED
    init = config.init or ""
    return SHIPPED if init == "network" else init.removeprefix(FROM_NETWORK) if is_network(init) else None


def is_network(init: str) -> bool:
    """Whether a value of `init` asks for a network's bodies, not for a folder's."""
    return init == "network" or init.startswith(FROM_NETWORK)


def check_options(config: FitConfig) -> None:
    """ValueError, a line each: settings without which a given one has no effect, or cannot mean what it says."""
    wrong = []
    if config.label_classes == "pascal" and (config.semantics.mc, config.semantics.c) != ("none", "none"):
        wrong.append(
            "--label-classes pascal: expected silhouette terms alone, for it knows no clothing: --semantics.mc none "
            "--semantics.c none --semantics.silhouette bce"
        )
    if isinstance(config.people, int) and config.people < 1:
        wrong.append(f"--people: expected all, largest or a number from 1, got {config.people}")
    if of_clips(config):
        wrong += [
            f"--{name.replace('_', '-')} has no effect on a clip{why}"
            for name, why in (
                (
                    "views",
                    ": give it photos, as ffmpeg -i cam1.mp4 cam1/%06d.png makes them, and no --sequence",
                ),
                ("init", ""),
                ("method", ": bodies are found by the optimiser"),
                ("export", ": a sequence is saved as a motion (docs/video.md)"),
            )
            if _given(config, name)
        ]
        if config.save_mesh not in (None, "rigged", "scene", "bvh"):
            wrong.append(
                f"--save-mesh {config.save_mesh}: expected rigged, scene or bvh of a clip, which move"
            )
    else:
        if config.fps:
            wrong.append("--fps has no effect without a video or --sequence")
        if config.save_mesh == "bvh":
            wrong.append("--save-mesh bvh: expected a video or --sequence, for photos do not move")
    if config.views:
        wrong += [
            f"--{name.replace('_', '-')} has no effect with --views{why}"
            for name, why in (
                ("camera", ": the calibration says the intrinsics"),
                ("init", ""),
                ("method", ": bodies are found by the optimiser"),
                ("shard", ": photos of one instant must stay together"),
            )
            if _given(config, name)
        ]
    wrong += [f"--{name.replace('_', '-')} has no effect {why}" for name, why in _unused(config)]
    if wrong:
        raise ValueError("\n".join(wrong))


def check_paths(config: FitConfig) -> None:
    """FileNotFoundError or ValueError: a file or folder that a setting names is not there, or not of its kind."""
    for name in (*PER_PHOTO, *MODEL_FILES):
        value = getattr(config, name)
        if not value or name in SAY_MORE or (name == "init" and is_network(value)):
            continue
        if not Path(value).exists():
            raise FileNotFoundError(f"{name} {value}: expected a file or folder, found none")
        if name in FOLDERS and not Path(value).is_dir():
            raise ValueError(f"{name} {value}: expected a folder of files named as the photos, got a file")
        if name in MODEL_FILES and not Path(value).is_file():
            raise ValueError(f"{name} {value}: expected a file, got a folder")


def _unused(config: FitConfig) -> list[tuple[str, str]]:
    """(setting, without or with what it has no effect) of the settings that are given."""
    dsr, semantics = _without_dsr(config), config.semantics
    network = config.method != "optimize"
    need = [  # setting, whether it has an effect, what it lacks
        ("checkpoint", network, "without --method eft or network"),
        ("mean_params", network_in(config) is not None, "without --method eft or network, or --init checkpoint:FILE"),
        ("eft", config.method == "eft", "without --method eft"),
        ("limits.min_trust", not network, f"with --method {config.method}: trust is known of the optimiser's fits"),
        ("limits.min_trust", not config.views, "with --views: trust is known of single photos' fits"),
        ("init", not network, f"with --method {config.method}"),
        ("vposer", config.pose_prior == "vposer", "without --pose-prior vposer"),
        ("rejection", bool(config.export), "without --export"),
        ("decisions", bool(config.export), "without --export"),
        ("detector", not config.keypoints, "with --keypoints"),
        ("label_classes", bool(config.labels), "without --labels"),
        ("keypoint_names", bool(config.keypoints), "without --keypoints"),
        *(
            (f"optimisation.{name}", not network, f"with --method {config.method}")
            for name in ("yaws", "starts", "stages")
        ),
        *((name, not dsr, dsr) for name in ("labels", "parser", "ignore", "unknown", "clothing_prior")),
        *((f"weights.{name}", not dsr, dsr) for name in ("mc", "c", "silhouette")),
        *((f"semantics.{one.name}", not dsr, dsr) for one in fields(semantics)),
    ]  # fmt: skip
    if not dsr:
        need += [
            (f"weights.{name}", getattr(semantics, name) != "none", f"with --semantics.{name} none")
            for name in ("mc", "c", "silhouette")
        ]
        need += [
            (f"semantics.{name}", semantics.c == "one-sided", "without --semantics.c one-sided")
            for name in ("fill", "centre")
        ]
        need.append(("semantics.balance_classes", semantics.c != "none", "with --semantics.c none"))
    return [(name, why) for name, has_effect, why in need if not has_effect and _given(config, name)]


def _without_dsr(config: FitConfig) -> str:
    """What the DSR terms lack; "" if they are in use."""
    if config.method == "network":
        return "with --method network"
    if not config.semantics.used:
        return "without --semantics.mc, c or silhouette"
    if not labelled(config):
        return "without --labels or --parser"
    return "without --eft.semantics" if config.method == "eft" and not config.eft.semantics else ""


def _given(config: FitConfig, name: str) -> bool:
    """Whether a setting is another than by default; "none" switches off and asks for nothing."""
    group, _, leaf = name.rpartition(".")
    part = getattr(config, group) if group else config
    value = getattr(part, leaf)
    default = {one.name: one for one in fields(part)}[leaf]
    usual = default.default_factory() if callable(default.default_factory) else default.default
    return value not in (usual, "none")
