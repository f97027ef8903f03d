"""Every reader of a file that a user gives, with good files for it."""

import io
import json
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from benchmarks.fuzz_inputs import SIZE, Source
from fitter.config import FitConfig
from priors.skeleton import JOINT_PARENTS


@dataclass(frozen=True)
class Reader:
    """read: path -> whatever it makes of the file, or an error; sources: makes good files; share: of all inputs."""

    read: Callable[[Path], object]
    sources: Callable[[], list[Source]]
    share: float = 1.0


def see(**settings: Path) -> object:
    """A photo as a run sees it, with files of the settings."""
    from fitter.method import Models
    from fitter.see.photos import Photo
    from fitter.see.views import see as see_photo

    photo = settings.pop("photo", None) or good_photo()
    names = {name: str(path) for name, path in settings.items()}
    config = FitConfig(images=str(photo), parser="none", **names)
    nobody = SimpleNamespace(
        boxes=lambda *_: []
    )  # as the detector sees it: then keypoints are not doubted by it
    return see_photo(Photo(photo, photo.name, photo.stem), Models(config, None, nobody, None, None))


@lru_cache(maxsize=1)
def good_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="good-", dir="."))
    (folder / "a.png").write_bytes(picture("PNG"))
    (folder / "people.json").write_text(json.dumps(openpose()))
    return folder


def good_photo() -> Path:
    return good_folder() / "a.png"


def read_photo(path: Path) -> object:
    return see(photo=path, keypoints=good_folder() / "people.json")


def read_camera(path: Path) -> object:
    return see(camera=path, keypoints=good_folder() / "people.json")


def read_boxes(path: Path) -> object:
    from fitter.see.boxes import load_boxes

    return load_boxes(str(path))([np.zeros((SIZE[1], SIZE[0], 3), np.uint8)], "a.png")


def read_label(path: Path) -> object:
    from fitter.label.label_files import read_labels

    return read_labels(path)


def read_mask(path: Path) -> object:
    from fitter.label.label_files import read_mask

    return read_mask(path)


def read_result(path: Path) -> object:
    from fitter.write.result import load_fit, summary_row

    return summary_row(load_fit(path))


def read_body(path: Path) -> object:
    from fitter.body.model import load_body

    return load_body(path)


def read_preset(path: Path) -> object:
    from fitter.cli import read_config

    return read_config(["--images", "a.png", "--config", str(path)])


def read_checkpoint(path: Path) -> object:
    from regressor.checkpoints import load_hmr, read_mean_params

    return read_mean_params(path) if path.suffix == ".npz" else load_hmr(path)


def read_vposer(path: Path) -> object:
    from priors.vposer import load_vposer_prior

    return load_vposer_prior(path)


def read_prior(path: Path) -> object:
    from priors.clothing import load_clothing_prior

    prior = load_clothing_prior(str(path), *tetrahedron())
    return prior.prob


def read_dataset(path: Path) -> object:
    from regressor.config import Source as Dataset
    from regressor.data import load_people

    return load_people(Dataset("set", str(path), "."))


def read_names(path: Path) -> object:
    from fitter.see.keypoint_orders import read_order

    return read_order(str(path))


def read_classes(path: Path) -> object:
    from fitter.label.label_classes import read_classes

    return read_classes(str(path))


def read_parser_card(path: Path) -> object:
    from fitter.label.parse import read_card

    return read_card(path)


def read_box_card(path: Path) -> object:
    from fitter.see.boxes import CHOICES, BoxCard
    from fitter.see.networks import read_card

    return read_card(path, BoxCard, CHOICES)


def read_network(path: Path) -> object:
    from fitter.see.networks import Network

    return Network(path).input_names


def picture(kind: str, exif: bool = False, mode: str = "RGB") -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    tags = Image.Exif()
    if exif:
        tags[0x0112] = 1
        tags.get_ifd(0x8769).update({0x920A: 35.0, 0xA405: 35, 0xA002: SIZE[0], 0xA003: SIZE[1]})
    content = io.BytesIO()
    image.save(content, kind, **({"exif": tags} if exif else {}))
    return content.getvalue()


