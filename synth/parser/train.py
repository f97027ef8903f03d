r"""Train the clothing parser and export it.

    python -m synth.parser.train --ccp DIR --keypoints DIR|detector --imagenet FILE.pth --work DIR \
        [--people DIR] [--begin FILE.onnx] [--epochs 50] [--out fitter/models/clothing_parser.onnx]

--ccp: Clothing-Co-Parsing, whose first 100 people by name are the test photos and left out here, and whose next 60 tell
how training goes and calibrate the probabilities; --keypoints: OpenPose files of its photos, or the shipped detector;
--people: a folder of `synth.dataset`; --imagenet: EfficientNet-Lite2's weights; --begin: a parser that this command
exported, to go on from, at a quarter of the rates. --work keeps the stored people and a checkpoint an epoch: run again,
it goes on where it stood. Several processes (`torchrun --nproc_per_node 2 -m synth.parser.train ...`, as the shipped
network was trained) share each batch: on a CPU that is faster than threads.
"""

import argparse
import copy
import json
import math
import os
import pickle
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from fitter.jobs import PATIENCE
from fitter.label.label_files import UNKNOWN
from fitter.label.soft_labels import CLASSES
from synth.parser.data import Draw, Stored, ccp_people, crop_of, synthetic_people
from synth.parser.export import export, load_exported
from synth.parser.net import FROZEN, ParserNet, load_imagenet
from synth.parser.scores import GROUP_OF, GROUPS, group_scores
from synth.parser.spoil import close_up

TEST, VALIDATION = 100, 60  # of Clothing-Co-Parsing's photos by name: never looked at; watched
BATCH, RATE, TRUNK_RATE, DECAY = 8, 6e-3, 1e-3, 0.02
LEAST_SHARE = 1e-3  # of the pixels: rarer classes weigh no more in the loss
WARM_UP, AVERAGED = 100, 0.996  # steps; of the weights' moving average, which is what is kept
JACCARD = 1.0  # weight of the groups' overlap beside the cross-entropy
SIDES = ((0.0, 192), (0.65, 256), (0.9, 320))  # from which share of the epochs on crops have which side, px
WATCHED = 4  # epochs between looks at the validation people
BIAS_PENALTY = 1e-4  # nats of mean NLL that a unit of a class's bias must gain
SYNTHETIC_SHARE = 0.3  # synthetic people seen an epoch / real ones


RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


