"""What the commands say: help on one screen, all settings with --help-all, wrong usage in one line, exit code 2."""

import importlib
import sys
from dataclasses import fields, is_dataclass

import pytest
from test_packaging import ROOT, setup  # noqa: F401

from fitter.config import FitConfig
from fitter.help import FIT, settings_named
from regressor.cli import TRAIN
from regressor.config import TrainConfig

COMMANDS = (
    "regressor.methods:main", "regressor.cli:main", "regressor.cli:data", "fitter.view:main", "regressor.predict:main",
    "fitter.write.export:main", "fitter.write.report:main", "regressor.check:main",
)  # fmt: skip


def run(target: str, *words: str) -> int:
    module, function = target.split(":")
    try:
        return getattr(importlib.import_module(module), function)(list(words))
    except SystemExit as ended:
        return ended.code


@pytest.mark.parametrize(
    ("target", "groups", "kind"),
    [("regressor.methods:main", FIT, FitConfig), ("regressor.cli:main", TRAIN, TrainConfig)],
)
def test_help_is_one_screen_and_names_what_there_is(target, groups, kind, capsys):
    assert run(target, "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 50 and max(map(len, lines)) <= 100
    for setting in settings_named(groups) - {"config", "help_all", "as"}:
        part = kind
        for name in setting.split("."):
            known = {one.name: one for one in fields(part)}
            assert name in known, f"--{setting} is no setting"
            part = known[name].default_factory if is_dataclass(known[name].default_factory) else None
    assert run(target, "--images", "x", "--help-all") == 0
    everything = capsys.readouterr().out
    for one in fields(kind):
        assert f"--{one.name.replace('_', '-')}" in everything, one.name


def test_every_command_is_tested(setup):  # noqa: F811
    commands = setup["options.entry_points"]["console_scripts"].split("\n")
    assert {line.split(" = ")[1] for line in commands if line} == set(COMMANDS)


@pytest.mark.parametrize("target", COMMANDS)
def test_wrong_usage_is_one_line(target, capsys):
    assert run(target, "--nonsense", "1") == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and not said.out
    assert "--nonsense" in said.err or "required" in said.err
    assert run(target, "-h") == 0


def test_a_command_calls_itself_as_it_was_called(capsys, monkeypatch):
    assert run("regressor.methods:main", "--imagse", "x") == 2
    assert capsys.readouterr().err.startswith("fit.py: ")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/dsr-fit"])
    assert run("regressor.methods:main", "--images", "nowhere", "--imagse", "x") == 2
    said = capsys.readouterr().err
    assert said.startswith("dsr-fit: ") and said.endswith("did you mean --images?; see dsr-fit --help\n")
    assert run("regressor.methods:main", "--images", "nowhere") == 2
    assert capsys.readouterr().err.startswith("dsr-fit: images nowhere: expected ")


def test_people_are_made_in_the_checkout_alone(tmp_path, capsys, monkeypatch):
    """As of an installed wheel, which has no synth."""
    monkeypatch.setattr("regressor.cli.__file__", str(tmp_path / "regressor" / "cli.py"))
    assert run("regressor.cli:data", "--out", str(tmp_path / "people")) == 2
    assert "expected the project's checkout" in capsys.readouterr().err
    assert (ROOT / "synth" / "dataset.py").is_file()
