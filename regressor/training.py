"""The training loop: plain torch, one process or several under torchrun, exact after a kill.

Which people a step sees, how their pictures are changed and what dropout drops depends on (seed, step) alone, so that a
run that was killed and resumed makes the same weights as one that was not.
"""

import json
import math
import os
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fitter.body.model import load_body
from fitter.jobs import PATIENCE
from fitter.method import device_of
from fitter.write.index import json_line, plain
from regressor.checkpoints import load_hmr, save_hmr
from regressor.config import TrainConfig
from regressor.data import People, draw_change, load_people, load_sample, poorer_keypoints
from regressor.evaluation import evaluate, evaluate_run
from regressor.hmr import limb_input, make_hmr, to_input
from regressor.losses import Criterion, total, weighted
from regressor.pictures import predicted_sheet


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
        sample = load_sample(people, row, change, semantics, self.config.dsr_px)
        found = poorer_keypoints(sample["keypoints_px"], self.config.augmentation, rng)
        sample["limbs"] = limb_input(found)
        return sample | {"name": f"{people.images[row].name} ({row})"}

    def batches(self, start: int, stop: int) -> list[list[tuple[int, int]]]:
        """Keys of each step's batch on this process."""
        places = range(self.first, self.first + self.config.batch)
        return [[(step, place) for place in places] for step in range(start, stop)]


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
        torch.manual_seed(config.seed)
        net = load_hmr(config.start, fresh_head=True) if config.start else make_hmr(config.network)
        self.net = net.to(self.device)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=config.rate)
        self.scaler = torch.amp.GradScaler(enabled=config.precision == "amp" and self.device != "cpu")
        regressor = np.load(config.h36m_regressor) if config.h36m_regressor else None
        self.criterion = Criterion(
            load_body(config.body), config.semantics, self.device, regressor, config.clothing_prior
        )
        self.step, self.best = 0, float("inf")
        if config.resume and config.mode == "train":
            self.restore()
        self.parallel = self.net
        if self.world > 1:
            self.parallel = torch.nn.parallel.DistributedDataParallel(self.net)

    def restore(self) -> None:
        """Goes on from `out`/last.pt, if there is one."""
        path = self.out / "last.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.net.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.best = state["step"], state["best"]

    def save(self) -> None:
        """Everything that a resumed run needs, whole or not at all."""
        state = {
            "model": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "best": self.best,
        }
        unfinished = self.out / "last.pt.part"
        torch.save(state, unfinished)
        unfinished.replace(self.out / "last.pt")

    def run(self) -> dict[str, float]:
        """Trains to the end; returns the last validation's figures."""
        from tqdm import tqdm

        self.out.mkdir(parents=True, exist_ok=True)
        config, figures = self.config, {}
        (self.out / "config.json").write_text(json.dumps(plain(asdict(config)), indent=1) + "\n")
        body = self.criterion.body.name
        data = Steps([load_people(s, body) for s in config.data], config, self.world, self.rank)
        validation = [(s.name, load_people(s, body)) for s in config.validation]
        micro = range(self.step * config.accumulate, config.steps * config.accumulate)
        loader = DataLoader(
            data, batch_sampler=data.batches(micro.start, micro.stop), num_workers=config.workers,
            collate_fn=collate, persistent_workers=config.workers > 0,
        )  # fmt: skip
        scalars = Scalars(self.out) if self.rank == 0 else None
        batches = iter(loader)
        with tqdm(total=config.steps, initial=self.step, disable=self.rank > 0, unit="step") as bar:
            while self.step < config.steps:
                terms = self.update([next(batches) for _ in range(config.accumulate)])
                bar.update()
                bar.set_postfix(loss=f"{sum(terms.values()):.3f}")
                if scalars:
                    scalars.add(self.step, terms)
                if self.step % config.validate_every == 0 or self.step == config.steps:
                    figures = self.validate(validation, scalars)
        return figures

    def evaluate(self) -> dict[str, float]:
        """Errors on the validation sources, written to `out`."""
        return evaluate_run(self.config, self.net, self.criterion, self.device)

    def update(self, batches: list[dict]) -> dict[str, float]:
        """One update of the weights from `accumulate` batches; returns the weighted terms."""
        config, seen = self.config, {}
        self.net.train()
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(config, self.step)
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
            prediction = self.parallel(to_input(batch["image"]), batch["limbs"])
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

    def validate(self, validation, scalars) -> dict[str, float]:
        """Figures on each validation source; keeps the best weights by 1.5 PA-MPJPE + MPJPE of the first."""
        figures: dict[str, float] = {}
        if self.rank == 0:
            for name, people in validation:
                found = evaluate(self.net, people, self.criterion, self.device)
                figures |= {f"{name}/{key}": value for key, value in found.figures().items()}
                sheet = predicted_sheet(self.net, people, self.criterion, self.device)
                scalars.picture(self.step, name, sheet)
            if figures:
                first = validation[0][0]
                score = 1.5 * figures[f"{first}/pa_mpjpe_mm"] + figures[f"{first}/mpjpe_mm"]
                if score < self.best:
                    self.best = score
                    save_hmr(self.out / "best.pt", self.net, json.dumps(plain(asdict(self.config))))
            self.save()
            scalars.add(self.step, figures)
        if self.world > 1:
            torch.distributed.barrier()
        return figures


def rate_at(config: TrainConfig, step: int) -> float:
    """Adam's learning rate for the update after `step` updates."""
    share = 1.0 if config.schedule == "constant" else 0.5 + 0.5 * math.cos(math.pi * step / config.steps)
    return config.rate * share


class Scalars:
    """Scalars as lines of JSON, pictures as the latest PNG of each name; both for TensorBoard where it is installed."""

    def __init__(self, out: Path):
        self.out, self.file = out, open(out / "scalars.jsonl", "a")
        self.board, self.started = None, time.time()
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(out / "tensorboard")
        except ImportError:
            pass

    def add(self, step: int, values: dict[str, float]) -> None:
        rounded = {key: float(f"{value:.6g}") for key, value in values.items()}
        seconds = round(time.time() - self.started, 1)
        self.file.write(json_line(plain({"step": step, "seconds": seconds, **rounded})))
        self.file.flush()
        if self.board:
            for key, value in values.items():
                self.board.add_scalar(key, value, step)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """image: [H, W, 3] uint8 RGB."""
        from PIL import Image

        Image.fromarray(image).save(self.out / f"{name}.png")
        if self.board:
            self.board.add_image(name, image, step, dataformats="HWC")
