"""Read SMPL-format model files: `.npz`, or `.pkl` of any protocol, without chumpy and without running pickle code.

    python -m fitter.body.smpl_file --out SMPL_OPEN.pkl

writes the open body as the package smplx reads it, which tells a model's kind by the beginning of its file's name.
"""

import argparse
import math
import pickle
import pickletools
from pathlib import Path

import numpy as np

from priors.skeleton import JOINT_NAMES, JOINT_PARENTS

OPEN_BODY = Path(__file__).parents[1] / "data" / "open_body.npz"
REQUIRED = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f", "kintree_table")
MOST_MEMO = 1_000_000  # objects of a pickle that may be numbered: an SMPL file has some hundred
MOST_NUMBERS = 100_000_000  # of a dense matrix
OURS = ("name", "landmark_ids", "part_ids")  # beside them in the open body's files
WHERE = (
    "SMPL: https://smpl.is.tue.mpg.de (free registration; SMPL_python_v.1.1.0.zip, or SMPLIFY_CODE_V2.ZIP for "
    "the neutral body). Leave --body away to use the open body that ships with this package."
)


class _Kept:
    """Stands in for an object whose own class is not run: keeps what was pickled of it."""

    def __setstate__(self, state):
        if not isinstance(state, dict):
            raise pickle.UnpicklingError(f"expected an object's attributes, got {type(state).__name__}")
        self.state = state


class _ChumpyArray(_Kept):
    """chumpy.ch.Ch: an array is in its 'x'."""


class _Sparse(_Kept):
    """A scipy.sparse matrix; subclasses say of which kind."""


_SPARSE = {kind: type(kind, (_Sparse,), {}) for kind in ("csc", "csr", "coo")}


def _latin1_bytes(text: str, encoding: str = "latin1") -> bytes:
    """Python 3 writes array bytes into old pickles as codecs.encode(text, 'latin1'); nothing else is allowed."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"refused codec {encoding!r}")
    return text.encode("latin1")


def _reconstructor(kind, base, state):
    """Protocol 0 and 1 build objects by copyreg's function of this name; nothing but stand-ins is allowed."""
    if not (isinstance(kind, type) and issubclass(kind, _Kept) and base is object and state is None):
        raise pickle.UnpicklingError("refused to build another kind of object")
    return kind()


def _frombuffer(buffer, dtype, shape, order) -> np.ndarray:
    """Protocol 5 builds arrays by numpy's function of this name."""
    return np.frombuffer(buffer, np.dtype(dtype)).reshape(shape, order=order)


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds numpy arrays, and scipy.sparse's and chumpy's as stand-ins; refuses every other name."""

    def find_class(self, module, name):
        if module.startswith("scipy.sparse") and name.partition("_")[2] in ("matrix", "array"):
            if name[:3] in _SPARSE:
                return _SPARSE[name[:3]]
        if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            if name in ("_reconstruct", "scalar"):
                return getattr(np._core.multiarray if hasattr(np, "_core") else np.core.multiarray, name)
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return _frombuffer
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        allowed = {
            ("chumpy.ch", "Ch"): _ChumpyArray,
            ("_codecs", "encode"): _latin1_bytes,
            ("copy_reg", "_reconstructor"): _reconstructor,
            ("copyreg", "_reconstructor"): _reconstructor,
            ("__builtin__", "object"): object,
            ("builtins", "object"): object,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"refused to build {module}.{name}")
        return allowed[module, name]


def _unpickled(file):
    """What a pickle holds, by `_ArrayUnpickler`. UnpicklingError, and whatever a damaged file raises."""
    start = file.tell()
    for opcode, argument, _ in pickletools.genops(file):  # runs nothing
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > MOST_MEMO:
            raise pickle.UnpicklingError(f"refused room for {argument} objects")
    file.seek(start)
    return _ArrayUnpickler(file, encoding="latin1").load()


def _plain(value) -> np.ndarray:
    """An array of numbers from what was pickled: an array, one in another array of objects, chumpy's or scipy's."""
    if isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.item()
    if isinstance(value, _ChumpyArray):
        if "x" not in value.state:
            raise pickle.UnpicklingError("chumpy array without its 'x' values")
        value = value.state["x"]
    if isinstance(value, _Sparse):
        value = _dense(value)
    array = np.asarray(value)
    if array.dtype.kind not in "biufSU":
        raise ValueError(f"expected an array of numbers, found {array.dtype} of shape {array.shape}")
    return array


def _dense(matrix: _Sparse) -> np.ndarray:
    """The array that a sparse matrix stands for; its indices are checked, for scipy writes where they say."""
    import scipy.sparse

    state, kind = matrix.state, type(matrix).__name__
    shape = tuple(int(side) for side in state.get("_shape", state.get("shape")))
    if math.prod(shape) > MOST_NUMBERS:
        raise ValueError(f"expected a sparse matrix of [24, V], found {shape}")
    if kind == "coo":
        where = state["coords"] if "coords" in state else (state["row"], state["col"])
        return scipy.sparse.coo_matrix((state["data"], tuple(where)), shape=shape).toarray()
    build = getattr(scipy.sparse, f"{kind}_matrix")
    built = build((state["data"], state["indices"], state["indptr"]), shape=shape)
    built.check_format(full_check=True)
    return built.toarray()


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays that a body needs; those of objects, which numpy would unpickle with code and all, read as pickles."""
    arrays = {}
    with np.load(path, allow_pickle=False) as file:
        for key in {*REQUIRED, *OURS} & {*file.files}:
            try:
                arrays[key] = file[key]
            except ValueError:
                with file.zip.open(f"{key}.npy") as stream:
                    version = np.lib.format.read_magic(stream)
                    if version not in ((1, 0), (2, 0)):
                        raise
                    getattr(np.lib.format, "read_array_header_{}_{}".format(*version))(stream)
                    arrays[key] = _plain(_unpickled(stream))
    return arrays


