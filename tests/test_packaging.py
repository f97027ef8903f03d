"""What is installed: the packages that users import, their commands, and presets that are found by name."""

import configparser
import importlib
from pathlib import Path

import pytest
from setuptools import find_packages

from fitter.cli import presets, read_config
from fitter.config import FitConfig
from regressor.cli import main as train
from regressor.config import TrainConfig

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def test_only_what_users_import_is_installed(setup):
    include = setup["options.packages.find"]["include"].split()
    packages = {name.split(".")[0] for name in find_packages(str(ROOT), include=include)}
    assert packages == {"configs", "fitter", "priors", "regressor"}
    assert "py_modules" not in setup["options"]


def test_every_preset_is_installed(setup):
    patterns = setup["options.package_data"]["configs"].split(", ")
    installed = {path for pattern in patterns for path in (ROOT / "configs").glob(pattern)}
    assert installed == set((ROOT / "configs").rglob("*.yaml"))


def test_every_command_has_a_main(setup):
    commands = setup["options.entry_points"]["console_scripts"].split("\n")
    targets = dict(line.split(" = ") for line in commands if line)
    names = ("fit", "train", "data", "view", "predict", "export", "report", "check")
    assert targets.keys() == {f"dsr-{name}" for name in names}
    for target in targets.values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("spin_weights", FitConfig),
        ("ablation/c_published", FitConfig),
        ("dsr", TrainConfig),
        ("eval_3dpw", TrainConfig),
        ("table1/mc_iou", TrainConfig),
    ],
)
def test_presets_are_found_by_name_from_anywhere(name, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["--images", ""] if kind is FitConfig else []
    by_name = read_config([*given, f"--config={name}"], kind)
    assert by_name == read_config([*given, "--config", str(ROOT / f"configs/{name}.yaml")], kind)
    assert by_name != read_config(given, kind)
    assert name in presets()


def test_a_file_that_is_there_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("spin_weights").write_text("weights: {pose: 7.0}")
    assert read_config(["--images", "", "--config", "spin_weights"]).weights.pose == 7.0


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(
        ValueError, match="expected a file or one of ablation/c_composited, .*, synthetic, .*got 'drs'"
    ):
        read_config(["--config", "drs", "--images", ""])


def test_what_makes_data_is_said_to_be_missing(tmp_path, monkeypatch, capsys):
    """In an install there is no package synth."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("regressor.cli.MAKERS", {"absent_synth.dataset": "anny"})
    made = f"name: toy, file: {tmp_path}/people.npz, images: '', make: [absent_synth.dataset, --count, '2']"
    assert train([f"--data=[{{{made}}}]"]) == 2
    assert "or the package absent_synth to make it, found neither" in capsys.readouterr().err


def test_what_is_wrong_in_a_preset_names_the_preset(tmp_path):
    bad, good = tmp_path / "bad.yaml", tmp_path / "good.yaml"
    good.write_text("weights:\n  pose: 3\n")
    said = {
        "weights:\n  posee: 3\n": r"bad\.yaml: .*--weights\.posee: did you mean --weights\.pose\?",
        "peple: 3\n": r"bad\.yaml: .*--peple: did you mean --people\?",
        "people: .inf\n": r"bad\.yaml: .*people",
        "weights: [1\n": r"bad\.yaml: ",
        "!!python/object/apply:os.getcwd []\n": r"bad\.yaml: ",
    }
    for text, message in said.items():
        bad.write_text(text)
        with pytest.raises(ValueError, match="(?s)" + message) as error:
            read_config(["--images", "x", "--config", str(good), "--config", str(bad)])
        assert "good.yaml" not in str(error.value)
    lists = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    for endless in ("\n".join(["a0: &a0 [x]", *lists]), "a: &a [*a]"):
        bad.write_text(endless)
        with pytest.raises(ValueError, match=r"bad\.yaml: .*aliases unfold"):
            read_config(["--images", "x", "--config", str(bad)])
    with pytest.raises(ValueError, match="did you mean --people") as error:
        read_config(["--images", "x", "--config", str(good), "--peple", "2"])
    assert "good.yaml" not in str(error.value)
