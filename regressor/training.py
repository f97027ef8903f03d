"""The training loop: plain torch, one process or several under torchrun, exact after a kill.

Which people a step sees, how their pictures are changed and what dropout drops depends on (seed, step) alone, so that a
run that was killed and resumed makes the same weights as one that was not, to the bit on a CPU. A run is resumed by
what it was made from, settings and files, never by its folder's name.
"""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fitter.body.model import load_body
from fitter.fingerprint import fingerprints
from fitter.jobs import PATIENCE
from fitter.method import device_of
from fitter.people import lifter_like
from fitter.write.index import plain
from regressor.checkpoints import load_hmr, read_hmr_file, save_hmr, with_weights
from regressor.config import MODEL_FILES, TrainConfig
from regressor.data import People, draw_change, load_people, load_sample, poorer_keypoints
from regressor.evaluation import bodies_by_gender, evaluate, evaluate_run
from regressor.head_first import OFFSET, learn_head, look
from regressor.hmr import hints_of, make_hmr, to_input
from regressor.losses import Criterion, total, weighted
from regressor.pictures import predicted_sheet
from regressor.scalars import Scalars

# settings with which a run may go on as it is; `steps` as well, where the rate does not fall towards the last one
RESUMABLE = ("out", "mode", "device", "workers", "validate_every", "resume")
TRUNK_SHARE = 0.3  # of the rate, for a trunk that knows much already
ELSE = "Give another --out, with --start to begin at its weights, or --resume false to begin anew there"


class Steps(Dataset):
    """Samples by (step, place in the batch)."""

    def __init__(self, sources: list[People], config: TrainConfig, world: int, rank: int):
        self.sources, self.config = sources, config
        self.whole, self.first = config.batch * world, config.batch * rank
        shares = [source.share for source in config.data]
        sizes = [share or len(people) for share, people in zip(shares, sources, strict=True)]
        self.chances = np.array(sizes, float) / sum(sizes)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, np.ndarray]:
        step, place = key
        rng = np.random.default_rng([self.config.seed, step, place])
        people = self.sources[rng.choice(len(self.sources), p=self.chances)]
        row = int(rng.integers(len(people)))
        change = draw_change(self.config.augmentation, rng)
        semantics = self.config.semantics if self.config.semantics.used else None
        spoil = partial(poorer_keypoints, settings=self.config.augmentation, rng=rng)
        tilted = bool(rng.random() < 0.5)
        sample = load_sample(people, row, change, semantics, self.config.dsr_px, spoil, tilted)
        return sample | {"name": f"{people.images[row].name} ({row})"}


class Batches:
    """Keys of each step's batch on this process, for a DataLoader."""

    def __init__(self, data: Steps, steps: range):
        self.places, self.steps = range(data.first, data.first + data.config.batch), steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return ([(step, place) for place in self.places] for step in self.steps)

    def __len__(self) -> int:
        return len(self.steps)


def collate(samples: list[dict]) -> dict:
    """Stacked tensors by name; names as a list."""
    names = [sample.pop("name") for sample in samples]
    return {key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in samples[0]} | {
        "name": names
    }