def _read_pickle(path: Path) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:
        raw = _unpickled(file)
    if isinstance(raw, np.ndarray) and raw.dtype == object and raw.size == 1:
        raw = raw.item()
    if not isinstance(raw, dict):
        raise ValueError(f"expected a dict of arrays, found {type(raw).__name__}")
    return {key: _plain(raw[key]) for key in (*REQUIRED, *OURS) if key in raw}


def read_smpl_file(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of an SMPL model file, by their official names.

    path: `.npz`, or `.pkl` as distributed (Python 2 pickle, chumpy inside) or cleaned of chumpy, of any protocol.
    Returns at least v_template [V, 3] m, shapedirs [V, 3, S], posedirs [V, 3, 207], J_regressor [24, V],
    weights [V, 24], f [F, 3] int32, kintree_table [2, 24].
    Raises FileNotFoundError or ValueError that say what was expected, what was found, where to get it.
    """
    path = Path(path)
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if file.suffix.lower() in READERS)
        which = (
            f"a folder; give one of its files: {', '.join(inside[:8])}" if inside else "a folder without such"
        )
        raise ValueError(f"body {path}: expected an SMPL model file (.npz or .pkl), found {which}. {WHERE}")
    if not path.is_file():
        raise FileNotFoundError(
            f"body {path}: expected an SMPL model file (.npz or .pkl), found none. {WHERE}"
        )
    try:
        if path.suffix.lower() not in READERS:
            raise ValueError(f"expected .npz or .pkl, found {path.suffix!r}")
        arrays = READERS[path.suffix.lower()](path)
    except Exception as error:
        raise ValueError(f"body {path}: not readable as an SMPL model: {error}. {WHERE}") from error
    return check_smpl_arrays(arrays, path)


READERS = {".npz": _read_npz, ".pkl": _read_pickle, ".pickle": _read_pickle}


def _other_model(arrays: dict[str, np.ndarray]) -> str:
    """The name of another body model whose arrays these are, "" if they may be SMPL's."""
    shape = {key: value.shape or (0,) for key, value in arrays.items()}
    vertices, joints = (shape.get(key, (0,))[0] for key in ("v_template", "J_regressor"))
    directions = shape.get("posedirs", (0,))[-1]
    names = {10475: "SMPL-X", 5023: "FLAME", 778: "MANO", 3889: "SMAL"}
    if vertices in names:
        return names[vertices]
    return {52: "SMPL-H", 55: "SMPL-X"}.get(joints, "STAR" if directions == 93 else "")


def check_smpl_arrays(arrays: dict[str, np.ndarray], path) -> dict[str, np.ndarray]:
    """The same arrays with checked shapes and plain types; ValueError names the first that is wrong."""
    other = _other_model(arrays)
    if other:
        raise ValueError(f"body {path}: this is {other}; give SMPL (24 joints). {WHERE}")
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise ValueError(
            f"body {path}: expected the arrays {', '.join(REQUIRED)}; {', '.join(missing)} missing. {WHERE}"
        )
    count = arrays["v_template"].size // 3
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
            raise ValueError(f"body {path}: expected {key} of shape {shape}, found {found}. {WHERE}")
    for key in expected:
        if arrays[key].dtype.kind not in "biuf" or not np.isfinite(arrays[key]).all():
            raise ValueError(f"body {path}: expected {key} of finite numbers, found others. {WHERE}")
    parents = tuple(arrays["kintree_table"][0, 1:].astype(np.int64).tolist())
    if parents != JOINT_PARENTS[1:]:
        joint = next(k for k in range(1, 24) if parents[k - 1] != JOINT_PARENTS[k])
        raise ValueError(
            f"body {path}: expected SMPL's skeleton in kintree_table, found {parents[joint - 1]} for the parent of "
            f"{JOINT_NAMES[joint]}, not {JOINT_PARENTS[joint]}. {WHERE}"
        )
    if arrays["shapedirs"].shape[2] < 10:
        raise ValueError(
            f"body {path}: expected ≥ 10 shape components, found {arrays['shapedirs'].shape[2]}. {WHERE}"
        )
    faces = arrays["f"].astype(np.int64)
    if not faces.size or faces.min() < 0 or faces.max() >= count:
        raise ValueError(
            f"body {path}: expected face indices in 0..{count - 1}, found "
            f"{faces.min(initial=0)}..{faces.max(initial=0)}. {WHERE}"
        )
    for key, size in (("landmark_ids", 11), ("part_ids", count)):
        ids = arrays.get(key)
        most = count if key == "landmark_ids" else 24
        if ids is None and (key == "part_ids" or count == 6890):
            continue
        if (
            ids is None
            or ids.shape != (size,)
            or ids.dtype.kind not in "iu"
            or not ((ids >= 0) & (ids < most)).all()
        ):
            found = "none" if ids is None else f"{ids.dtype} {ids.shape}"
            raise ValueError(
                f"body {path}: expected {key} of {size} whole numbers in 0..{most - 1} where there are not SMPL's 6890 "
                f"vertices, found {found}. {WHERE}"
            )
    return {**arrays, "f": faces.astype(np.int32)}


def main(arguments: list[str] | None = None) -> None:
    """Command line: write a body as the pickle that `smplx.create(FILE, "smpl")` reads."""
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