def photos() -> list[Source]:
    kinds = [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("TIFF", ".tif"), ("BMP", ".bmp")]
    plain = [Source(suffix, picture(kind)) for kind, suffix in kinds]
    odd = [Source(".png", picture("PNG", mode=mode)) for mode in ("L", "P", "RGBA", "I;16")]
    return plain + odd + [Source(".jpg", picture("JPEG", exif=True))] * 3


def points(count: int, with_scores: bool = True) -> list[float]:
    rng = np.random.default_rng(count)
    columns = [
        rng.uniform(5, SIZE[0] - 5, count),
        rng.uniform(5, SIZE[1] - 5, count),
        rng.uniform(0.3, 1, count),
    ]
    return np.column_stack(columns[: 2 + with_scores]).round(2).reshape(-1).tolist()


def openpose(count: int = 25, key: str = "pose_keypoints_2d") -> dict:
    return {"version": 1.3, "people": [{"person_id": [-1], key: points(count)} for _ in range(2)]}


def coco(count: int = 17) -> dict:
    keypoints = np.array(points(count)).reshape(-1, 3)
    keypoints[:, 2] = 2
    box = {"bbox": [5.0, 5, 50, 40], "iscrowd": 0, "category_id": 1}
    return {
        "images": [{"id": 7, "file_name": "a.png", "width": SIZE[0], "height": SIZE[1]}],
        "annotations": [
            {"id": n, "image_id": 7, "keypoints": keypoints.reshape(-1).tolist(), **box} for n in (1, 2)
        ],
        "categories": [{"id": 1, "name": "person"}],
    }


def keypoints() -> list[Source]:
    pairs = np.array(points(17, False)).reshape(-1, 2).tolist()
    mmpose = [
        {"keypoints": pairs, "keypoint_scores": [0.9] * 17, "bbox": [[5, 5, 55, 45]], "bbox_score": 0.9}
    ]
    results = [
        {"image_id": "a.png", "category_id": 1, "keypoints": points(count), "score": 0.9}
        for count in (17, 26, 133)
    ]
    whole_body = coco()
    whole_body["annotations"][0]["foot_kpts"] = points(6)
    trees = [
        openpose(), openpose(18), openpose(25, "pose_keypoints"), {**openpose(), "format": "BODY_25B"}, coco(),
        coco(23), whole_body, results[:1], results[1:2], results[2:], mmpose, [mmpose],
        {"meta_info": {"dataset_name": "coco"}, "instance_info": mmpose},
    ]  # fmt: skip
    return [Source(".json", tree) for tree in trees]


