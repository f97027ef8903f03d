"""Files that a reader may be given: good ones of every kind, and what becomes of them when they are damaged."""

import io
import json
import pickle
import zipfile
from dataclasses import dataclass, field

import numpy as np

# fmt: off
ODD = (None, True, "", "x", "\udc80", -1, 0, 1, 25, 1e308, -1e308, float("nan"), float("inf"), 10**400, [], {}, [[]],
       [None] * 3, {"id": []}, [1, "a", None], "../../up", "/etc/passwd", 2**63, 0.1)
# fmt: on
SIZE = (64, 48)  # of the photo to which the others belong
MARKER = "executed"  # what the code in a file would write, beside the file


@dataclass(frozen=True)
class Source:
    """A good file: suffix; content: bytes, a tree of dicts and lists (written as JSON or YAML), or a dict of arrays
    (an npz); pack: of a tree or arrays, how they become bytes (None: by the suffix)."""

    suffix: str
    content: bytes | dict | list
    more: dict = field(default_factory=dict)


class Evil:
    """A pickle of it would run code where it is read."""

    def __reduce__(self):
        return exec, (f"open({MARKER!r}, 'w').write('1')",)


def case(sources: list[Source], rng: np.random.Generator) -> tuple[str, bytes]:
    """A file: suffix and bytes. One in twenty is good, one in ten of something else entirely."""
    source = sources[rng.integers(len(sources))]
    kind = rng.random()
    if kind < 0.05:
        return source.suffix, packed(source.content, source.suffix)
    if kind < 0.15:
        return source.suffix, foreign(rng)
    if isinstance(source.content, bytes) or kind > 0.8:
        return source.suffix, spoilt(packed(source.content, source.suffix), rng)
    if is_arrays(source.content):
        return source.suffix, npz(changed_arrays(source.content, rng), rng)
    tree = json.loads(json.dumps(source.content))
    for _ in range(rng.integers(1, 4)):
        tree = changed(tree, rng)
    return source.suffix, packed(tree, source.suffix)


def is_arrays(content) -> bool:
    return isinstance(content, dict) and any(isinstance(value, np.ndarray) for value in content.values())


def packed(content, suffix: str) -> bytes:
    if isinstance(content, bytes):
        return content
    if is_arrays(content):
        return npz(content)
    if suffix in (".yaml", ".yml"):
        import yaml

        return yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass")
    return json.dumps(content).encode()


def foreign(rng: np.random.Generator) -> bytes:
    """A file of another kind, or one made to hurt."""
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
    )
    many = [
        b"",
        b"\0" * 64,
        b"[" * 30000,
        b'{"a":' * 30000,
        b"null",
        b"3",
        b'"text"',
        b"[]",
        b"{}",
        b"\xff\xfe\x00\xd8",
        "été".encode("latin1"),
        b"{" + b"[" * 2000,
        b"- " * 3000 + b"1",
        bomb.encode(),
        f"!!python/object/apply:builtins.open ['{MARKER}', 'w']".encode(),
        b"%YAML:1.0\n---\n",
        b"a: [1, 2\nb: }",
        b"<html></html>",
        pickle.dumps(Evil(), 0),
        pickle.dumps({"v_template": Evil()}, 2),
        pickle.dumps([np.zeros(3), Evil()], 4),
        b"\x80\x05" + b"(" * 100,
        b"\x80\x04\x8b\xff\xff\xff\x7f",
        b"\x8a\xff" + b"\xff" * 20,
        npz({"a": np.array([Evil()], dtype=object)}),
        npz({}),
        b"PK\x05\x06" + b"\0" * 18,
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
        + b" " * 60,
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        rng.bytes(200),
    ]
    return many[rng.integers(len(many))]


def spoilt(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed, left out, doubled or cut off, a few times."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        if not content:
            break
        at, length = int(rng.integers(len(content))), int(rng.integers(1, 40))
        what = rng.integers(6)
        if what == 0:
            content[at] ^= 1 << int(rng.integers(8))
        elif what == 1:
            content[at : at + length] = rng.bytes(length)
        elif what == 2:
            del content[at : at + length]
        elif what == 3:
            content[at:at] = content[at : at + length]
        elif what == 4:
            content[at : at + 4] = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0")[rng.integers(3)]
        else:
            del content[max(at, 1) :]
    return bytes(content)


def changed(tree, rng: np.random.Generator):
    """One place in a tree of dicts and lists changed: taken away, doubled, or something odd there."""
    places = list(_places(tree))
    if not places:
        return ODD[rng.integers(len(ODD))]
    holder, key = places[rng.integers(len(places))]
    what = rng.integers(5)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif what == 2 and isinstance(holder[key], float):
        holder[key] = holder[key] * float(rng.choice([-1, 0, 1e-3, 1e3, 1e12]))
    elif what == 3 and isinstance(holder, dict):
        holder[str(rng.choice(["id", "x", "images", "people", "K", "keypoints", "size"]))] = holder.pop(key)
    else:
        holder[key] = ODD[rng.integers(len(ODD))]
    return tree


def _places(tree):
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def changed_arrays(arrays: dict, rng: np.random.Generator) -> dict:
    """One or two arrays taken away, of another shape or type, or with odd numbers."""
    arrays = dict(arrays)
    for _ in range(rng.integers(1, 3)):
        name = list(arrays)[rng.integers(len(arrays))]
        array, what = np.asarray(arrays[name]), rng.integers(9)
        if what == 0 and len(arrays) > 1:
            del arrays[name]
        elif what == 1:
            arrays[name] = array.reshape(-1)[: max(0, array.size - 1)]
        elif what == 2:
            arrays[name] = array[None]
        elif what == 3:
            arrays[name] = np.full(array.shape, "x")
        elif what == 4:
            arrays[name] = np.array(str(rng.choice(["{", "[]", "null", "3", '{"a": NaN}', "[" * 5000])))
        elif what == 5:
            arrays[name] = np.array([Evil()], dtype=object)
        elif what == 6 and array.dtype.kind in "fiu":
            arrays[name] = np.full(array.shape, rng.choice([np.nan, np.inf, -1, 1e30, 0]))
        elif what == 7:
            arrays[name] = array.astype(complex) if array.dtype.kind in "fiu" else np.zeros(0)
        else:
            arrays[name] = np.zeros(rng.integers(0, 4, size=rng.integers(0, 4)))
    return arrays


def npz(arrays: dict, rng: np.random.Generator | None = None) -> bytes:
    """An npz; with rng, one in ten has an array whose header promises more than there is."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.asarray(array), allow_pickle=True)
            data = entry.getvalue()
            if rng is not None and rng.random() < 0.03:
                data = data.replace(b"'shape': (", b"'shape': (99999999999, ", 1)
            file.writestr(f"{name}.npy", data)
    return content.getvalue()
