"""`python train.py --config synthetic`: reads the command line, trains or evaluates the regressor."""

import importlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

from fitter.cli import read_config
from fitter.help import called
from regressor.config import MODEL_FILES, WORDS, Source, TrainConfig

MAKERS = {"synth.dataset": "anny"}  # modules that may make a data set, and the package that each needs
STOPPED = 130  # exit code after Ctrl-C
# what `train.py --help` says (`fitter.help.FIT`)
TRAIN = (
    ("what to do", (
        ("--config NAME", "try: all in minutes; synthetic: small network; pseudo: on your fits;"),
        ("", "dsr, table1/...: the paper's; eval_3dpw, ...: measured; or a YAML file"),
        ("--mode evaluate", "with --start FILE: measure a checkpoint on the preset's validation sets"),
        ("--out DIR", "checkpoints, curves, results; the same command goes on there"),
        ("--start FILE", "begin at a checkpoint: ours, SPIN's, EFT's, DSR's, or ImageNet's"),
    )),
    ("network and data", (
        ("--network KIND", "resnet50, or small for CPUs"),
        ("--data, --validation", "data sets, as presets write them"),
        ("--body FILE", "SMPL's .pkl or .npz; else the open body"),
    )),
    ("how long, how fast", (
        ("--steps N", "updates in all; --batch N people each, --accumulate N steps an update"),
        ("--rate R", "Adam's; --schedule constant or cosine"),
        ("--validate-every N", "updates between validations and checkpoints"),
        ("--device DEVICE", "auto, cpu or cuda; --precision float32 or amp; --workers N"),
        ("--dsr-from N", "the DSR terms count from there; --semantics.mc, .c: their form"),
    )),
    ("all else, with defaults: --help-all", (
        ("--weights.mc 0.004", "any number by its name; in YAML: weights: {mc: 0.004}"),
    )),
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 stopped by a non-finite loss, 2 wrong usage, 130 stopped by Ctrl-C."""
    about = "Train or evaluate the HMR regressor."
    words, name = sys.argv[1:] if arguments is None else arguments, called("train.py")
    try:
        config = read_config(words, TrainConfig, "train.py", about, TRAIN)
    except ValueError as error:
        print(f"{name}: {error}; see {name} --help", file=sys.stderr)
        return 2
    try:
        check(config)
        from regressor.training import Trainer

        trainer = Trainer(config)  # reads checkpoints and models, and whether a run goes on
        for source in (*config.data * (config.mode == "train"), *config.validation):
            make_if_missing(source)
        trainer.together()
        figures = trainer.run() if config.mode == "train" else trainer.evaluate()
    except FloatingPointError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError, ImportError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{name}: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return STOPPED
    for name, value in figures.items():
        print(f"{name} {value:.1f}")
    return 0


def check(config: TrainConfig) -> None:
    """What can be known before anything is made or computed. ValueError, FileNotFoundError: the first thing wrong."""
    sources = (*config.data * (config.mode == "train"), *config.validation)
    if not (config.data if config.mode == "train" else config.validation):
        raise ValueError("expected datasets, got none; start from a preset (--config synthetic)")
    if config.mode == "evaluate" and not config.start:
        raise ValueError("start: expected the checkpoint to evaluate, got none; --start FILE")
    for name in MODEL_FILES:
        path = getattr(config, name)
        if path and path not in WORDS and not Path(path).is_file():
            raise FileNotFoundError(f"{name} {path}: expected a file, found none")
    if Path(config.out).exists() and not Path(config.out).is_dir():
        raise ValueError(f"out {config.out}: expected a folder, or none yet, got a file")
    made = {source.file for source in sources if source.make and not Path(source.file).is_file()}
    for source in sources:
        if source.make and source.file in made:
            maker_of(source)
        if source.file in made:
            continue
        if not Path(source.file).is_file():
            raise FileNotFoundError(f"{source.name}: expected the dataset's file {source.file}, found none")
        for what, folder in (("images", source.images), ("labels", source.labels)):
            if folder and not Path(folder).is_dir():
                raise FileNotFoundError(f"{source.name}: {what} {folder}: expected a folder, found none")


def maker_of(source: Source) -> list[str]:
    """Command that makes a dataset. ValueError: its module is none of MAKERS, or what it takes is not installed."""
    module, package = source.make[0], source.make[0].split(".")[0]
    if module not in MAKERS:
        raise ValueError(f"{source.name}: make: expected {' or '.join(MAKERS)}, got {module!r}")
    folder = Path(source.file).parent
    if not Path(package).is_dir() and importlib.util.find_spec(package) is None:
        raise ValueError(
            f"{source.name}: expected {source.file}, or the package {package} to make it, found neither; {package} is "
            f"part of the project's checkout and is not installed: run this there, or make the file there with "
            f"`python -m {' '.join(source.make)} --out {folder}`"
        )
    if importlib.util.find_spec(MAKERS[module]) is None:
        raise ValueError(
            f"{source.name}: expected {source.file}, or the package {MAKERS[module]} to make it, found neither; in the "
            "checkout: pip install -c constraints.txt -e '.[build]'"
        )
    return [sys.executable, "-m", *source.make, "--out", str(folder)]


def make_if_missing(source: Source) -> None:
    """Runs the module that makes a dataset, where its file is not there yet, or is one that the module made and may
    have to add to. ValueError: it failed, or is not there.

    Of several processes the first makes it."""
    if not source.make or int(os.environ.get("RANK", 0)):
        return
    there = Path(source.file).is_file()
    if there and not Path(source.file).with_name("recipe.json").is_file():
        return  # the user's own
    try:
        command = maker_of(source)
    except ValueError:
        if there:
            return
        raise
    # what a stopped maker leaves is cleared away, no need to say so
    quiet = os.environ | {"PYTHONWARNINGS": "ignore:resource_tracker"}
    # in a session of its own: Ctrl-C comes here alone, and from here to it and its workers
    process = subprocess.Popen(command, start_new_session=True, env=quiet)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if code:
        raise ValueError(f"{source.name}: `{' '.join(command[1:])}` failed; its message is above")


def data(arguments: list[str] | None = None) -> int:
    """`dsr-data`: `synth.dataset` of the checkout that this is installed from; returns its exit code, 2 without one."""
    checkout = Path(__file__).parents[1]
    if not (checkout / "synth").is_dir():
        print(
            "dsr-data: expected the project's checkout, for what makes people is not installed, found none; there: "
            "pip install -c constraints.txt -e '.[build]'",
            file=sys.stderr,
        )
        return 2
    sys.path.insert(0, str(checkout))
    return importlib.import_module("synth.dataset").main(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
