"""How every benchmark reports: a full table as json and markdown under results/, one FIGURE line per headline; means,
differences and their intervals."""

import json
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from fitter.write.index import plain

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "numba", "onnxruntime", "scipy", "smplx", "deodr")


@dataclass(frozen=True)
class Table:
    """title, column names, rows of values."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple]


def write_results(name: str, about: str, figures: dict[str, tuple[float, str]], tables: list[Table]) -> None:
    """Writes results/<name>.json and .md, prints the tables' titles and the FIGURE lines.

    figures: headline name -> (value, unit); only what was measured.
    """
    machine = {"machine": _processor(), "python": platform.python_version(), **_versions()}
    command = "python -m " + " ".join([f"benchmarks.{Path(sys.argv[0]).stem}", *map(_plain, sys.argv[1:])])
    data = {
        "command": command,
        "made_on": machine,
        "figures": {key: {"value": value, "unit": unit} for key, (value, unit) in figures.items()},
        "tables": [{"title": t.title, "columns": t.columns, "rows": t.rows} for t in tables],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(plain(data), indent=1) + "\n")
    made_on = ", ".join(f"{key} {value}" for key, value in machine.items())
    parts = [f"# {name}\n\n{about.strip()}\n\n`{command}`\n\n{made_on}\n"]
    headline = Table("Figures", ("figure", "value", "unit"), [(k, *v) for k, v in figures.items()])
    parts += [_markdown(table) for table in (headline, *tables)]
    (RESULTS / f"{name}.md").write_text("\n".join(parts))
    for table in tables:
        print(_markdown(table))
    for key, (value, unit) in figures.items():
        print(f"FIGURE {key} {value:.4g} {unit}")


def _plain(argument: str) -> str:
    """An argument without the folders of this machine."""
    return Path(argument).name if Path(argument).is_absolute() or argument.startswith("..") else argument


def _markdown(table: Table) -> str:
    def cell(value):
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(table.columns) + " |", "|" + " --- |" * len(table.columns)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in table.rows]
    return f"## {table.title}\n\n" + "\n".join(lines) + "\n"


def _processor() -> str:
    try:
        names = [
            x.split(":")[1].strip()
            for x in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in x
        ]
        return f"{names[0]} ({len(names)} cores)"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def change_mm(values: np.ndarray, against: np.ndarray) -> str:
    """Mean of the paired differences and its interval, as text."""
    count = min(len(values), len(against))
    change = values[:count] - against[:count]
    low, high = bootstrap(lambda rows: change[rows].mean(), count)
    return f"{change.mean():+.1f} ({low:+.1f}..{high:+.1f})"


def mean(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and its 95 % interval."""
    return float(values.mean()), *bootstrap(lambda i: values[i].mean(), len(values))


def gain_pct(before: np.ndarray, after: np.ndarray, loss: bool = False) -> tuple[float, float, float]:
    """By how much the mean falls from `before` to `after`, per cent of `before`, with its interval; the shorter row's
    people. With `loss`: by how much `before` lies above `after`, per cent of `after`."""
    count = min(len(before), len(after))

    def change(rows):
        high, low = before[:count][rows].mean(), after[:count][rows].mean()
        return 100 * (high - low) / (low if loss else high)

    return float(change(np.arange(count))), *bootstrap(change, count)


def bootstrap(statistic, count: int) -> tuple[float, float]:
    """95 % interval of statistic(rows) over 1000 draws of `count` people."""
    rng = np.random.default_rng(0)
    low, high = np.percentile([statistic(rng.integers(count, size=count)) for _ in range(1000)], [2.5, 97.5])
    return float(low), float(high)
