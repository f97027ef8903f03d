"""`python train.py --config synthetic`: reads the command line, trains or evaluates the regressor."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

from fitter.cli import read_config
from regressor.config import Source, TrainConfig


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 stopped by a non-finite loss, 2 wrong usage."""
    about = "Train or evaluate the HMR regressor."
    try:
        config = read_config(sys.argv[1:] if arguments is None else arguments, TrainConfig, "train.py", about)
    except ValueError as error:
        print(f"train.py: {error}; see train.py --help", file=sys.stderr)
        return 2
    try:
        if not (config.data if config.mode == "train" else config.validation):
            raise ValueError("expected datasets, got none; start from a preset (--config synthetic)")
        for source in (*config.data, *config.validation):
            make_if_missing(source)
        from regressor.training import Trainer

        trainer = Trainer(config)
        figures = trainer.run() if config.mode == "train" else trainer.evaluate()
    except FloatingPointError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    for name, value in figures.items():
        print(f"{name} {value:.1f}")
    return 0


def make_if_missing(source: Source) -> None:
    """Runs the module that makes a dataset, where its file is not there yet. ValueError: it failed, or is not there.

    Of several processes the first makes it, the others wait."""
    if not source.make:
        return
    while int(os.environ.get("RANK", 0)) and not Path(source.file).is_file():
        time.sleep(1.0)
    if Path(source.file).is_file():
        return
    package = source.make[0].split(".")[0]
    if not Path(package).is_dir() and importlib.util.find_spec(package) is None:
        raise ValueError(
            f"{source.name}: expected {source.file}, or the package {package} to make it, found neither; {package} is "
            f"part of the project's checkout and is not installed: run this there, or make the file there with "
            f"`python -m {' '.join(source.make)} --out {Path(source.file).parent}`"
        )
    command = [sys.executable, "-m", *source.make, "--out", str(Path(source.file).parent)]
    print(f"{source.name}: making {source.file}", flush=True)
    if subprocess.run(command).returncode:
        raise ValueError(f"{source.name}: `{' '.join(command[1:])}` failed; its message is above")


if __name__ == "__main__":
    raise SystemExit(main())
