"""ONNX networks on the CPU. The only file that imports onnxruntime."""

from dataclasses import fields
from functools import cached_property
from pathlib import Path

import numpy as np

from fitter.jobs import wait_quietly


class Network:
    """A network file, loaded at its first use: network(image=array, ...) -> outputs by name.

    One thread that does not spin while it waits: people's machines run several photos at once. On one core a batch is
    no faster than its pictures one by one, and from 4 pictures on slower: they leave the cache.
    """

    def __init__(self, path: str | Path, remedy: str = "reinstall the package"):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: expected a network (.onnx), found none; {remedy}")

    @cached_property
    def session(self):
        wait_quietly()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])

    @property
    def input_names(self) -> list[str]:
        return [one.name for one in self.session.get_inputs()]

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        names = [output.name for output in self.session.get_outputs()]
        ready = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        return dict(zip(names, self.session.run(names, ready), strict=True))


def read_card(path: Path, kind: type, choices: dict[str, tuple[str, ...]]):
    """What a YAML file says of the network beside it: a `kind`, a dataclass with a field `size`.

    choices: the values that some of its fields may have. ValueError: something missing, unknown or of another kind.
    """
    import yaml

    known = {field.name for field in fields(kind)}
    size = "`size: [height, width]`" if "tuple" in str(kind.__annotations__["size"]) else "`size: px`"
    if not path.is_file():
        raise ValueError(f"{path}: expected a YAML file beside the network that says {size}")
    entries = yaml.safe_load(path.read_text())
    if not isinstance(entries, dict) or "size" not in entries or set(entries) - known:
        raise ValueError(f"{path}: expected `size` and, if wanted, {sorted(known - {'size'})}; got {entries}")
    try:
        card = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in entries.items()})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for name, allowed in choices.items():
        if getattr(card, name) not in allowed:
            raise ValueError(f"{path}: {name}: expected one of {allowed}, got {getattr(card, name)!r}")
    return card
