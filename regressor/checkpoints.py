"""The regressor's weights from files: our own, SPIN's, EFT's, DSR's, and ImageNet's ResNet-50.

| file                      | its tensors are named                                      | renamed                     |
| ------------------------- | ---------------------------------------------------------- | --------------------------- |
| ours                      | `backbone.conv1.weight`, `head.fc1.weight`, ... in `model` | nothing                     |
| SPIN, EFT (trainers)      | `conv1.weight`, `fc1.weight`, `init_pose`, ... in `model`  | `backbone.`, `head.` added  |
| EFT, plain                | the same on top, without `init_*`                          | the same                    |
| DSR, PARE (Lightning) HMR | `model.backbone.`..., `model.head.`... in `state_dict`     | `model.` taken off          |
| torchvision's ResNet-50   | `conv1.weight`, ..., `fc.weight` on top                    | `backbone.` added, no `fc.` |

Files are read as named tensors; no code from them runs. `python -m regressor.checkpoints FROM TO` writes a checkpoint's
network alone, in half precision.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from fitter.label.parse import PARSER
from fitter.options import SHIPPED
from priors.checkpoint import cause, read_state_dict
from regressor.hmr import ARCHITECTURES, HMR, Architecture, make_hmr
from regressor.lite import parser_trunk

FORMAT = "hmr-1"
SHIPPED_FILE = Path(__file__).parent / "models" / "hmr_lite.pt"
WRAPPERS = ("module.", "model.")  # DataParallel's, and a Lightning trainer's network
BACKBONE = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")
HEAD = ("fc1.", "fc2.", "decpose.", "decshape.", "deccam.", "init_")
MEAN = {"pose": "head.init_pose", "shape": "head.init_shape", "cam": "head.init_cam"}
UNUSED = ("fc.", "backbone.fc.", "smpl", "J_regressor", "loss_fn.", "renderer.")  # classifier, body, trainer


def save_hmr(path: str | Path, net: HMR, configuration: str = "{}", more: Mapping | None = None) -> None:
    """Writes `net` in our own format.

    configuration: JSON text of what it was trained with; more: further entries (optimiser, step, ...): tensors,
    numbers, text, and dicts or lists of them, so that `read_hmr_file` can read them back.
    """
    path, entries = Path(path), dict(more or {})
    entries |= {"format": FORMAT, "architecture": json.dumps(asdict(net.architecture))}
    entries |= {"configuration": configuration, "model": net.state_dict()}
    unfinished = path.with_name(path.name + ".part")
    torch.save(entries, unfinished)
    unfinished.replace(path)  # a killed run leaves no half-written checkpoint


def halved(source: str | Path, path: str | Path) -> None:
    """Writes the network of a checkpoint of ours alone, in half precision: what ships."""
    content, net = read_hmr_file(source), load_hmr(source)
    save_hmr(path, net.half(), content["configuration"])


def read_hmr_file(path: str | Path) -> dict | None:
    """What `save_hmr` wrote, on the CPU: format, architecture, configuration, model and `more`; None: another file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # of many types; `read_state_dict` says what is wrong with a file
        return None
    return content if isinstance(content, dict) and content.get("format") == FORMAT else None


def load_hmr(path: str | Path, mean_params: str | Path | None = None, fresh_head: bool = False) -> HMR:
    """A trained network on the CPU, in eval mode: our own, or a SPIN, EFT or DSR checkpoint (all ResNet-50).

    mean_params: SPIN's `smpl_mean_params.npz`, for files without `init_pose`, `init_shape` and `init_cam`.
    path: or `shipped`, the network that ships.
    fresh_head: a file of a backbone alone (ImageNet's ResNet-50) is welcome and gets an untrained head, to be trained;
    so is `parser`: `lite` with the shipped clothing parser's trunk.
    FileNotFoundError; ValueError: not such a file, or names or shapes that do not fit, each named.
    """
    if path == "parser" and fresh_head:
        net = make_hmr("lite")
        net.backbone.load_state_dict(parser_trunk(PARSER), strict=False)
        return net
    path = SHIPPED_FILE if path == SHIPPED else path
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path}: no such file")
    ours = read_hmr_file(path)
    if ours is not None:
        return with_weights(_network_of(ours, path), ours["model"], path).eval()
    net, tensors = make_hmr("resnet50"), renamed(read_state_dict(path))
    has_head = any(name.startswith("head.") for name in tensors)
    if not has_head and not fresh_head:
        raise ValueError(
            f"checkpoint {path}: expected a whole regressor, got a backbone without head.fc1 and the like; it can "
            "start a training, not predict"
        )
    if not has_head:
        tensors |= {f"head.{name}": value for name, value in net.head.state_dict().items()}
    if mean_params is not None:
        tensors = read_mean_params(mean_params) | tensors
    absent = sorted(set(MEAN.values()) - tensors.keys())
    if absent:
        raise ValueError(
            f"checkpoint {path}: expected the mean parameters that its head starts from, got none of {absent}; give "
            "SPIN's smpl_mean_params.npz as mean_params"
        )
    return with_weights(net, tensors, path).eval()


