"""ONNX networks on the CPU. The only file that imports onnxruntime."""

from functools import cached_property
from pathlib import Path

import numpy as np

from fitter.jobs import wait_quietly


class Network:
    """A network file, loaded at its first use: network(image=array, ...) -> outputs by name.

    One thread that does not spin while it waits: people's machines run several photos at once.
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
