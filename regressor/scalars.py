"""What a training says while it runs: scalars as lines of JSON, pictures, and at the end its curves."""

import json
import time
from pathlib import Path

import numpy as np

from fitter.write.index import json_line, plain

LEVELS = "▁▂▃▄▅▆▇█"
WIDTH = 48  # characters of a curve
ABOUT = ("step", "seconds")  # of a line, what is no scalar


class Scalars:
    """Scalars as lines of JSON, pictures as the latest PNG of each name; both for TensorBoard where it is installed.

    step: where the run goes on; lines of a run before it that came further are dropped."""

    def __init__(self, out: Path, step: int = 0):
        path = out / "scalars.jsonl"
        rows = [row for row in read_scalars(path) if row["step"] <= step] if step else []
        self.out, self.file = out, open(path, "w")
        self.file.writelines(json_line(row) for row in rows)
        self.board, self.started = None, time.time() - max((row["seconds"] for row in rows), default=0.0)
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

    def curves(self) -> list[str]:
        """A line for the loss and for each figure of the validations, over the whole run."""
        rows = read_scalars(self.out / "scalars.jsonl")
        losses = [sum(v for k, v in row.items() if k not in ABOUT) for row in rows if not is_validation(row)]
        named = {key: None for row in rows if is_validation(row) for key in row if key not in ABOUT}
        lines = {"loss": losses} | {key: [row[key] for row in rows if key in row] for key in named}
        wide = max(map(len, lines))
        return [f"{name:<{wide}}  {curve(values)}" for name, values in lines.items() if values]


def read_scalars(path: Path) -> list[dict]:
    """The lines of a run that are whole."""
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def is_validation(row: dict) -> bool:
    """Whether a line is of figures, `<source>/<figure>`, not of a step's terms."""
    return any("/" in key for key in row)


def curve(values: list[float]) -> str:
    """First value, the course in WIDTH characters (means of as many parts), last value."""
    parts = [float(np.mean(part)) for part in np.array_split(values, min(WIDTH, len(values)))]
    low, high = min(parts), max(parts)
    heights = [round((len(LEVELS) - 1) * (part - low) / (high - low or 1.0)) for part in parts]
    return f"{parts[0]:.1f} {''.join(LEVELS[height] for height in heights)} {parts[-1]:.1f}"
