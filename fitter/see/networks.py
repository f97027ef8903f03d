"""ONNX networks on the CPU. The only file that imports onnxruntime."""

import math
import reprlib
from functools import cached_property
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import numpy as np

from fitter.jobs import wait_quietly
from fitter.yaml_files import read_yaml
from priors.checkpoint import cause

SHORT = reprlib.Repr()  # of what a file says: YAML can be short and unfold without end
SHORT.maxlevel = 2


class Network:
    """A network file, loaded at its first use: network(image=array, ...) -> outputs by name.

    One thread that does not spin while it waits: people's machines run several photos at once. On one core a batch is
    no faster than its pictures one by one, and from 4 pictures on slower: they leave the cache.
    """

    def __init__(self, path: str | Path, remedy: str = "reinstall the package"):
        self.path, self.remedy = Path(path), remedy
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: expected a network (.onnx), found none; {remedy}")

    @cached_property
    def session(self):
        wait_quietly()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own types
            raise ValueError(
                f"{self.path}: expected an ONNX network, got {cause(error)}; {self.remedy}"
            ) from error

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
    known = get_type_hints(kind)
    size = "`size: [height, width]`" if "tuple" in str(known["size"]) else "`size: px`"
    if not path.is_file():
        raise ValueError(f"{path}: expected a YAML file beside the network that says {size}")
    entries = read_yaml(path)
    if not isinstance(entries, dict) or "size" not in entries or set(entries) - set(known):
        raise ValueError(
            f"{path}: expected `size` and, if wanted, {sorted(set(known) - {'size'})}; got {SHORT.repr(entries)}"
        )
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in entries.items()}
    for name, value in values.items():
        if not is_kind(value, known[name]):
            raise ValueError(
                f"{path}: {name}: expected {words(known[name])}, got {SHORT.repr(entries[name])}"
            )
    try:
        card = kind(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for name, allowed in choices.items():
        if getattr(card, name) not in allowed:
            raise ValueError(f"{path}: {name}: expected one of {allowed}, got {getattr(card, name)!r}")
    return card


def is_kind(value, annotation) -> bool:
    """Whether a value out of YAML is what a field's annotation says; numbers are finite, and true is none."""
    kinds = get_args(annotation)
    if get_origin(annotation) is tuple:
        same = len(kinds) == 2 and kinds[1] is Ellipsis
        kinds = kinds[:1] * len(value) if same and isinstance(value, tuple) else kinds
        return isinstance(value, tuple) and len(value) == len(kinds) > 0 and all(map(is_kind, value, kinds))
    if kinds:  # str | None
        return any(is_kind(value, one) for one in kinds)
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 1e300
    return type(value) is annotation and (annotation is not float or math.isfinite(value))


def words(annotation) -> str:
    """An annotation as people say it."""
    if get_origin(annotation) is tuple:
        kinds = get_args(annotation)
        return (
            f"a list of {words(kinds[0])}s" if kinds[-1] is Ellipsis else f"{len(kinds)} of {words(kinds[0])}"
        )
    names = {float: "number", int: "whole number", str: "text", bool: "true or false", type(None): "nothing"}
    kinds = get_args(annotation) or (annotation,)
    return " or ".join(names[one] for one in kinds)
