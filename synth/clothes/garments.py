"""MakeHuman garments (.mhclo): read them, bind them to a body of any shape, split them into pieces.

    python -m synth.clothes.garments --garments DIR --out synth/clothes/data/garments.npz       # packs those that ship

A garment vertex is a weighted sum of three vertices of MakeHuman's base mesh `hm08` (19,158 vertices, helpers
included) plus an offset that grows with the body. Format: the MakeHuman community's page "MHCLO file format".
Points here are in MakeHuman's frame: decimetres, Y up, facing +Z, x to the person's left.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

BASE_VERTICES = 19158
AXES = ("x_scale", "y_scale", "z_scale")
SKIRT, LONG_HAIR = "helper-skirt", "helper-hair"  # pieces of the base mesh itself
SHIPPED = Path(__file__).parent / "data" / "garments.npz"
LICENCE = (
    "CC0 1.0 Universal: clothes, shoes, hats and hair of MakeHuman (makehumancommunity.org, makehuman-assets)"
)


@dataclass(frozen=True)
class Garment:
    """A garment of N vertices bound to the base mesh.

    corners: [N, 3] int base vertices; weights: [N, 3]; offsets_dm: [N, 3]; scale_ends: [3, 2] int base
    vertices whose distance along x, y, z scales the offsets; scale_lengths_dm: [3], that distance where the
    offsets are as given; hidden: [D] int base vertices that the garment hides; faces: [F, 3] int triangles.
    """

    name: str
    corners: np.ndarray
    weights: np.ndarray
    offsets_dm: np.ndarray
    scale_ends: np.ndarray
    scale_lengths_dm: np.ndarray
    hidden: np.ndarray
    faces: np.ndarray


def read_garment(path: Path) -> Garment:
    """Read an .mhclo and the .obj that it names. ValueError: not in the expected form."""
    bindings, scales, hidden, obj_name, section = [], {}, [], None, ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("verts", "delete_verts"):
            section = words[0]
        elif words[0] in AXES and len(words) == 4:
            scales[words[0]] = (int(words[1]), int(words[2]), float(words[3]))
        elif words[0] == "obj_file":
            obj_name = words[1]
        elif section == "verts" and words[0].isdigit():
            if len(words) not in (1, 9):
                raise ValueError(f"{path}:{number}: expected 1 or 9 numbers for a vertex, got {len(words)}")
            bindings.append(
                [float(word) for word in (words if len(words) == 9 else words * 3 + [1] + [0] * 5)]
            )
        elif section == "delete_verts":
            hidden += _id_ranges(words)
    missing = [axis for axis in AXES if axis not in scales]
    if missing or obj_name is None or not bindings:
        raise ValueError(
            f"{path}: expected an .mhclo with obj_file, {', '.join(AXES)} and verts; {missing} missing"
        )
    count, faces, _ = read_obj(path.parent / obj_name)
    rows = np.array(bindings)
    if len(rows) != count:
        raise ValueError(
            f"{path}: expected a binding for each of {count} vertices of {obj_name}, got {len(rows)}"
        )
    if rows[:, :3].max() >= BASE_VERTICES:
        raise ValueError(
            f"{path}: expected base vertices below {BASE_VERTICES}, got {int(rows[:, :3].max())}"
        )
    ends = [scales[axis] for axis in AXES]
    return Garment(
        name=path.stem,
        corners=rows[:, :3].astype(int),
        weights=rows[:, 3:6],
        offsets_dm=rows[:, 6:],
        scale_ends=np.array([end[:2] for end in ends]),
        scale_lengths_dm=np.array([end[2] for end in ends]),
        hidden=np.array(sorted(set(hidden)), int),
        faces=faces,
    )


def _id_ranges(words: list[str]) -> list[int]:
    """`3 7 - 9` -> 3, 7, 8, 9."""
    ids, i = [], 0
    while i < len(words):
        if i + 2 < len(words) and words[i + 1] == "-":
            ids += range(int(words[i]), int(words[i + 2]) + 1)
            i += 3
        else:
            ids.append(int(words[i]))
            i += 1
    return ids


def read_obj(path: Path) -> tuple[int, np.ndarray, np.ndarray]:
    """Number of vertices, faces [F, 3] (polygons fanned), group name of each face [F] of a Wavefront file."""
    count, faces, groups, group = 0, [], [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            count += 1
        elif words[0] in ("g", "o"):
            group = words[1] if len(words) > 1 else ""
        elif words[0] == "f":
            ids = [int(word.split("/")[0]) - 1 for word in words[1:]]
            for k in range(1, len(ids) - 1):
                faces.append((ids[0], ids[k], ids[k + 1]))
                groups.append(group)
    if not faces:
        raise ValueError(f"{path}: expected a Wavefront .obj with faces, found none")
    return count, np.array(faces), np.array(groups)


def bind(garment: Garment, base_dm: np.ndarray) -> np.ndarray:
    """Put the garment on a body: base mesh [19158, 3] dm in its rest pose -> garment vertices [N, 3] dm."""
    if base_dm.shape != (BASE_VERTICES, 3):
        raise ValueError(
            f"bind: expected all {BASE_VERTICES} vertices of hm08, helpers included, got {base_dm.shape}"
        )
    ends = base_dm[garment.scale_ends, np.arange(3)[:, None]]  # [3, 2], each axis its own coordinate
    scale = np.abs(ends[:, 0] - ends[:, 1]) / garment.scale_lengths_dm
    anchors = np.einsum("nk,nkc->nc", garment.weights, base_dm[garment.corners])
    return anchors + garment.offsets_dm * scale


def pieces(faces: np.ndarray, count: int) -> np.ndarray:
    """Connected piece of each face, 0 having most vertices. faces: [F, 3] over `count` vertices -> [F]."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    _, piece = connected_components(graph, directed=False)
    used = np.zeros(count, bool)
    used[faces] = True
    sizes = np.bincount(piece[used], minlength=piece.max() + 1)
    rank = np.empty(len(sizes), int)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return rank[piece[faces[:, 0]]]


