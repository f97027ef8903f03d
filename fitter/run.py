"""A whole run: every photo of a folder through keypoints, camera, fit, result and overlay, several at a time."""

import glob
import json
import os
from dataclasses import asdict, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from fitter.config import FitConfig
from fitter.see.camera import Camera, camera_of_photo, read_image
from fitter.see.keypoints import Person, find_keypoints, select_people
from fitter.write.result import Fit, is_finite, load_fit, save_fit, save_mesh, skipped_row, summary_row

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
SAME_BOX = 0.5  # overlap of the boxes of one person, as a share of the smaller one
# settings that change no result
RUN_ONLY = ("images", "out", "jobs", "overwrite", "overlay", "save_mesh", "export", "rejection")


def run_folder(config: FitConfig, kind: type["Session"] | None = None) -> int:
    """Fits all photos of `config.images`; returns how many photos were skipped. kind: another Session's class.

    Writes `<out>/<photo>_<person>.npz`, `<out>/overlays/<photo>.png`, `<out>/summary.jsonl`, `<out>/config.json`.
    ValueError or FileNotFoundError for what would spoil every photo (no photos, wrong body).
    """
    from joblib import Parallel, delayed
    from tqdm import tqdm

    photos = list_photos(config.images)
    out = Path(config.out)
    kind = kind or Session
    kind.of_process(config)  # a wrong body or a missing package ends the run here, not once per photo
    (out / "overlays").mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    jobs = min(config.jobs or os.cpu_count() or 1, len(photos))
    work = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(fit_photo)(photo, name, config, kind)
        for photo, name in zip(photos, result_names(photos), strict=True)
    )
    rows: list[dict] = []
    with open(out / "summary.jsonl", "w") as summary, tqdm(total=len(photos), unit="photo") as bar:
        for photo_rows in work:
            rows += photo_rows
            summary.writelines(json.dumps(row) + "\n" for row in photo_rows)
            summary.flush()
            bar.update()
            bar.set_postfix(people=sum(row["status"] == "fitted" for row in rows))
    skipped = report(rows, out)
    if config.export:
        from fitter.write.export import export_fits

        export_fits(config.out, config.images, config.export, config.rejection, body=config.body)
    return skipped


def list_photos(images: str) -> list[Path]:
    """Photos of a folder, sorted by name, or the one photo; FileNotFoundError if there is none."""
    where = Path(images)
    if where.is_file():
        return [where]
    photos = (
        sorted(p for p in where.glob("*") if p.suffix.lower() in PHOTO_SUFFIXES) if where.is_dir() else []
    )
    if not photos:
        raise FileNotFoundError(
            f"images {where}: expected a photo or a folder of {', '.join(PHOTO_SUFFIXES)}; found none"
        )
    return photos


def result_names(photos: list[Path]) -> list[str]:
    """What each photo's files are called: its stem, or its whole name where two photos share a stem."""
    stems = [photo.stem for photo in photos]
    return [p.stem if stems.count(p.stem) == 1 else p.name.replace(".", "_") for p in photos]


def report(rows: list[dict], out: Path) -> int:
    """Prints what was done; returns the number of skipped photos."""
    fitted = [row for row in rows if row["status"] == "fitted"]
    skipped = [row for row in rows if row["status"] == "skipped"]
    doubtful = [row for row in fitted if not row["valid"]]
    print(f"{len(fitted)} people fitted, {len(doubtful)} of them doubtful, {len(skipped)} photos skipped")
    for row in doubtful:
        print(f"  doubtful  {row['image']} person {row['person']}: {'; '.join(row['reasons'])}")
    for row in skipped:
        print(f"  skipped   {row['image']}: {row['reasons'][0]}")
    print(f"results in {out}: *.npz, overlays/*.png, summary.jsonl")
    return len(skipped)


def fit_photo(photo: Path, name: str, config: FitConfig, kind: type["Session"] | None = None) -> list[dict]:
    """Fits one photo and writes its files under `name`; returns its rows of the summary.

    Trouble with this photo becomes a row of status "skipped", never an exception.
    """
    session, out = (kind or Session).of_process(config), Path(config.out)
    if not config.overwrite:
        rows = finished_rows(out, name, session.configuration, config)
        if rows:
            return rows
    try:
        image = read_image(photo)
        people = session.people(photo, image)
        camera = camera_of_photo(photo, config.camera, image.shape[1], image.shape[0])
        chosen = select_people(people, config.people)
        rows = [row for row, person in enumerate(people) if any(person is one for one in chosen)]
        start = session.initial(name, image, people, camera)
        first = session.keypoint_fits(image, people, start, camera) if session.labelled else None
        labels = session.labels(photo, image, people, camera, first)
        if first:  # where somebody was to begin elsewhere, the fit must not end above that
            start = [given or fitted for given, fitted in zip(start, first, strict=True)]
        labels, start = ([every[row] for row in rows] for every in (labels, start))
        fits = session.fit(photo.name, name, image, chosen, labels, start, camera)
    except Exception as error:  # one bad photo must not end the run; the summary names it
        reason = str(error) or type(error).__name__
        return [{"image": photo.name, "person": None, "status": "skipped", "reasons": [reason]}]
    lost = [skipped_row(photo.name, fit) for fit in fits if not is_finite(fit)]
    whole = [row for row, fit in enumerate(fits) if is_finite(fit)]
    fits, chosen, labels = ([every[row] for row in whole] for every in (fits, chosen, labels))
    if config.save_mesh:
        for fit in fits:
            save_mesh(out / f"{name}_{fit.person}.{config.save_mesh}", fit, session.faces)
    if config.overlay:
        session.draw(out / "overlays" / f"{name}.png", image, fits, chosen, labels)
    for fit in fits:
        save_fit(out / f"{name}_{fit.person}.npz", fit)
    return [summary_row(vars(fit)) for fit in fits] + lost


