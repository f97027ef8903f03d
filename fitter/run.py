"""A whole run: every photo of a folder through the pipeline, several at a time, and only those that are not done."""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path

from fitter.config import FitConfig
from fitter.fingerprint import fingerprint
from fitter.label.label_classes import read_classes
from fitter.label.label_files import label_files
from fitter.options import FROM_NETWORK, MODEL_FILES, PER_PHOTO, check_options, check_paths, of_clips
from fitter.see.camera_files import camera_file, check_camera_path
from fitter.see.clip import Clip, search_clips
from fitter.see.keypoint_files import check_keypoints
from fitter.see.photos import Photo, find_photos
from fitter.see.rig import instants, read_rig, rig_files
from fitter.write.files import StoreFull
from fitter.write.rejection import read_decisions
from fitter.write.store import SEQUENCE, Store, merge, results


def run_folder(config: FitConfig, method: Callable | None = None) -> int:
    """Fits all photos of `config.images`; returns how many photos were skipped. method: `method.load_models`'s.

    Writes `<out>/<photo>_<person>.npz`, `<out>/overlays/<photo>.jpg`, `<out>/summary.jsonl`, `<out>/config.json` and
    the index of what was read. ValueError or FileNotFoundError for what would spoil every photo (no photos, wrong
    body).
    """
    from tqdm import tqdm

    from fitter.jobs import cores, parallel
    from fitter.pipeline import configuration_of
    from fitter.raster.rasterizer import compile_twin

    check_options(config)
    check_paths(config)
    read_classes(config.label_classes)
    if config.decisions:
        read_decisions(config.decisions)
    if config.camera:
        check_camera_path(config.camera)
    if config.views:
        read_rig(config.views)
    skip = [config.out, config.labels, config.ignore]
    used = [path_of(name, getattr(config, name)) for name in (*PER_PHOTO, *MODEL_FILES, "views")]
    clips, unread = {}, ""
    if of_clips(config):
        found, unread = search_clips(config.images, config.fps, skip, used)
        clips = {clip.photo.name: clip for clip in found}
        first = [clip.photos(1)[0] for clip in found]
        for what, folder in (("labels", config.labels), ("ignore", config.ignore)):
            if folder:
                label_files([photo for clip in found for photo in clip.photos()], folder, what)  # or none is
        photos, inputs_of = [clip.photo for clip in clips.values()], reader_of_clip_inputs(config, clips)
    else:
        photos, unread = find_photos(config.images, skip, used)
        first = photos
        if config.views:
            moments = instants(photos, read_rig(config.views))  # or photos that are no camera's
            lone = sum(len(own) == 1 for own in moments.values())
            if lone:
                print(
                    f"views: {lone} of {len(moments)} moments have one camera's photo alone", file=sys.stderr
                )
        inputs_of = reader_of_inputs(config, photos)
    for line in check_keypoints(first, config.keypoints, config.keypoint_names):
        print(line, file=sys.stderr)
    models = models_of(
        config, method
    )  # a wrong body or a missing package ends the run here, not once per photo
    if config.export_as:
        from fitter.write.export import check_betas

        check_betas(models.body, config.export_as)
    compile_twin()  # before there are several processes that would
    settings = configuration_of(config)
    about = {name: value for name, value in settings.items() if path_of(name, value) is None}
    outputs = ["overlay"] * config.overlay + [config.save_mesh] * bool(config.save_mesh)
    with Store(config.out, about, outputs=outputs, shard=config.shard, settings=settings) as store:
        own = store.expect(photos)
        size, jobs = shared_out(config, len(own))
        waiting = (
            (photo, inputs)
            for photo, inputs in ((photo, inputs_of(photo)) for photo in own)
            if config.overwrite or store.kept(photo.name, inputs) is None
        )
        if clips:
            waiting, jobs = (
                ([(clips[photo.name], inputs)] for photo, inputs in waiting),
                config.jobs or cores(),
            )
            jobs = min(jobs, len(own))
        else:
            waiting = batches(waiting, size)
        if config.views:
            waiting = waiting_instants(config, own, inputs_of, store)
        work = partial(fit_batch, config=config, method=method, tag=store.tag)
        with (
            parallel(jobs, config.cluster) as each,
            tqdm(total=len(own), unit="clip" if clips else "photo") as bar,
        ):
            for outcomes in each(work, waiting):
                for outcome, inputs in outcomes:
                    photo = outcome.photo
                    store.record(photo.name, inputs, outcome.rows, outcome.files, outcome.finished)
                done = sum(store.counts[word] for word in ("kept", "fitted", "skipped"))
                bar.update(done - bar.n)
            bar.update(len(own) - bar.n)
        print(store.report())
    merged = merge(config.out)
    skipped = report(config, merged.earlier)
    if unread:
        print(unread)
    if config.shard and merged.missing:
        print(f"{len(merged.missing)} of {merged.photos} photos are other shards' and not done yet")
    if config.report and not merged.missing:  # else another shard writes it
        write_report(config)
    if config.export:
        from fitter.write.export import export_fits

        export_fits(
            config.out,
            config.images,
            config.export,
            config.rejection,
            body=config.body,
            betas_as=config.export_as,
            decisions=config.decisions,
        )
    return skipped


