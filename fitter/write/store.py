"""One run's folder: which photos are finished, from what they were made, and how their files get in place.

    python -m fitter.write.store OUT        joins the indexes of all shards into OUT/summary.jsonl

`<out>/index.jsonl` grows by one line per finished photo, written only once all its files are in place: name, image,
inputs ({role: {path, size, sha256}}), digest of the configuration, version, rows of the summary, files with sizes. Of
two lines about one photo the later counts. Shards of a run, `shard="3/16"`, share the folder and have an index each
(`index-00003-of-00016.jsonl`). `photos.jsonl` lists what the run is to fit, in order; `config.json` holds the
settings in full. Results of earlier runs stay, marked as such in the summary, and their settings as
`config-<digest>.json`. A run that was killed at any moment leaves at most a last line that is not whole, which the
next one cuts off, and files of a name of ours, which the next one removes.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fitter.see.photos import MADE_BY_A_RUN, Photo
from fitter.write.files import clear_errors, remove_unfinished, write_files, write_text
from fitter.write.index import (
    PHOTOS,
    Line,
    append,
    cut_torn_line,
    earlier_entries,
    entries_in_order,
    has_index,
    json_line,
    plain,
    read_indexes,
    read_line,
    run_of,
)
from fitter.write.result import VERSION

LOCK = re.compile(r"\.index-\d{5}-of-(\d{5})\.lock")
WORLD = ".world.npz"  # a person in several cameras, which is no result of one photo
SEQUENCE = ".sequence.npz"  # a person through a clip
SUMMARY, CONFIG = "summary.jsonl", "config.json"
OTHER_CONFIG = re.compile(r"config-[0-9a-f]{12}\.json")  # `settings_file`'s
UNLOCKABLE = (errno.ENOSYS, errno.EOPNOTSUPP)
REASONS = ("changed", "other settings", "other outputs", "lost", "tried again", "again")


@dataclass(frozen=True)
class Merged:
    """photos: of the run, in all; rows: of the summary about them; missing: photos that no index names with this
    configuration; earlier: photos of earlier runs that the folder still has results of."""

    photos: int
    rows: int
    missing: tuple[str, ...]
    earlier: int = 0


class Store:
    """The folder of one run or shard, opened by one process, which alone writes its index.

        with Store(out, configuration) as store:
            for photo in store.expect(list_photos(images, skip=[out])):
                inputs = models | fingerprints({"photo": photo, "keypoints": path})
                if store.kept(photo.name, inputs) is None:
                    store.put(photo.name, inputs, rows, {f"{photo.name}_0.npz": lambda path: save_fit(path, fit)})
        print(store.report())
        merge(out)

    out: folder, made if it is not there
    configuration: all settings that change a result, as JSON; without paths whose content the inputs name
    outputs: kinds of files that this run writes, such as "overlay"; a photo without one of them is not kept
    shard: "k/n", k = 0..n-1, of a run that is shared out; settings: what config.json shows instead of `configuration`

    ValueError: not a folder that can be written, another run writes there, no such shard. StoreFull: no room left.
    """

    def __init__(
        self,
        out: str | Path,
        configuration: Mapping,
        *,
        version: str = VERSION,
        outputs: Iterable[str] = (),
        shard: str | None = None,
        settings: Mapping | None = None,
    ):
        self.out, self.version, self.outputs = Path(out), version, sorted(outputs)
        self.configuration = digest_of(configuration)
        self.shard = parse_shard(shard)
        k, n = self.shard
        self.tag = "" if shard is None else f"{k:05d}-of-{n:05d}-"  # of the temporary files
        self._index = self.out / ("index.jsonl" if shard is None else f"index-{k:05d}-of-{n:05d}.jsonl")
        self.counts: Counter[str] = Counter()
        self._why: dict[str, str] = {}
        self._fds: list[int] = []
        self._left: set[Path] = set()  # folders that may have become empty
        try:
            with clear_errors(self.out):
                self.out.mkdir(parents=True, exist_ok=True)
                self._lock(shard is not None)
                remove_unfinished(self.out, self.tag)
                self._end = cut_torn_line(self._index)
                self._file = os.open(self._index, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
                self._fds.append(self._file)
                self._lines, self.damaged = read_indexes(self.out)
                text = json.dumps(plain(configuration if settings is None else settings), indent=2)
                self._keep_settings()
                write_text(self.out, CONFIG, [text, "\n"], self.tag)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Frees the folder for the next run."""
        for folder in sorted(self._left, reverse=True):  # shards of this run may be about to write there
            if self.tag == "" and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        self._left.clear()
        while self._fds:
            os.close(self._fds.pop())

    def expect(self, photos: list[Photo]) -> list[Photo]:
        """Writes down which photos, in order, the run is to fit; returns those of this shard."""
        head = {"photos": len(photos), "configuration": self.configuration, "version": self.version}
        lines = ({"name": photo.name, "image": photo.image} for photo in photos)
        write_text(self.out, PHOTOS, (json_line(line) for line in (head, *lines)), self.tag)
        k, n = self.shard
        return photos[k::n]

    def kept(self, name: str, inputs: Mapping[str, Mapping]) -> list[dict] | None:
        """The photo's rows of the summary if it is finished, else None: from inputs of the same content, with the same
        configuration and version, all its files there with their sizes, and every kind of output that is asked for.

        Of inputs, paths do not count but for the photo's, its name in the results. What is finished may be without a
        single file: a photo whose people were all lost.
        """
        entry = self._entry(name)
        why = self._reason(entry, inputs)
        if why:
            self._why[name] = why
            return None
        self.counts["kept"] += 1
        return entry["rows"]

    def record(
        self,
        name: str,
        inputs: Mapping[str, Mapping],
        rows: list[dict],
        files: Iterable[tuple[str, int]],
        finished: bool = True,
    ) -> list[dict]:
        """Adds a photo to the index, its files (as `write_files` returned them) being in place; returns its rows as
        they are kept: numbers that are not finite are null.

        finished: False for one that was skipped; it stands in the summary and is tried again by the next run. Files of
        an earlier result of this photo that the new one does not have are removed. StoreFull: no room for the line.
        """
        earlier, line = self._entry(name), self._lines.get(name)
        entry = {
            "name": name,
            "image": inputs.get("photo", {}).get("path", name),
            "time": max(
                time.time(), line.time + 1e-3 if line else 0
            ),  # later than what it takes the place of
            "finished": finished,
            "configuration": self.configuration,
            "version": self.version,
            "outputs": self.outputs,
            "inputs": plain(inputs),
            "rows": plain(rows),
            "files": [[path, size] for path, size in files],
        }
        text = json_line(entry).encode()
        with clear_errors(self.out):
            append(self._file, self._end, text)
        self._lines[name] = Line(self._index, self._end, len(text), entry["time"])
        self._end += len(text)
        why = self._why.pop(name, "again" if earlier else "new")
        self.counts.update(["fitted" if finished else "skipped", why])
        for path in _paths(earlier) - _paths(entry):
            (self.out / path).unlink(missing_ok=True)
            self._left |= {
                self.out / above
                for above in Path(path).parents
                if above != Path() and (self.out / above).is_dir()
            }
        return entry["rows"]

    def put(
        self,
        name: str,
        inputs: Mapping[str, Mapping],
        rows: list[dict],
        files: Mapping[str, Callable[[Path], None]],
        finished: bool = True,
    ) -> list[dict]:
        """`write_files`, then `record`."""
        return self.record(name, inputs, rows, write_files(self.out, files, self.tag), finished)

    def report(self) -> str:
        """What was done, for a person: "kept 412, fitted 13 (3 changed)"."""
        reasons = [f"{self.counts[why]} {why}" for why in REASONS if self.counts[why]]
        text = f"kept {self.counts['kept']}, fitted {self.counts['fitted']}"
        text += f" ({', '.join(reasons)})" if reasons else ""
        return text + (f", skipped {self.counts['skipped']}" if self.counts["skipped"] else "")

    def _reason(self, entry: dict | None, inputs: Mapping[str, Mapping]) -> str:
        """Why a photo is to be fitted, a word of REASONS or "new"; "" if it is not."""
        if entry is None:
            return "new"
        if (entry["configuration"], entry["version"]) != (self.configuration, self.version):
            return "other settings"
        if _content(entry["inputs"]) != _content(inputs):
            return "changed"
        if not entry["finished"]:
            return "tried again"
        if not set(self.outputs) <= set(entry["outputs"]):
            return "other outputs"
        return "" if all(_size(self.out / path) == size for path, size in entry["files"]) else "lost"

    def _entry(self, name: str) -> dict | None:
        line = self._lines.get(name)
        return None if line is None else read_line(line)

    def _keep_settings(self) -> None:
        """Where results of the last run were made with other settings than this one's, puts those aside."""
        last = run_of(self.out).get("configuration", self.configuration)
        if last == self.configuration or not (self.out / CONFIG).is_file():
            return
        if any(read_line(line)["configuration"] == last for line in self._lines.values()):
            os.replace(self.out / CONFIG, self.out / settings_file(last))

    def _lock(self, shared: bool) -> None:
        """Takes the folder, or this shard of it; ValueError if another run has it."""
        self._flock(self.out / ".lock", shared)
        if not shared:
            return
        own = self.out / f".{self._index.stem}.lock"
        self._flock(own, False)
        # shards of n share no photo with each other, but with those of another n
        for path in self.out.iterdir():
            match = LOCK.fullmatch(path.name)
            if match and int(match[1]) != self.shard[1]:
                self._flock(path, True)
                os.close(self._fds.pop())

    def _flock(self, path: Path, shared: bool) -> None:
        """Holds a lock file as long as this process lives, if it is killed too."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._fds.append(fd)
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            who = os.pread(fd, 200, 0).decode(errors="replace").strip() or "another one"
            raise ValueError(
                f"out {self.out}: expected a folder that no other run writes to, {who} does; wait for it or give "
                "another --out"
            ) from None
        except OSError as error:
            if error.errno not in UNLOCKABLE:
                raise
            print(f"out {self.out}: this file system has no locks; start no second run here", file=sys.stderr)
        who = f"process {os.getpid()} on {socket.gethostname()}"
        os.ftruncate(fd, 0)
        os.pwrite(fd, who.encode(), 0)


def merge(out: str | Path) -> Merged:
    """Joins what all indexes of a run say into `<out>/summary.jsonl`, in the order of its photos.

    A photo counts as missing that no index names, or only with other settings. After them come the rows of what earlier
    runs left here, with `earlier: true` and, if their settings were others, the file of these as `config`.
    ValueError: no such folder, no index.
    """
    out = Path(out)
    photos, rows, missing, earlier = 0, 0, [], 0
    settings = {CONFIG}

    def lines() -> Iterator[str]:
        nonlocal photos, rows, earlier
        for image, entry in entries_in_order(out):
            photos += 1
            if entry is None:
                missing.append(image)
                continue
            rows += len(entry["rows"])
            yield from map(json_line, entry["rows"])
        of_run = run_of(out).get("configuration")
        for entry in earlier_entries(out):
            earlier += 1
            about: dict = {"earlier": True}
            if entry["configuration"] != of_run and (out / settings_file(entry["configuration"])).is_file():
                about["config"] = settings_file(entry["configuration"])
                settings.add(about["config"])
            yield from (json_line(row | about) for row in entry["rows"])

    write_text(out, SUMMARY, lines())
    for path in out.glob("config-*.json"):
        if OTHER_CONFIG.fullmatch(path.name) and path.name not in settings:
            path.unlink(missing_ok=True)
    return Merged(photos, rows, tuple(missing), earlier)


def settings_file(digest: str) -> str:
    """Where the settings of earlier results stand, by the digest of their configuration."""
    return f"config-{digest[:12]}.json"


def results(out: str | Path) -> Iterator[Path]:
    """The people's .npz files of a run, in the order of its summary; people whose file was taken away are left out.

    Without an index, all .npz files of the folder and the folders in it, by name.
    """
    out = Path(out)
    if not has_index(out):
        found = (path.relative_to(out) for path in out.rglob("*.npz"))
        parts = sorted(path.parts for path in found)
        for path in parts:
            if not is_result(path[-1]) or path[0] in MADE_BY_A_RUN:
                continue
            if not any(part.startswith(".") for part in path):
                yield out.joinpath(*path)
        return
    for _, entry in entries_in_order(out):
        for path, _ in entry["files"] if entry else ():
            if is_result(path) and os.path.isfile(os.path.join(out, path)):
                yield out / path


def is_result(path: str) -> bool:
    """Whether a file of a run is a person's fit in one photo."""
    return path.endswith(".npz") and not path.endswith((WORLD, SEQUENCE))