def finished_rows(out: Path, name: str, configuration: str, config: FitConfig) -> list[dict]:
    """Summary rows of a photo that an earlier run finished with the same configuration and all files asked for now;
    else none."""
    try:
        fits = [load_fit(path) for path in sorted(out.glob(f"{glob.escape(name)}_*.npz"))]
    except ValueError:
        return []
    fits = [fit for fit in fits if fit["configuration"] == json.loads(configuration) and fit["name"] == name]
    whole = bool(fits) and fits[0]["people_in_photo"] == len(fits)
    wanted = [out / "overlays" / f"{name}.png"] if config.overlay else []
    if config.save_mesh:
        wanted += [out / f"{name}_{fit['person']}.{config.save_mesh}" for fit in fits]
    whole = whole and all(path.is_file() for path in wanted)
    return [summary_row(fit) for fit in fits] if whole else []


class Session:
    """What one process loads once: body, pose prior, detector."""

    starts_turned = False  # whether a body to begin from may face the wrong way

    def __init__(self, config: FitConfig):
        import torch

        from fitter.body.model import load_body
        from priors.pose import load_pose_prior

        torch.set_num_threads(1)  # photos are the unit of parallel work; results do not depend on `jobs`
        self.config = config
        self.configuration = configuration_text(config)
        self.body = load_body(config.body, torch.float64)
        self.prior = load_pose_prior(config.pose_prior, config.vposer, torch.float64)
        self.faces = self.body.faces.numpy()

    @classmethod
    @lru_cache(maxsize=1)
    def of_process(cls, config: FitConfig) -> "Session":
        return cls(config)

    @cached_property
    def detector(self):
        from fitter.see.detect import make_detector

        return make_detector(self.config.detector)

    def people(self, photo: Path, image: np.ndarray) -> list[Person]:
        """All people of a photo; ValueError if there is nobody."""
        if self.config.keypoints:
            people = find_keypoints(photo, self.config.keypoints)
        else:
            people = self.detector(image, photo.name)
        if not people:
            raise ValueError("nobody found in this photo")
        return people

    @cached_property
    def parser(self):
        """The clothing parser; None if nothing is to be parsed."""
        from fitter.label.parse import load_parser

        return load_parser(self.config.parser)

    def labels(
        self, photo: Path, image: np.ndarray, people: list[Person], camera: Camera, first: list | None = None
    ) -> list:
        """Each person's clothing labels, None for those without: from files, and of whom these say nothing, by the
        parser.

        Their bodies fitted to the keypoints alone (`first`, made here if not given) say whose a pixel is where
        one map shows several people, and where `config.unknown` is "found", which background hides a person and
        which labels are a stranger's.
        """
        if not self.labelled:
            return [None] * len(people)
        from fitter.label.person_labels import find_labels, labels_of_people, load_labels, load_masks
        from fitter.label.soft_labels import likeliest

        ids, size = [person.id for person in people], (camera.height, camera.width)
        found = find_labels(photo, self.config.labels, ids) if self.config.labels else {}
        maps, soft = load_labels(found, size), {}
        if self.parser and None not in maps and set(ids) - maps.keys():
            parsed = self.parser(image, people)
            soft = {person: answer for person, answer in parsed.items() if person not in maps}
            maps |= {person: likeliest(answer, size) for person, answer in soft.items()}
        ignore = load_masks(find_labels(photo, self.config.ignore, ids), size) if self.config.ignore else {}
        bodies = fitted_px = None
        look = self.config.unknown == "found"
        if maps and (look or (None in maps and len(people) > 1)):
            first = first or self.keypoint_fits(image, people, [None] * len(people), camera)
            bodies, fitted_px = self.coverage(first, camera)
        labels = labels_of_people(maps, people, bodies, fitted_px if look else None, ignore)
        answers = [soft.get(person if person in maps else None) for person in ids]
        return [label and replace(label, soft=answer) for label, answer in zip(labels, answers, strict=True)]

    @property
    def labelled(self) -> bool:
        """Whether the DSR terms are used at all: some of them are on, and labels come from somewhere."""
        return self.config.semantics.used and (bool(self.config.labels) or self.config.parser != "none")

    def keypoint_fits(self, image: np.ndarray, people: list[Person], start: list, camera: Camera) -> list:
        """Fits to the keypoints alone; start: as of `fit`."""
        return self.fit("", "", image, people, [None] * len(people), start, camera)

    def coverage(self, fits: list, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """Where each fitted body lies in the photo, [P, H, W] of 0 and 1, and its keypoints [P, 25, 2] px."""
        from fitter.write.overlay import paint

        size = (camera.height, camera.width)
        shapes = [paint(f.vertices_cam[None], self.faces, f.focal_px, f.center_px, size)[1] for f in fits]
        return np.stack(shapes).astype(np.float32), np.stack([f.keypoints_px for f in fits])

    @cached_property
    def semantics(self):
        """The DSR terms; None without labels."""
        if not self.labelled:
            return None
        from fitter.energy.semantics import SemanticTerms
        from fitter.raster.rasterizer import make_rasterizer
        from priors.clothing import load_clothing_prior

        settings, vertices = self.config.semantics, self.body.template.numpy()
        prior = load_clothing_prior(self.config.clothing_prior, vertices, self.faces)
        return SemanticTerms(make_rasterizer("cpu"), self.body.faces, prior.prob, settings)

    def fit(
        self,
        image_name: str,
        name: str,
        image: np.ndarray,
        people: list[Person],
        labels: list,
        start: list,
        camera: Camera,
    ) -> list:
        """The people's fits; start: the body that each begins from (a Fit, `load_fit`'s entries), or None."""
        from fitter.people import fit_people

        known = [vars(body) if isinstance(body, Fit) else body for body in start]
        fits: list = [None] * len(people)
        for begun in (True, False):  # rows of a fit are independent, so two groups are as good as one
            rows = [row for row, start in enumerate(known) if (start is not None) == begun]
            if rows:
                own, marks = [people[r] for r in rows], [labels[r] for r in rows]
                arguments = (
                    image_name,
                    own,
                    camera,
                    self.body,
                    self.prior,
                    self.config,
                    marks,
                    self.semantics,
                )
                found = fit_people(
                    *arguments, [known[r] for r in rows] if begun else None, self.starts_turned
                )
                for row, fit in zip(rows, found, strict=True):
                    fits[row] = fit
        about = {"name": name, "people_in_photo": len(fits), "configuration": self.configuration}
        return [replace(fit, **about) for fit in fits]

    def initial(self, name: str, image: np.ndarray, people: list[Person], camera: Camera) -> list:
        """The bodies in `config.init` to begin each person's fit from; None where there is none.

        ValueError: a result of somebody else's.
        """
        return [self._saved(name, person) for person in people]

    def _saved(self, name: str, person: Person) -> dict | None:
        from fitter.see.crops import overlap

        path = Path(self.config.init or "") / f"{name}_{person.id}.npz"
        if not self.config.init or not path.is_file():
            return None
        start = load_fit(path)
        if overlap(start["box_px"], person.box_px) < SAME_BOX:
            raise ValueError(f"init {path}: expected person {person.id} of this photo, got a box elsewhere")
        finite = all(np.isfinite(start[key]).all() for key in ("pose", "betas", "transl_cam"))
        return start if finite and start["transl_cam"][2] > 0 else None

    def draw(self, path: Path, image: np.ndarray, fits, people: list[Person], labels: list) -> None:
        from PIL import Image

        from fitter.write.overlay import overlay

        clothes = self.clothes(people, labels) if any(known is not None for known in labels) else None
        Image.fromarray(overlay(image, fits, self.faces, clothes)).save(path)

    def clothes(self, people: list[Person], labels: list):
        """Labels and most likely vertex labels as colours, for the overlay."""
        import torch

        from fitter.energy.semantics import make_targets
        from fitter.write.overlay import Clothes
        from priors.clothing import PALETTE

        known = [label for label in labels if label is not None]
        ids = np.max([np.where(label.valid > 0, label.ids, 0) for label in known], axis=0).astype(np.uint8)
        targets = make_targets(people, labels, self.config.semantics, 64, self.semantics.prob.dtype)
        every = torch.eye(len(PALETTE), dtype=self.semantics.prob.dtype)[None]
        likely = self.semantics.person_prob(targets, every)[..., 1:].argmax(-1).numpy() + 1
        return Clothes(ids, PALETTE[likely] / 255)


def configuration_text(config: FitConfig) -> str:
    """The resolved configuration as JSON text, as results carry it; without what does not change a result."""
    entries = {name: value for name, value in asdict(config).items() if name not in RUN_ONLY}
    return json.dumps(entries, sort_keys=True)