def cameras() -> list[Source]:
    matrix = [[70.0, 0, 32], [0, 70, 24], [0, 0, 1]]
    ros = {"image_width": 64, "image_height": 48, "camera_matrix": {"rows": 3, "cols": 3, "data": sum(matrix, [])},
           "distortion_model": "plumb_bob",
           "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.0] * 5}}  # fmt: skip
    opencv = (
        "%YAML:1.0\n---\nK_a: !!opencv-matrix\n  rows: 3\n  cols: 3\n  dt: d\n  data: [70., 0., 32., 0., 70., 24., 0., "
        "0., 1.]\nnames:\n  - a\n"
    )
    trees = [
        {"focal_px": [70.0, 70.0], "center_px": [32, 24], "pitch_deg": 3.0}, {"K": matrix}, matrix, ros,
        {"fx": 70.0, "fy": 70.0, "cx": 32, "cy": 24, "k1": 0.01}, {"pitch_deg": 3.0, "roll_deg": 1.0},
        {"K": [[*row, 0.0] for row in matrix]}, {"K": [[*row, 0.0] for row in matrix] + [[0, 0, 0, 1]]},
    ]  # fmt: skip
    arrays = [{"K": np.array(matrix)}, {"focal_px": np.array([70.0, 70]), "center_px": np.array([32.0, 24])}]
    return [
        *(Source(suffix, tree) for tree in trees for suffix in (".json", ".yaml")),
        *(Source(".npz", one) for one in arrays),
        Source(".yml", opencv.encode()),
    ]


def boxes() -> list[Source]:
    rows = {"a.png": [[5, 5, 40, 40, 0.9], [1, 2, 30, 40]], "b.png": []}
    listed = [{"image_id": 1, "category_id": 1, "bbox": [5, 5, 30, 30], "score": 0.8}]
    return [Source(".json", tree) for tree in (rows, coco(), listed)]


def maps() -> list[Source]:
    from PIL import Image

    ids = (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE[1], SIZE[0]) // 40 % 20).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(ids).save(content, "PNG")
    indexed = io.BytesIO()
    from fitter.label.label_files import write_labels

    place = good_folder() / "labels.png"
    write_labels(place, ids)
    indexed.write(place.read_bytes())
    return [
        Source(".png", one) for one in (content.getvalue(), indexed.getvalue(), picture("PNG", mode="RGBA"))
    ]


def results() -> list[Source]:
    from fitter.write.result import Fit, save_fit

    shapes = {
        "pose": 72,
        "betas": 10,
        "transl_cam": 3,
        "focal_px": 2,
        "center_px": 2,
        "image_size_px": 2,
        "box_px": 4,
    }
    arrays = {name: np.ones(size) for name, size in shapes.items()}
    arrays |= {
        "joints_cam": np.ones((24, 3)),
        "keypoints_px": np.ones((25, 2)),
        "observed_px": np.ones((25, 3)),
    }
    fit = Fit(
        image="a.png", person="0", keypoint_source="coco", vertices_cam=None, joint_states=np.ones(24, np.uint8),
        energies={"pose": 1.0}, quality={"energy": 2.0}, valid=True, reasons=("none",), body_model="b", pose_prior="p",
        camera_source="user", keypoints_cam=np.ones((25, 3)), configuration={"body": None}, **arrays,
    )  # fmt: skip
    save_fit(good_folder() / "fit.npz", fit)
    with np.load(good_folder() / "fit.npz") as file:
        return [Source(".npz", {key: file[key] for key in file.files})]


def bodies() -> list[Source]:
    rng, parents = np.random.default_rng(0), [4294967295, *JOINT_PARENTS[1:]]
    count = 60
    arrays = {
        "v_template": rng.normal(size=(count, 3)), "shapedirs": rng.normal(size=(count, 3, 10)),
        "posedirs": np.zeros((count, 3, 207)), "J_regressor": np.ones((24, count)) / count,
        "weights": np.ones((count, 24)) / 24, "f": np.arange(60).reshape(20, 3).astype(np.int32),
        "kintree_table": np.array([parents, range(24)], np.int64), "landmark_ids": np.arange(11),
        "part_ids": np.zeros(count, np.int64),
    }  # fmt: skip
    pickles = [Source(".pkl", pickle.dumps(arrays, protocol)) for protocol in range(6)]
    return [Source(".npz", arrays), Source(".npz", arrays), *pickles]


def presets() -> list[Source]:
    whole = {name: value for name, value in asdict(FitConfig(images="a.png")).items() if name != "images"}
    whole["optimisation"]["stages"] = [
        {k: list(v) if isinstance(v, tuple) else v for k, v in stage.items()}
        for stage in whole["optimisation"]["stages"]
    ]
    whole["optimisation"]["yaws"] = list(whole["optimisation"]["yaws"])
    return [
        Source(".yaml", whole),
        Source(".yaml", {"weights": {"pose": 5.0}, "people": 2, "limits": {"min_keypoints": 4}}),
    ]


@lru_cache(maxsize=1)
def checkpoints() -> list[Source]:
    import torch

    from regressor.checkpoints import save_hmr
    from regressor.hmr import HMR, Architecture

    net = HMR(Architecture(bottleneck=False, blocks=(1, 1, 1, 1), width=2, shrink=8))
    save_hmr(good_folder() / "net.pt", net)
    plain = io.BytesIO()
    torch.save({"state_dict": {"conv1.weight": torch.zeros(3)}, "epoch": 3}, plain)
    old = io.BytesIO()
    torch.save({"model": {"fc1.weight": torch.zeros(3)}}, old, _use_new_zipfile_serialization=False)
    means = {"pose": np.zeros(144), "shape": np.zeros(10), "cam": np.zeros(3)}
    files = [(good_folder() / "net.pt").read_bytes(), plain.getvalue(), old.getvalue()]
    return [*(Source(".pt", content) for content in files), Source(".npz", means)]


def vposers() -> list[Source]:
    import torch

    from priors.vposer import VPoserV2

    state, content = VPoserV2(4, 2).state_dict(), io.BytesIO()
    torch.save({"state_dict": {f"vp_model.{name}": value for name, value in state.items()}}, content)
    return [
        Source(".ckpt", content.getvalue()),
        Source(".npz", {name: one.numpy() for name, one in state.items()}),
    ]


def tetrahedron() -> tuple[np.ndarray, np.ndarray]:
    return np.eye(4, 3), np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]])