def _network_of(content: dict, path: str | Path) -> HMR:
    """The network that one of our files says it holds; ValueError: it says no such thing."""
    tensors = content.get("model")
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"checkpoint {path}: expected named tensors in `model`; save it again")
    try:
        return HMR(architecture_of(content))
    except Exception as error:  # sizes that torch cannot make layers of
        raise ValueError(f"checkpoint {path}: expected an architecture, got {cause(error)}") from error


def architecture_of(content: dict) -> Architecture:
    """Of what `read_hmr_file` read; ValueError where this version knows no such backbone."""
    fields = json.loads(content["architecture"])
    try:
        return Architecture(**(fields | {"blocks": tuple(fields["blocks"])}))
    except (KeyError, TypeError) as error:
        raise ValueError(f"checkpoint: expected an architecture as of this version, got {fields}") from error


def name_of(architecture: Architecture) -> str:
    """`resnet50`, `small`, or what else it is."""
    names = [name for name, known in ARCHITECTURES.items() if known == architecture]
    return names[0] if names else str(architecture)


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A public file's tensors under our names; what no regressor needs (`UNUSED`) left out."""
    result = {}
    for name, value in tensors.items():
        while name.startswith(WRAPPERS):
            name = name.partition(".")[2]
        if name.startswith(UNUSED):
            continue
        prefix = "backbone." if name.startswith(BACKBONE) else "head." if name.startswith(HEAD) else ""
        result[prefix + name] = value
    return result


def read_mean_params(path: str | Path) -> dict[str, Tensor]:
    """SPIN's mean parameters (npz: pose [144] as 6D, shape [10], cam [3]) as our buffers; ValueError: another file."""
    arrays = read_state_dict(path)
    sizes = {"pose": 144, "shape": 10, "cam": 3}
    got = {name: tuple(value.shape) for name, value in arrays.items()}
    if any(name not in arrays or arrays[name].numel() != size for name, size in sizes.items()):
        raise ValueError(f"mean parameters {path}: expected pose [144], shape [10], cam [3], got {got}")
    return {MEAN[name]: arrays[name].reshape(1, -1).float() for name in sizes}


def with_weights(net: HMR, tensors: Mapping[str, Tensor], path: str | Path) -> HMR:
    """`net` holding `tensors`; ValueError that names what is missing, unexpected or of another shape.

    BatchNorm's `num_batches_tracked` may be missing: files from before PyTorch 0.4.1 have none, and nothing uses it.
    """
    wanted = net.state_dict()
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in tensors if name not in wanted]
    shapes = [
        f"{name} {list(tensors[name].shape)}, expected {list(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    odd = [
        name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()
    ]
    trouble = {"missing": missing, "unexpected": unexpected, "of another shape": shapes, "not finite": odd}
    found = [f"{len(names)} {what} ({listed(names)})" for what, names in trouble.items() if names]
    if found:
        raise ValueError(
            f"checkpoint {path}: expected the {len(wanted)} tensors of the HMR {name_of(net.architecture)}, got "
            f"{'; '.join(found)}. SPIN, EFT, DSR and torchvision ResNet-50 files fit; see regressor/checkpoints.py"
        )
    net.load_state_dict(tensors, strict=False)
    return net


def listed(names: list[str], most: int = 8) -> str:
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join(names[:most] + more)


if __name__ == "__main__":
    halved(*sys.argv[1:3])