class Trainer:
    """Network, optimiser and criterion of a run."""

    def __init__(self, config: TrainConfig):
        self.config, self.out = config, Path(config.out)
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = device_of(config.device)
        if self.device == "cuda":
            self.device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
            torch.cuda.set_device(self.device)
        if self.world > 1:
            backend = "gloo" if self.device == "cpu" else "nccl"
            torch.distributed.init_process_group(backend, timeout=PATIENCE)
        # now, not within a step after its seed is set: making a network draws numbers
        lifter_like(torch.float32, torch.device(self.device))
        torch.manual_seed(config.seed)
        net = load_hmr(config.start, fresh_head=True) if config.start else make_hmr(config.network)
        self.net = net.to(self.device)
        if net.architecture.lite:
            net.backbone.freeze(True)
        trunk = net.backbone._blocks.parameters() if net.architecture.lite else ()
        slower = {id(parameter) for parameter in trunk}
        groups = [
            {
                "params": [p for p in net.parameters() if p.requires_grad and (id(p) in slower) == slow],
                "share": share,
            }
            for slow, share in ((False, 1.0), (True, TRUNK_SHARE))
        ]
        self.optimiser = torch.optim.Adam([group for group in groups if group["params"]], lr=config.rate)
        self.scaler = torch.amp.GradScaler(enabled=config.precision == "amp" and self.device != "cpu")
        regressor = np.load(config.h36m_regressor) if config.h36m_regressor else None
        self.criterion = Criterion(
            load_body(config.body), config.semantics, self.device, regressor, config.clothing_prior
        )
        self.step, self.best, self.resumed = 0, float("inf"), False
        if config.resume and config.mode == "train":
            self.restore()
        self.parallel = self.net
        if self.world > 1:
            self.parallel = torch.nn.parallel.DistributedDataParallel(self.net)

    def restore(self) -> None:
        """Goes on from `out`/last.pt, if there is one. ValueError: it is of another run; says in what."""
        path = self.out / "last.pt"
        if not path.is_file():
            return
        state = read_hmr_file(path)
        if state is None or "optimiser" not in state:
            raise ValueError(
                f"{path}: expected a checkpoint of a run of this version, got another file; {ELSE}"
            )
        then, now = json.loads(state["configuration"]), json.loads(self.configuration)
        free = RESUMABLE + (("steps",) if self.config.schedule == "constant" else ())
        other = [one for one in differences(then, now) if one.split(":")[0].split(".")[0] not in free]
        before, files = json.loads(state["inputs"]), json.loads(self.inputs)
        other += [
            f"{role}: another file's content"
            for role in files
            if before.get(role, files[role]) != files[role]
        ]
        if other:
            raise ValueError(f"{self.out}: is a run with other settings, {'; '.join(other)}. {ELSE}")
        with_weights(self.net, state["model"], path)
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.best, self.resumed = state["step"], state["best"], True

    @property
    def configuration(self) -> str:
        """What the run is told, as JSON; how many processes share it counts as well."""
        return json.dumps(plain(asdict(self.config)) | {"processes": self.world})

    @property
    def inputs(self) -> str:
        """Hashes of the files that the weights depend on, as JSON {role: sha256}, so far as they are there yet."""
        files = {name: getattr(self.config, name) for name in MODEL_FILES}
        files |= {f"data {source.name}": source.file for source in self.config.data}
        found = fingerprints({role: path for role, path in files.items() if path and Path(path).is_file()})
        return json.dumps({role: about["sha256"] for role, about in found.items()})

    def save(self) -> None:
        """`out`/last.pt: the network, loadable as any other, with all that a resumed run needs."""
        more = {
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "best": self.best,
            "inputs": self.inputs,
        }
        save_hmr(self.out / "last.pt", self.net, self.configuration, more)

    def run(self) -> dict[str, float]:
        """Trains to the end; returns the last validation's figures."""
        from tqdm import tqdm

        config, figures = self.config, {}
        head_first = config.looks and not self.resumed
        if self.step >= config.steps and not head_first:
            self.say(f"{self.out}: finished already, at step {self.step}; {self.network()}")
            return figures
        body = self.criterion.body.name
        data = Steps([load_people(s, body) for s in config.data], config, self.world, self.rank)
        validation = [load_people(source, body) for source in config.validation]
        self.announce(data)
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "config.json").write_text(json.dumps(plain(asdict(config)), indent=1) + "\n")
        micro = range(self.step * config.accumulate, config.steps * config.accumulate)
        loader = DataLoader(
            data, batch_sampler=Batches(data, micro), num_workers=config.workers,
            collate_fn=collate, persistent_workers=config.workers > 0,
        )  # fmt: skip
        scalars = Scalars(self.out, self.step) if self.rank == 0 else None
        if head_first:
            self.measure(validation, scalars, self.say)
            self.head_first()
            figures = self.validate(validation, scalars, self.say)
        batches = iter(loader)
        with tqdm(total=config.steps, initial=self.step, disable=self.rank > 0, unit="step") as bar:
            while self.step < config.steps:
                terms = self.update([next(batches) for _ in range(config.accumulate)])
                bar.update()
                bar.set_postfix(loss=f"{sum(terms.values()):.3f}")
                if scalars:
                    scalars.add(self.step, terms)
                if self.step % config.validate_every == 0 or self.step == config.steps:
                    figures = self.validate(validation, scalars, bar.write)
        if scalars:
            self.say("\n".join([*scalars.curves(), self.network()]))
        return figures

    def announce(self, data: Steps) -> None:
        """Says what is learned from, and from where. FileNotFoundError: a photo is not there."""
        for source, people in zip(self.config.data, data.sources, strict=True):
            if not people.images[0].is_file():
                raise FileNotFoundError(
                    f"{source.name}: images {source.images}: expected the folder that names in {source.file} are "
                    f"relative to, found no {people.images[0]}"
                )
            labelled = sum(path is not None for path in people.labels)
            self.say(f"{source.name}: {len(people)} people, {labelled} with labels")
        if self.config.semantics.used and not any(path for people in data.sources for path in people.labels):
            self.say(
                "nobody has labels: the DSR terms are 0 throughout; give a source `labels` to learn from them"
            )
        if self.step:
            self.say(f"{self.out}: resuming at step {self.step} of {self.config.steps}")

    def head_first(self) -> None:
        """The head learns by itself; every process of the run the same."""
        from tqdm import tqdm

        body, config = self.criterion.body, self.config
        data = Steps([load_people(s, body.name) for s in config.data], config, 1, 0)
        keys = Batches(data, range(OFFSET, OFFSET + -(-config.looks // config.batch)))
        loader = DataLoader(data, batch_sampler=keys, num_workers=config.workers, collate_fn=collate)
        show = partial(tqdm, unit="batch", desc="looks", disable=self.rank > 0)
        learn_head(self.net, look(self.net, loader, self.device, show), body, config.seed, self.say)

    def network(self) -> str:
        """Where the network to use is, in words."""
        best = self.out / "best.pt"
        validated = self.config.validation and best.is_file()
        return f"network: {best if validated else self.out / 'last.pt'}"

    def say(self, line: str) -> None:
        """On the console, once."""
        if self.rank == 0:
            print(line, flush=True)

    def evaluate(self) -> dict[str, float]:
        """Errors on the validation sources, written to `out`."""
        return evaluate_run(self.config, self.net, self.criterion, self.device)

    def update(self, batches: list[dict]) -> dict[str, float]:
        """One update of the weights from `accumulate` batches; returns the weighted terms."""
        config, seen = self.config, {}
        self.net.train()
        for group in self.optimiser.param_groups:
            group["lr"] = group["share"] * rate_at(config, self.step)
        self.optimiser.zero_grad()
        for number, batch in enumerate(batches):
            torch.manual_seed(hash((config.seed, self.step, number, self.rank)) % 2**31)
            terms = self.terms(batch)
            loss = total(terms, config.weights) / config.accumulate
            if not torch.isfinite(loss):
                raise FloatingPointError(self.blame(terms, batch["name"]))
            self.scaler.scale(loss).backward()
            for name, value in weighted(terms, config.weights).items():
                seen[name] = seen.get(name, 0.0) + value / config.accumulate
        if config.clip:
            self.scaler.unscale_(self.optimiser)
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), config.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.step += 1
        return seen

    def terms(self, batch: dict) -> dict[str, Tensor]:
        batch = {k: v.to(self.device) for k, v in batch.items() if k != "name"}
        kind = self.device.split(":")[0]
        with torch.autocast(kind, enabled=self.config.precision == "amp"):
            prediction = self.parallel(to_input(batch["image"]), hints_of(batch))
        prediction = prediction.to(batch["betas"])
        bodies = self.criterion.bodies(prediction)
        return self.criterion(prediction, bodies, batch, self.step >= self.config.dsr_from)

    def blame(self, terms: dict[str, Tensor], names: list[str]) -> str:
        """Which person and term made the loss non-finite."""
        for term, values in terms.items():
            for name, value in zip(names, values.tolist(), strict=True):
                if not np.isfinite(value):
                    return f"step {self.step}: term {term} of {name} is {value}"
        return f"step {self.step}: the loss is not finite, though every term is; lower `rate`"

    def validate(self, validation: list[People], scalars: Scalars | None, say=print) -> dict[str, float]:
        """`measure`, and the last weights are kept with all that a resumed run needs."""
        figures = self.measure(validation, scalars, say)
        if self.rank == 0:
            self.save()
        self.together()
        return figures

    def measure(self, validation: list[People], scalars: Scalars | None, say=print) -> dict[str, float]:
        """Figures on each validation source, by the protocol of `evaluate_run`; keeps the best weights by 1.5 PA-MPJPE
        + MPJPE of the first."""
        figures: dict[str, float] = {}
        if self.rank == 0:
            models = bodies_by_gender(self.config, self.device)
            for source, people in zip(self.config.validation, validation, strict=True):
                found = evaluate(
                    self.net, people, self.criterion, self.device, models, source.joints
                ).figures()
                figures |= {f"{source.name}/{key}": value for key, value in found.items()}
                scalars.picture(
                    self.step, source.name, predicted_sheet(self.net, people, self.criterion, self.device)
                )
                words = ", ".join(f"{name_of(key)} {value:.1f} mm" for key, value in found.items())
                say(f"step {self.step}: {source.name}: {words}")
            if figures:
                first = self.config.validation[0].name
                score = 1.5 * figures[f"{first}/pa_mpjpe_mm"] + figures[f"{first}/mpjpe_mm"]
                if score < self.best:
                    self.best = score
                    save_hmr(self.out / "best.pt", self.net, json.dumps(plain(asdict(self.config))))
                scalars.add(self.step, figures)
        return figures

    def together(self) -> None:
        """Waits until all processes of the run are here."""
        if self.world > 1:
            torch.distributed.barrier()


def name_of(key: str) -> str:
    """pa_mpjpe_mm -> PA-MPJPE"""
    return key.removesuffix("_mm").upper().replace("_", "-")


def differences(then: dict, now: dict, prefix: str = "") -> list[str]:
    """`rate: 0.001 then, 0.01 now` of every value that differs; nested names with dots, data sets by their names."""
    found = []
    for key in then.keys() | now.keys():
        pair = then.get(key), now.get(key)
        if all(isinstance(value, list) and value and isinstance(value[0], dict) for value in pair):
            pair = tuple({one["name"]: one for one in value} for value in pair)
        if all(isinstance(value, dict) for value in pair):
            found += differences(*pair, f"{prefix}{key}.")
        elif pair[0] != pair[1]:
            found.append(f"{prefix}{key}: {pair[0]} then, {pair[1]} now")
    return sorted(found)


def rate_at(config: TrainConfig, step: int) -> float:
    """Adam's learning rate for the update after `step` updates."""
    share = 1.0 if config.schedule == "constant" else 0.5 + 0.5 * math.cos(math.pi * step / config.steps)
    return config.rate * share
