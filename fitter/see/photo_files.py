"""Which files of a folder belong to which photos: by the longest end of their paths, never by a name that fits two."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from fitter.see.photos import Photo

Parts = tuple[str, ...]


def files_of_photos(
    photos: Sequence[Photo],
    folder: str | Path,
    what: str,
    suffixes: Sequence[str],
    refused: Sequence[str] = (),
    added: Sequence[str] = ("",),
    needed: bool = True,
) -> dict[str, dict[str | None, Path]]:
    """Of each photo that has any, by its `image`: its files by person, the whole photo's under None.

    A file is called `<photo>` or `<photo>_<person>` and an ending of `suffixes`, or as the photo's results are (`a_jpg`
    beside `a_png`), and lies beside none or in folders called as the photo's: `seqA/1.png` is of `seqA/1.jpg` and not
    of `seqB/1.jpg`. The photo that shares the longest end of its path has it. Of two files of a photo that share as
    much, in one folder, the earlier counts by `added` to the name, then by `suffixes`.

    what: the setting, for messages; refused: endings that are an error where a photo has no other file; needed: it is
    an error if no file belongs to any photo
    ValueError: that, or no folder; a file that may be two photos', or two that may be a photo's.
    """
    if not os.path.isdir(folder):
        raise ValueError(f"{what} {folder}: expected a folder of files named as the photos, found no folder")
    by_stem: dict[str, list[int]] = defaultdict(list)
    ways = [_ways(photo) for photo in photos]
    for row, own in enumerate(ways):
        for stem in dict.fromkeys(rel[-1] for rel, _ in own):
            by_stem[stem].append(row)
    images = {os.path.abspath(photo.path) for photo in photos if photo.place is None}
    found: dict[tuple[int, str | None], list[tuple]] = defaultdict(list)
    lossy: dict[int, str] = {}
    count, first = 0, ""
    for path in _files(str(folder)):
        parts, suffix = _parts(path)
        if suffix not in (*suffixes, *refused) or os.path.abspath(os.path.join(folder, path)) in images:
            continue
        count, first = count + 1, first or path
        owner = _owner(
            parts, by_stem, ways, [word for word in added if word], photos, f"{what} {folder}: {path}"
        )
        if owner is None:
            continue
        row, person, rank, word = owner
        if suffix in refused:
            lossy.setdefault(row, path)
        else:
            order = added.index(word), suffixes.index(suffix)
            found[row, person].append((rank, order, path))
    result: dict[str, dict[str | None, Path]] = defaultdict(dict)
    for (row, person), own in found.items():
        result[photos[row].image][person] = Path(folder, _best(own, f"{what} {folder}", photos[row].image))
    for row, path in lossy.items():
        if photos[row].image not in result:
            raise ValueError(
                f"{what} {folder}: expected {' or '.join(suffixes[:2])} for {photos[row].image}, got {path}, whose "
                "compression changes ids; save it as PNG"
            )
    if needed and photos and not result:
        raise ValueError(
            f"{what} {folder}: expected files named as the photos, as {Path(photos[0].image).stem}{suffixes[0]}; "
            + (
                f"none of its {count} is, the first is {first}"
                if count
                else f"found no {', '.join(suffixes)}"
            )
        )
    return dict(result)


def _ways(photo: Photo) -> list[tuple[Parts, Parts]]:
    """The paths that a photo's own files may be called by, without suffix: relative to the folder of photos, and as
    long as they are known."""
    relative, _ = _parts(photo.image)
    name = tuple(photo.name.split("/"))
    if photo.place is not None:
        return list(dict.fromkeys([(relative, relative), (name, name)]))
    above = tuple(os.path.abspath(photo.path).split(os.sep))[: -len(relative)]
    return list(dict.fromkeys([(relative, above + relative), (name, above + name)]))


def _parts(path: str) -> tuple[Parts, str]:
    """seqA/1.PNG -> ("seqA", "1"), ".png"."""
    stem, suffix = os.path.splitext(path)
    return tuple(stem.replace(os.sep, "/").split("/")), suffix.lower()


def _files(folder: str) -> Iterator[str]:
    """Paths of the files of a folder and those in it, relative to it, in order; hidden ones are left out, links are
    followed, but to no folder twice."""
    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(root) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(root))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(root, name), folder)


def _owner(parts: Parts, by_stem, ways, added, photos, said: str):
    """(row of the photo, person or None, rank, what was added to the name) of a file; None: no photo's."""
    word = next((word for word in added if parts[-1].endswith(word)), "")
    bare = parts[-1].removesuffix(word)
    names = [(parts[-1], None, ""), (bare, None, word)]
    names += [(bare[:at], bare[at + 1 :], word) for at in range(len(bare) - 2, 0, -1) if bare[at] == "_"]
    for stem, person, used in names:
        called = (*parts[:-1], stem)
        ranked = [(max(_shared(called, *way) for way in ways[row]), row) for row in by_stem.get(stem, ())]
        best = max(ranked, default=((0, False), 0))[0]
        if not best[0]:
            continue
        rows = [row for rank, row in ranked if rank == best]
        if len(rows) > 1:
            one, other = (photos[row] for row in rows[:2])
            names = [Path(photo.name).name for photo in (one, other)]
            remedy = (
                f"call it {' or '.join(names)}" if names[0] != names[1] else "use folders called as theirs"
            )
            raise ValueError(
                f"{said}: expected the file of one photo, it may be {one.image}'s or {other.image}'s; {remedy}"
            )
        return rows[0], person, best, used
    return None


def _shared(called: Parts, relative: Parts, known: Parts) -> tuple[int, bool]:
    """How many parts of the end a file's path has in common with a photo's, 0 where one says otherwise than the other;
    whether it is the photo's path in full."""
    count = 0
    for ours, theirs in zip(reversed(called), reversed(known), strict=False):
        if ours != theirs:
            break
        count += 1
    fits = count == len(called) or count >= len(relative)
    return (count if fits else 0), called == relative


def _best(own: list[tuple], said: str, image: str) -> str:
    """The file of a photo that counts, of (rank, order, path)."""
    rank = max(rank for rank, _, _ in own)
    best = sorted((order, path) for r, order, path in own if r == rank)
    for _, path in best[1:]:
        if os.path.dirname(path) != os.path.dirname(best[0][1]):
            raise ValueError(f"{said}: expected one file for {image}, got {best[0][1]} and {path}; keep one")
    return best[0][1]
