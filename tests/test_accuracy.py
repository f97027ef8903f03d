"""The accuracy benchmark's arithmetic, and that every row of it names a preset that exists."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import BENCHMARK, DEVELOPMENT, TABLES
from benchmarks.report import change_mm, gain_pct
from fitter.cli import read_config
from fitter.config import FitConfig
from regressor.config import TrainConfig

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_is_read(path):
    trains = path.parent.name == "table1" or bool({"data:", "validation:"} & set(path.read_text().split()))
    kind, given = (TrainConfig, []) if trains else (FitConfig, ["--images", "x"])
    config, plain = read_config([*given, "--config", str(path)], kind), read_config(given, kind)
    assert type(config) is kind
    assert config != plain or path.stem == "c_mc"  # the default itself


def test_every_row_has_its_preset():
    rows = [row for make, _ in TABLES.values() for row in make(BENCHMARK)]
    assert rows
    for row in rows:
        assert (CONFIGS / "ablation" / f"{row.preset}.yaml").is_file()


def test_nothing_is_chosen_on_the_benchmarks_people():
    assert DEVELOPMENT.seed != BENCHMARK.seed
    assert DEVELOPMENT.clothes != BENCHMARK.clothes and DEVELOPMENT.poses != BENCHMARK.poses


def test_gains_are_relative_and_paired():
    before, after = np.array([100.0, 120, 140, 80]), np.array([75.0, 90, 105, 60])
    gain, low, high = gain_pct(before, after)
    assert gain == pytest.approx(25) and low == pytest.approx(25) and high == pytest.approx(25)
    loss, *_ = gain_pct(np.array([110.0, 110]), np.array([100.0, 100, 7]), loss=True)
    assert loss == pytest.approx(10)  # the third person has no pair
    assert change_mm(after, after + 2).startswith("-2.0 (-2.0..-2.0)")
