"""Read SMPL-format model files: `.npz`, or the official `.pkl` without chumpy and without running pickle code.

    python -m fitter.body.smpl_file --out SMPL_OPEN.pkl

writes the open body as the package smplx reads it, which tells a model's kind by the beginning of its file's name.
"""

import argparse
import pickle
from pathlib import Path

import numpy as np

REQUIRED = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f", "kintree_table")
OURS = ("name", "landmark_ids", "part_ids")  # beside them in the open body's files
WHERE = (
    "SMPL: https://smpl.is.tue.mpg.de (free registration; SMPL_python_v.1.1.0.zip, or SMPLIFY_CODE_V2.ZIP for "
    "the neutral body). Leave --body away to use the open body that ships with this package."
)


class _ChumpyArray:
    """Stands in for chumpy.ch.Ch: keeps the array that the object wraps, runs nothing of chumpy."""

    def __setstate__(self, state):
        if not isinstance(state, dict) or "x" not in state:
            raise pickle.UnpicklingError("chumpy array without its 'x' values")
        self.x = np.asarray(state["x"])


def _latin1_bytes(text: str, encoding: str = "latin1") -> bytes:
    """Python 3 writes array bytes into old pickles as codecs.encode(text, 'latin1'); nothing else is allowed."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"refused codec {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds numpy arrays, scipy.sparse matrices and chumpy's array class; refuses every other name."""

    def find_class(self, module, name):
        if module.startswith("scipy.sparse") and name in ("csc_matrix", "csr_matrix", "coo_matrix"):
            import scipy.sparse

            return getattr(scipy.sparse, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            if name in ("_reconstruct", "scalar"):
                return getattr(np._core.multiarray if hasattr(np, "_core") else np.core.multiarray, name)
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("chumpy.ch", "Ch"):
            return _ChumpyArray
        if (module, name) == ("_codecs", "encode"):
            return _latin1_bytes
        raise pickle.UnpicklingError(f"refused to build {module}.{name}")


def _plain(value) -> np.ndarray:
    if isinstance(value, _ChumpyArray):
        value = value.x
    if hasattr(value, "toarray"):
        value = value.toarray()
    return np.asarray(value)


def read_smpl_file(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of an SMPL model file, by their official names.

    path: `.npz`, or `.pkl` as distributed (Python 2 pickle, chumpy inside).
    Returns at least v_template [V, 3] m, shapedirs [V, 3, S], posedirs [V, 3, 207], J_regressor [24, V],
    weights [V, 24], f [F, 3] int32, kintree_table [2, 24].
    Raises FileNotFoundError or ValueError that say what was expected, what was found, where to get it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"body {path}: expected an SMPL model file (.npz or .pkl), found none. {WHERE}"
        )
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        elif path.suffix == ".pkl":
            with open(path, "rb") as file:
                raw = _ArrayUnpickler(file, encoding="latin1").load()
            if not isinstance(raw, dict):
                raise ValueError(f"expected a dict of arrays, found {type(raw).__name__}")
            arrays = {key: _plain(raw[key]) for key in (*REQUIRED, *OURS) if key in raw}
        else:
            raise ValueError(f"expected .npz or .pkl, found {path.suffix!r}")
    except Exception as error:
        raise ValueError(f"body {path}: not readable as an SMPL model: {error}. {WHERE}") from error
    return check_smpl_arrays(arrays, path)


def check_smpl_arrays(arrays: dict[str, np.ndarray], path) -> dict[str, np.ndarray]:
    """The same arrays with checked shapes and plain types; ValueError names the first that is wrong."""
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise ValueError(
            f"body {path}: expected the arrays {', '.join(REQUIRED)}; {', '.join(missing)} missing. {WHERE}"
        )
    count = len(arrays["v_template"])
    expected = {
        "v_template": (count, 3),
        "shapedirs": (count, 3, None),
        "posedirs": (count, 3, 207),
        "J_regressor": (24, count),
        "weights": (count, 24),
        "f": (None, 3),
        "kintree_table": (2, 24),
    }
    for key, shape in expected.items():
        found = arrays[key].shape
        if len(found) != len(shape) or any(
            s is not None and s != f for s, f in zip(shape, found, strict=True)
        ):
            hint = (
                " (SMPL-H and SMPL-X have more joints: use SMPL)" if key in ("weights", "J_regressor") else ""
            )
            raise ValueError(f"body {path}: expected {key} of shape {shape}, found {found}{hint}. {WHERE}")
    if arrays["shapedirs"].shape[2] < 10:
        raise ValueError(
            f"body {path}: expected ≥ 10 shape components, found {arrays['shapedirs'].shape[2]}. {WHERE}"
        )
    faces = arrays["f"].astype(np.int64)
    if faces.min() < 0 or faces.max() >= count:
        raise ValueError(
            f"body {path}: expected face indices in 0..{count - 1}, found {faces.min()}..{faces.max()}. {WHERE}"
        )
    return {**arrays, "f": faces.astype(np.int32)}


def main(arguments: list[str] | None = None) -> None:
    """Command line: write a body as the pickle that `smplx.create(FILE, "smpl")` reads."""
    from fitter.body.model import OPEN_BODY

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--body", type=Path, default=OPEN_BODY, help="an .npz in SMPL's format")
    options = parser.parse_args(arguments)
    arrays = read_smpl_file(options.body)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(
        pickle.dumps(
            {key: np.asarray(arrays[key]) for key in (*REQUIRED, *OURS) if key in arrays}, protocol=2
        )
    )
    print(f"{options.out}: smplx.create({str(options.out)!r}, 'smpl')")


if __name__ == "__main__":
    main()