def base_pieces(path: Path) -> list[Garment]:
    """The base mesh's own skirt and long hair (helper geometry) as garments."""
    _, faces, groups = read_obj(path)
    garments = []
    for name in (SKIRT, LONG_HAIR):
        ids, own = np.unique(faces[groups == name], return_inverse=True)
        garments.append(
            Garment(
                name,
                np.repeat(ids[:, None], 3, 1),
                np.tile([1.0, 0, 0], (len(ids), 1)),
                np.zeros((len(ids), 3)),
                np.tile([0, 1], (3, 1)),
                np.ones(3),
                np.zeros(0, int),
                own.reshape(-1, 3),
            )
        )
    return garments


def load_garments(folder: Path | None = None) -> list[Garment]:
    """The garments that ship, or those of makehuman-assets below `folder` (base/clothes, base/hair, basemesh)."""
    if folder is None:
        with np.load(SHIPPED, allow_pickle=False) as file:
            names = file["names"].tolist()
            parts = [f.name for f in fields(Garment) if f.name != "name"]
            return [Garment(name, *(_unpacked(file[f"{name}/{part}"]) for part in parts)) for name in names]
    files = sorted([*folder.glob("base/clothes/*/*.mhclo"), *folder.glob("base/hair/*/*.mhclo")])
    base_obj = folder / "basemesh" / "hm08_base.obj"
    if not files or not base_obj.is_file():
        raise FileNotFoundError(
            f"{folder}: expected base/clothes, base/hair and {base_obj.name} of makehuman-assets"
        )
    return [read_garment(file) for file in files] + base_pieces(base_obj)


def _unpacked(array: np.ndarray) -> np.ndarray:
    return array.astype(float if array.dtype.kind == "f" else int)


def main() -> None:
    """Command line: pack the garments of a folder into one file of arrays."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--garments", type=Path, required=True, help="folder of MakeHuman's CC0 assets")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    garments = load_garments(options.garments)
    arrays = {"names": np.array([g.name for g in garments]), "licence": np.array(LICENCE)}
    for garment in garments:
        for field in fields(Garment):
            value = getattr(garment, field.name)
            if field.name != "name":
                small = np.float32 if value.dtype.kind == "f" else np.uint16
                arrays[f"{garment.name}/{field.name}"] = value.astype(small)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out, **arrays)
    print(f"{options.out}: {len(garments)} garments, {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
