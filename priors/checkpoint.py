"""Weights out of PyTorch checkpoints and npz files, without running code from them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch

# What a tensor is made of in a checkpoint; all else is replaced by an inert object.
_ALLOWED_GLOBALS = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.serialization", "_get_layout"),
}


class _Inert:
    """Stands in for every other object of a checkpoint (a trainer's settings, callbacks); does nothing."""

    def __init__(self, *_arguments, **_settings):
        pass

    def __setstate__(self, _state):
        pass

    def __setitem__(self, _key, _value):
        pass

    def append(self, _value):
        pass

    def extend(self, _values):
        pass


class _TensorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        storage = module in ("torch", "torch.storage", "torch.cuda") and name.endswith("Storage")
        dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if (module, name) in _ALLOWED_GLOBALS or storage or dtype:
            return super().find_class(module, name)
        return _Inert


class _TensorPickle:
    """Stands in for the pickle module in torch.load."""

    __name__ = "tensor_pickle"
    Unpickler = _TensorUnpickler

    @staticmethod
    def load(file, **settings):
        return _TensorUnpickler(file, **settings).load()


def _read_torch(path: Path) -> dict:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # a trainer's own classes beside the weights
        return torch.load(path, map_location="cpu", pickle_module=_TensorPickle, weights_only=False)


def read_npz(path: str | Path, what: str) -> dict[str, np.ndarray]:
    """The arrays of an npz by name, or of an npy under "". Arrays of Python objects are left out, not unpickled.

    what: it should be, for the message. ValueError: not such a file, damaged, or more than the memory holds.
    """
    arrays = {}
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {"": content}
        with content as file:
            for name in file.files:
                try:
                    arrays[name] = file[name]
                except ValueError as error:
                    if "allow_pickle" not in str(error):
                        raise
    except Exception as error:  # zip, zlib, struct and numpy each raise types of their own
        raise ValueError(
            f"{what} {path}: expected a whole .npz of plain arrays, got {cause(error)}"
        ) from error
    return {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}


def cause(error: Exception) -> str:
    """What went wrong inside a library, in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Named tensors of a checkpoint: `.npz`, or what torch.save wrote, its weights on top or in `state_dict`.

    Objects other than tensors are skipped, never built: no code from the file runs.

    Raises FileNotFoundError, or ValueError where the file holds no named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights {path}: no such file")
    if path.suffix == ".npz":
        arrays = read_npz(path, "weights")
        return {name: torch.from_numpy(array) for name, array in arrays.items() if array.dtype.kind in "fiu"}
    try:
        content = _read_torch(path)
    except Exception as error:  # torch's readers and pickle raise many types
        raise ValueError(
            f"weights {path}: expected a PyTorch checkpoint or an npz, got {cause(error)}; download or save it again"
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {}
    if isinstance(content, dict):
        tensors = {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ValueError(f"weights {path}: expected named tensors, got {type(content).__name__} without any")
    return tensors