def priors() -> list[Source]:
    vertices, faces = tetrahedron()
    per_face = io.BytesIO()
    np.save(per_face, np.ones((4, 20)))
    return [
        Source(".npz", {"prob": np.ones((4, 20)), "vertices": vertices, "faces": faces}),
        Source(".npy", per_face.getvalue()),
    ]


def datasets() -> list[Source]:
    eft = {
        "ver": 0.1, "meta": {"body_model": "b"},
        "data": [{"parm_pose": [np.eye(3).tolist()] * 24, "parm_shape": [0.0] * 10, "bbox_scale": 1.0,
                  "bbox_center": [3.0, 4.0], "gt_keypoint_2d": [[1.0, 2.0, 1.0]] * 49, "imageName": "a.png"}],
    }  # fmt: skip
    rows = {"imgname": np.array(["a.png"]), "center": np.ones((1, 2)), "scale": np.ones(1), "pose": np.zeros((1, 72)),
            "shape": np.zeros((1, 10)), "openpose": np.ones((1, 25, 3)), "part": np.ones((1, 24, 3)),
            "S": np.ones((1, 24, 4)), "has_smpl": np.ones(1)}  # fmt: skip
    return [Source(".json", eft), Source(".npz", rows)]


def parser_cards() -> list[Source]:
    card = {"size": [64, 48], "classes": ["background", "hat", "hair"], "crop": "photo", "mean": [0.5, 0.5, 0.5],
            "std": [1.0, 1.0, 1.0], "channels": "bgr", "layout": "nhwc", "logits": False, "output": "out"}  # fmt: skip
    return [Source(".yaml", card), Source(".yaml", {"size": [473, 473]})]


def box_cards() -> list[Source]:
    card = {"size": 640, "score": 0.5, "overlap": 0.4, "person": 0, "edges": "centre", "square": True,
            "numbers": "float32", "mean": [0.5, 0.5, 0.5], "std": [1.0, 1.0, 1.0], "channels": "bgr"}  # fmt: skip
    return [Source(".yaml", card), Source(".yaml", {"size": 320})]


def names() -> list[Source]:
    order = ["Nose", "LShoulder", "RShoulder", "LHip", "RHip", None]
    return [Source(".yaml", order), Source(".yaml", {"names": order, "source": "openpose"})]


def classes() -> list[Source]:
    order = b"0: background\n1: hat\n2: unknown\n5: left-arm\n"
    return [Source(".yaml", order), Source(".yaml", {"a": "hat"})]


def networks() -> list[Source]:
    """The first bytes of one, which is an ONNX file that ends early."""
    from fitter.see.boxes import SHIPPED

    return [Source(".onnx", SHIPPED.read_bytes()[:4000])]


READERS = {
    "photo": Reader(read_photo, photos, 1.5),
    "keypoints": Reader(lambda path: see(keypoints=path), keypoints, 2.0),
    "camera": Reader(read_camera, cameras, 1.5),
    "boxes": Reader(read_boxes, boxes),
    "label": Reader(read_label, maps),
    "mask": Reader(read_mask, maps, 0.5),
    "result": Reader(read_result, results),
    "body": Reader(read_body, bodies, 1.5),
    "preset": Reader(read_preset, presets, 0.7),
    "checkpoint": Reader(read_checkpoint, checkpoints),
    "vposer": Reader(read_vposer, vposers, 0.5),
    "clothing prior": Reader(read_prior, priors, 0.7),
    "dataset": Reader(read_dataset, datasets, 0.7),
    "parser card": Reader(read_parser_card, parser_cards, 0.7),
    "box card": Reader(read_box_card, box_cards, 0.7),
    "keypoint names": Reader(read_names, names, 0.4),
    "label classes": Reader(read_classes, classes, 0.4),
    "network": Reader(read_network, networks, 0.2),
}
