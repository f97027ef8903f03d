"""The house keeps its own rules: imports point one way, every setting is read, --help is quick to import."""

import ast
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import fitter.config
from fitter.energy.semantics import FORMS
from fitter.energy.terms import TERMS

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "priors": {"priors"},
    "fitter": {"priors", "fitter"},
    "regressor": {"priors", "fitter", "regressor"},
    "synth": {"priors", "fitter", "regressor", "synth"},
    "benchmarks": {"priors", "fitter", "regressor", "synth", "benchmarks"},
}
ONE_HOME = {"onnxruntime": "fitter/see/networks.py", "nvdiffrast": "fitter/raster/rasterizer.py"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package):
    for path in (ROOT / package).rglob("*.py"):
        wrong = (imported(path) & MAY_IMPORT.keys()) - MAY_IMPORT[package]
        assert not wrong, f"{path.name} imports {wrong}"


@pytest.mark.parametrize("library", ONE_HOME)
def test_third_parties_stay_at_the_rim(library):
    homes = [
        str(path.relative_to(ROOT))
        for package in MAY_IMPORT
        for path in (ROOT / package).rglob("*.py")
        if library in imported(path)
    ]
    assert homes == [ONE_HOME[library]]


def test_every_setting_is_read_somewhere():
    read = set()
    for package in MAY_IMPORT:
        for path in (ROOT / package).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text()))
            read |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    read |= {name for term in TERMS for name in (term.name, term.scale)} | FORMS.keys()
    for name, kind in vars(fitter.config).items():
        if dataclasses.is_dataclass(kind):
            unread = {field.name for field in dataclasses.fields(kind)} - read
            assert not unread, f"{name}: nobody reads {unread}"


def test_help_loads_nothing_heavy():
    heavy = ("torch", "numba", "cv2", "scipy", "onnxruntime")
    code = f"import sys, fitter.cli; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert out.stdout.strip() == "[]"