class Looks(Dataset):
    """This process's samples of an epoch; which, and how they are spoilt, depends on (seed, epoch, number) alone."""

    def __init__(self, draw: Draw, real: int, epoch: int, side: int, seed: int):
        rng = np.random.default_rng([seed, epoch])
        synthetic = np.arange(real, len(draw.people))
        some = rng.permutation(synthetic)[: int(SYNTHETIC_SHARE * real)]
        order = rng.permutation(np.concatenate([np.arange(real), some]))
        self.order = order[: len(order) // BATCH * BATCH]
        self.draw, self.side, self.key = draw, side, (seed, epoch)

    def __len__(self) -> int:
        return len(self.order) // WORLD

    def __getitem__(self, number: int):
        number = number * WORLD + RANK
        rng = np.random.default_rng([*self.key, number])
        return self.draw(int(self.order[number]), rng, self.side)


@dataclass
class State:
    """All that a checkpoint holds."""

    net: ParserNet
    averaged: ParserNet
    optimiser: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--ccp", type=Path, required=True)
    parser.add_argument("--keypoints", required=True)
    parser.add_argument("--imagenet", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--people", type=Path)
    parser.add_argument("--begin", type=Path)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("clothing_parser.onnx"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if WORLD > 1:
        torch.distributed.init_process_group("gloo" if device() == "cpu" else "nccl", timeout=PATIENCE)
    validation, learning, real = people_of(options)
    print(f"{real} real and {len(learning) - real} synthetic people to learn from", flush=True)
    draw, weight = Draw(learning, real), class_weights(learning[:real])
    state = begin(options, weight, learning[:24])
    while state.epoch < options.epochs:
        one_epoch(state, draw, real, weight, options)
        if RANK == 0:
            save(state, options.work / "checkpoint.pt")
        if RANK == 0 and state.epoch % WATCHED == 0:
            scores = validate(unweighted(state.averaged, weight), validation)
            rounded = {name: round(value, 4) for name, value in scores.items()}
            print(json.dumps({"epoch": state.epoch, **rounded}), flush=True)
    if RANK:
        return
    export(*calibrated(unweighted(state.averaged, weight), validation), options.out)


def people_of(options) -> tuple[list[Stored], list[Stored], int]:
    """Validation people, people to learn from, and how many of the latter are real."""
    cache = options.work / "people.pickle"  # our own file, of this command
    if not cache.is_file() and RANK == 0:
        real = [person for _, person in ccp_people(options.ccp, options.keypoints)][TEST:]
        made = synthetic_people(options.people) if options.people else []
        cache.write_bytes(pickle.dumps((real, made)))
    if WORLD > 1:
        torch.distributed.barrier()
    real, made = pickle.loads(cache.read_bytes())
    return real[:VALIDATION], real[VALIDATION:] + made, len(real) - VALIDATION


def begin(options, weight: torch.Tensor, some: list[Stored]) -> State:
    """The network before its first step, or where a checkpoint left it. some: people whose pictures give an exported
    network's batch norms their statistics."""
    torch.manual_seed(options.seed)
    net = ParserNet()
    load_imagenet(net, options.imagenet)
    if options.begin:
        looks = [crop_of(one.image, one.ids, one.keypoints, list(one.others)) for one in some]
        image, limbs = (torch.tensor(np.stack([look[kind] for look in looks])) for kind in (0, 1))
        load_exported(net, options.begin, image.permute(0, 3, 1, 2).float(), limbs)
        net.head.bias.data += weight.log().cpu()
    net = net.to(device(), memory_format=torch.channels_last)
    kept = ("_conv_stem", "_bn0", *(f"_blocks.{number}." for number in range(FROZEN)))
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not name.startswith(kept))
    trunk = [p for name, p in net.named_parameters() if name.startswith("_") and p.requires_grad]
    above = [p for name, p in net.named_parameters() if not name.startswith("_")]
    share = 0.25 if options.begin else 1.0
    groups = [{"params": trunk, "peak": share * TRUNK_RATE}, {"params": above, "peak": share * RATE}]
    optimiser = torch.optim.AdamW(groups, lr=RATE, weight_decay=DECAY)
    state = State(net, copy.deepcopy(net).eval(), optimiser)
    path = options.work / "checkpoint.pt"
    if path.is_file():
        saved = torch.load(path, map_location=device(), weights_only=True)
        for name in ("net", "averaged", "optimiser"):
            getattr(state, name).load_state_dict(saved[name])
        state.epoch, state.step = saved["epoch"], saved["step"]
    return state


def save(state: State, path: Path) -> None:
    entries = {name: getattr(state, name).state_dict() for name in ("net", "averaged", "optimiser")}
    unfinished = path.with_suffix(".part")
    torch.save(entries | {"epoch": state.epoch, "step": state.step}, unfinished)
    unfinished.replace(path)


def class_weights(people: list[Stored]) -> torch.Tensor:
    """[21] of the loss: a class's share of the pixels to the power -1/2, 1 on average over pixels.

    Without them the network learns the background's border first and skirts never. What they do to the probabilities
    is undone afterwards: `unweighted`.
    """
    counts = sum(np.bincount(person.ids.reshape(-1), minlength=256)[: len(CLASSES)] for person in people)
    share = torch.tensor(counts / counts.sum()).float()
    weight = (share + LEAST_SHARE) ** -0.5
    return (weight / (weight * share).sum()).to(device())


def unweighted(net: ParserNet, weight: torch.Tensor) -> ParserNet:
    """The network whose probabilities are right although its loss was weighted: logits less log weight."""
    right = copy.deepcopy(net).eval()
    with torch.no_grad():
        right.head.bias -= weight.log()
    return right


def one_epoch(state: State, draw: Draw, real: int, weight: torch.Tensor, options) -> None:
    side = [px for share, px in SIDES if state.epoch >= share * options.epochs][-1]
    looks = Looks(draw, real, state.epoch, side, options.seed)
    loader = DataLoader(looks, BATCH // WORLD, num_workers=1, prefetch_factor=8)
    parallel = torch.nn.parallel.DistributedDataParallel(state.net) if WORLD > 1 else state.net
    steps = options.epochs * len(loader)
    losses, started = [], time.time()
    state.net.train()
    for image, limbs, ids in loader:
        rate = min(1.0, (state.step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * state.step / steps))
        for group in state.optimiser.param_groups:
            group["lr"] = rate * group["peak"]
        logits = parallel(*prepared(image, limbs))
        ids = ids.long().to(logits.device)
        loss = F.cross_entropy(logits, ids, weight, ignore_index=UNKNOWN) + JACCARD * group_overlap(
            logits, ids
        )
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()} in epoch {state.epoch}, step {state.step}")
        state.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(state.net.parameters(), 5.0)
        state.optimiser.step()
        state.step += 1
        keep = min(AVERAGED, state.step / (state.step + 10))
        for mean, new in zip(
            state.averaged.state_dict().values(), state.net.state_dict().values(), strict=True
        ):
            mean.copy_(keep * mean + (1 - keep) * new if mean.dtype.is_floating_point else new)
        losses.append(loss.item())
    state.epoch += 1
    print(
        f"epoch {state.epoch}: {side} px, loss {np.mean(losses):.4f}, {time.time() - started:.0f} s",
        flush=True,
    )


def group_overlap(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Mean over the groups of labels in a batch of 1 - soft intersection / union; logits [N, 21, h, w], ids [N, h, w].

    What is measured in the end; the cross-entropy alone is content with whichever garments cover most pixels.
    """
    one_hot = torch.eye(len(GROUPS) + 1)[torch.tensor(np.minimum(GROUP_OF, len(GROUPS)).astype(int))]
    one_hot = one_hot[:, : len(GROUPS)].to(logits)  # [256, 6]; hidden and unknown are in none
    known = ids != UNKNOWN
    prob = torch.einsum("nchw,cg->gnhw", logits.softmax(1), one_hot[: len(CLASSES)]) * known
    truth = one_hot[ids].permute(3, 0, 1, 2)
    both, area = (prob * truth).sum((1, 2, 3)), truth.sum((1, 2, 3))
    overlap = both / (prob.sum((1, 2, 3)) + area - both).clamp_min(1e-6)
    return (1 - overlap)[area > 0].mean()


def prepared(image: torch.Tensor, limbs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[N, S, S, 3] uint8 -> [N, 3, S, S] float32, in channels-last memory, as it came."""
    return image.to(device()).permute(0, 3, 1, 2).float(), limbs.to(device())


@torch.no_grad()
def answers(net: ParserNet, people: list[Stored]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N, 21, h, w] and target ids [N, h, w], each person seen once and as they are."""
    logits, targets = [], []
    for person in people:
        image, limbs, ids = crop_of(person.image, person.ids, person.keypoints, list(person.others))
        logits.append(net.eval()(*prepared(torch.tensor(image)[None], torch.tensor(limbs)[None])).cpu())
        targets.append(torch.tensor(ids)[None].long())
    return torch.cat(logits), torch.cat(targets)


def validate(net: ParserNet, people: list[Stored]) -> dict[str, float]:
    """NLL and scores of people as they are, and `close`: the mean IoU over groups of their close-ups."""
    logits, ids = answers(net, people)
    scores = group_scores(logits.argmax(1).numpy(), ids.numpy())
    near, near_ids = answers(net, [close_up(person) for person in people])
    close = group_scores(near.argmax(1).numpy(), near_ids.numpy())["miou"]
    return {"nll": F.cross_entropy(logits, ids, ignore_index=UNKNOWN).item(), **scores, "close": close}


def calibrated(net: ParserNet, people: list[Stored]) -> tuple[ParserNet, float]:
    """The network with biases, and a temperature to divide its logits by, under which the probabilities of the
    validation people and of their close-ups are right: least mean NLL, biases (21, from 60 people) held near 0."""
    logits, ids = answers(net, [*people, *map(close_up, people)])
    bias, log_t = torch.zeros(len(CLASSES), requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([bias, log_t], max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        moved = (logits + bias[:, None, None]) / log_t.exp()
        loss = F.cross_entropy(moved, ids, ignore_index=UNKNOWN) + BIAS_PENALTY * bias.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    right = copy.deepcopy(net)
    with torch.no_grad():
        right.head.bias += bias.to(right.head.bias)
    return right, log_t.exp().item()


def device() -> str:
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    from synth.parser.train import main as by_name  # so that pickles of this command name its module

    by_name()