def write_report(config: FitConfig) -> None:
    """The page about the whole run, if it has people."""
    from fitter.write import report

    if next(results(config.out), None):
        print(f"to look through: {report.write_report(config.out, config.body, config.jobs)}")


def shared_out(config: FitConfig, photos: int) -> tuple[int, int]:
    """Photos a batch and processes worth starting: batches as large as may be of which all processes get as many."""
    from fitter.jobs import cores

    photos = max(photos, 1)
    jobs = min(config.jobs or cores(), photos)
    rounds = -(-photos // (jobs * batch_size(config)))
    size = config.batch or -(-photos // (jobs * rounds))
    return size, min(jobs, -(-photos // size))


def batch_size(config: FitConfig) -> int:
    """Photos that share a batch."""
    if config.batch:
        return config.batch
    from fitter.method import device_of

    return 64 if device_of(config.device) == "cuda" else 8


def batches(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items, the last shorter; as they come."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def waiting_instants(
    config: FitConfig, photos: list[Photo], inputs_of: Callable, store: Store
) -> Iterator[list[tuple[Photo, dict]]]:
    """The photos of every instant that is not done, with what each was made from: the others of the instant as well."""
    for own in instants(photos, read_rig(config.views)).values():
        made = [inputs_of(photo) for photo in own]
        seen = {f"view {at}": one["photo"] for at, one in enumerate(made)}
        group = [(photo, one | seen) for photo, one in zip(own, made, strict=True)]
        if config.overwrite:
            yield group
            continue
        kept = sum(store.kept(photo.name, one) is not None for photo, one in group)
        if kept < len(group):
            store.counts["kept"] -= kept  # they are fitted again with the others
            yield group


def fit_batch(
    batch: list[tuple[Photo | Clip, dict]], config: FitConfig, method: Callable | None, tag: str
) -> list[tuple]:
    """(Outcome, inputs) of each photo or clip of a batch, in a process that has the models."""
    if isinstance(batch[0][0], Clip):
        from fitter.sequences import fit_clip

        return [(fit_clip(clip, made, models_of(config, method), tag), made) for clip, made in batch]
    if config.views:
        from fitter.instants import fit_instant as fit
    else:
        from fitter.pipeline import fit_photos as fit

    photos, inputs = zip(*batch, strict=True)
    return list(zip(fit(photos, inputs, models_of(config, method), tag), inputs, strict=True))


@lru_cache(maxsize=4)
def models_of(config: FitConfig, method: Callable | None = None):
    """`method.load_models`, once a process."""
    from fitter.jobs import one_thread
    from fitter.method import load_models

    one_thread()
    return load_models(config, method)


def path_of(name: str, value) -> Path | None:
    """The file or folder that a setting names, whose content counts and not its name; None for any other setting, and
    for words such as the parser's "shipped"."""
    if name not in (*PER_PHOTO, *MODEL_FILES, "views") or not value or (name, value) == ("init", "network"):
        return None
    path = Path(value.removeprefix(FROM_NETWORK))
    return path if path.exists() else None


def reader_of_inputs(config: FitConfig, photos: list[Photo]) -> Callable[[Photo], dict]:
    """Photo -> what its fit is made from, {role: {path, size, sha256}}: its own files and the models'.

    photos: all of the run. ValueError: a folder with nothing for any of them, or with a file that may be two photos'.
    """
    from fitter.see.views import beside, own_path

    shared, folders = {}, {}
    maps = {
        what: label_files(photos, folder, what)
        for what, folder in (("labels", config.labels), ("ignore", config.ignore))
        if folder
    }
    for name in (*MODEL_FILES, *PER_PHOTO):
        path = path_of(name, getattr(config, name))
        if path is None or name in maps:
            continue
        if path.is_dir():
            folders[name] = files_by_photo(path)
        else:
            shared |= file_inputs(name, path)

    if config.views:
        shared |= {f"views {path.name}": fingerprint(path) for path in rig_files(config.views)}
    if "init" in folders and not any(results_in(folders["init"], photo) for photo in photos):
        raise ValueError(
            f"init {config.init}: expected results (<photo>_<person>.npz) of these photos, found none; give the --out "
            "of a run"
        )

    def inputs(photo: Photo) -> dict:
        try:
            found = {"photo": photo.fingerprint()}
        except ValueError:
            found = {"photo": {"path": photo.image, "size": -1, "sha256": ""}}
        if "camera" in folders:
            with suppress(ValueError):  # the photo's fit says so
                found["camera"] = fingerprint(camera_file(beside(config.camera, photo), own_path(photo)))
        for name, files in folders.items():
            if name == "camera":
                continue
            stem = str(Path(photo.image).with_suffix(""))
            own = {*files[stem], *files[Path(stem).name], *files[photo.name]}
            for number, path in enumerate(sorted(own)):
                found[f"{name} {number}"] = fingerprint(path)
        for what, files in maps.items():
            own = files.get(photo.image, {})
            found |= {f"{what} {person or ''}": fingerprint(path) for person, path in own.items()}
        return {**found, **shared}

    return inputs


def reader_of_clip_inputs(config: FitConfig, clips: Mapping[str, Clip]) -> Callable[[Photo], dict]:
    """`reader_of_inputs` of clips: their own files, the models', and all of every folder that frames' files are in."""
    shared = {}
    for name in (*MODEL_FILES, *PER_PHOTO):
        path = path_of(name, getattr(config, name))
        if path and path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            shared |= {f"{name} {file.relative_to(path).as_posix()}": fingerprint(file) for file in files}
        elif path:
            shared |= file_inputs(name, path)

    def inputs(photo: Photo) -> dict:
        try:
            return {"photo": clips[photo.name].fingerprint(), **shared}
        except ValueError:  # the clip's fit says so
            return {"photo": {"path": photo.image, "size": -1, "sha256": ""}, **shared}

    return inputs


def file_inputs(name: str, path: Path) -> dict[str, dict]:
    """What a setting's file says, with the card that lies beside a network."""
    beside = path.with_suffix(".yaml")
    card = {f"{name} card": beside} if name in ("detector", "parser") and beside.is_file() else {}
    return {role: fingerprint(file) for role, file in ({name: path} | card).items()}


def results_in(files: Mapping[str, list[Path]], photo: Photo) -> list[Path]:
    """Of `files_by_photo`, a photo's results."""
    return [path for path in files.get(photo.name, ()) if path.suffix == ".npz"]


def files_by_photo(folder: Path) -> dict[str, list[Path]]:
    """Files of a folder and those in it by the photos they may belong to: <photo>.*, <photo>_<person>.*, and
    <photo>_keypoints.*."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            stem = str(path.relative_to(folder).with_suffix(""))
            found[stem].append(path)
            if "_" in Path(stem).name:
                found[stem.rpartition("_")[0]].append(path)
    return found


def report(config: FitConfig, earlier: int = 0) -> int:
    """Prints what was done; returns the number of skipped photos. Of large runs the first rows of each kind.

    earlier: photos of earlier runs that the folder still holds results of."""
    import json

    counts = {"fitted": 0, "doubtful": 0, "skipped": 0, "refused": 0, "noted": 0}
    shown: list[str] = []
    labels: Counter[str] = Counter()
    out = Path(config.out)
    with open(out / "summary.jsonl") as rows:
        for row in map(json.loads, rows):
            if row.get("earlier"):
                continue
            kind = row["status"]
            if kind == "fitted" and not row["valid"]:
                kind = "doubtful"
            counts[kind] += 1
            if kind != "fitted" and counts[kind] <= 100:
                who = f" person {row['person']}" if row["person"] is not None else ""
                shown.append(f"  {kind:<9} {row['image']}{who}: {'; '.join(row['reasons'])}")
            source, _, why = row.get("labels", "").partition("; ")
            labels[source if source in ("parser", "none", "") else "files"] += 1
            if why and labels["none"] <= 100:
                shown.append(
                    f"  no labels {row['image']} person {row['person']}: {why}; fitted to keypoints alone"
                )
    people = counts["fitted"] + counts["doubtful"]
    print(
        f"{people} people fitted, {counts['doubtful']} of them doubtful, {counts['skipped']} photos skipped"
    )
    if counts["refused"]:
        print(f"{counts['refused']} left out: no people, or too little of them")
    if config.labels:
        print(
            f"labels: {labels['files']} people from files, {labels['parser']} from the parser, {labels['none']} none"
        )
    for line in shown:
        print(line)
    if earlier:
        print(f"results of {earlier} photos of earlier runs stay there, marked `earlier` in the summary")
    if not config.export and (out / "export").is_dir():
        print(f"{out / 'export'} is of an earlier run; --export writes it again")
    mesh = "glb" if config.save_mesh in ("rigged", "scene") else config.save_mesh
    kinds = ["*.npz", *([f"*.{mesh}"] if config.save_mesh else [])]
    overlays = ["overlays/*.jpg"] * config.overlay
    if of_clips(config):
        kinds, overlays = [*kinds, f"*{SEQUENCE}"], overlays + ["overlays/*.mp4"] * config.overlay
    print(f"results in {out}: {', '.join([*kinds, *overlays, 'summary.jsonl'])}")
    return counts["skipped"]


def stop(error: BaseException) -> int:
    """Exit code of a run that ended early, said in one line."""
    if isinstance(error, KeyboardInterrupt):
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    from fitter.help import called

    for line in str(error).splitlines():
        print(f"{called('fit.py')}: {line}", file=sys.stderr)
    return 1 if isinstance(error, StoreFull) else 2