def parse_shard(shard: str | None) -> tuple[int, int]:
    """ "3/16" -> (3, 16); None -> (0, 1). ValueError: not k/n with k = 0..n-1."""
    if shard is None:
        return 0, 1
    match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", shard)
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError(f"shard: expected k/n with k from 0 to n-1, as 0/16 ... 15/16, got {shard!r}")
    return int(match[1]), int(match[2])


def digest_of(configuration: Mapping) -> str:
    """SHA-256, hex, of a configuration as JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(plain(configuration), sort_keys=True).encode()).hexdigest()


def _content(inputs: Mapping[str, Mapping]) -> dict:
    """What of the inputs must be the same for a result to be kept."""
    return {
        role: (found["size"], found["sha256"], found["path"] if role == "photo" else "")
        for role, found in inputs.items()
    }


def _paths(entry: dict | None) -> set[str]:
    return {path for path, _ in entry["files"]} if entry else set()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def main(arguments: list[str] | None = None) -> int:
    """Merges the indexes of a folder; the exit code: 0, 3 if photos are missing, 2 wrong usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m fitter.write.store OUT", file=sys.stderr)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    try:
        found = merge(arguments[0])
    except (ValueError, OSError) as error:
        print(f"store: {error}", file=sys.stderr)
        return 2
    print(
        f"{found.rows} rows of {found.photos} photos in {Path(arguments[0]) / SUMMARY}; {len(found.missing)} missing"
        + (f"; beside them {found.earlier} photos of earlier runs" if found.earlier else "")
    )
    for image in found.missing[:20]:
        print(f"  missing   {image}")
    return 3 if found.missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
