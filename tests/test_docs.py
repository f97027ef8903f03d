"""The documentation: every command in it is run as it stands, or is listed here with the reason why not; and the site
builds without a warning."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from test_packaging import ROOT, setup  # noqa: F401

PAGES = ("README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")))
NOT_RUN = {  # pattern -> why
    r"^make ": "makes an environment; what it then runs is run here, or is `make test` itself",
    r"^pip |^python -m venv|activate$": "installs",
    r"^blender ": "needs Blender; test_examples runs the script up to Blender itself",
    r"^dsr-view ": "serves until it is stopped; test_view",
    r"^(dsr-data|python -m synth.dataset) ": "minutes; test_scenes and test_regressor make a few people",
    r"^python train.py ": "minutes to days; test_training",
    r"regressor.predict|--method eft|--init checkpoint": "needs a trained network; test_regressor",
    r"--file dataset.npz|--images DIR": "no names of files; the same command stands in docs/datasets.md",
    r"/data/|--cluster ": "other machines; test_jobs",
    r"\.mp4|--sequence ": "needs a clip; test_clips",
    r"--views ": "needs several cameras; test_several",
}


def commands(page: str) -> list[str]:
    """The commands of a page's shell blocks, one by one, without comments."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^( *)```bash\n(.*?)^ *```", text, re.S | re.M)
    lines = [line for _, block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"^\$ (.*)$", text, re.M)
    parts = [part.strip() for line in lines if not line.startswith("#") for part in line.split(" && ")]
    return [shlex.join(shlex.split(part, comments=True)) for part in parts if part]


def why_not(command: str) -> str:
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, command)), "")


def run(command: str, installed: dict[str, str]) -> int:
    """A command's exit code, run in this process."""
    first, *words = shlex.split(command)
    if first in ("python", ".venv/bin/python"):
        script, *words = words
        if script == "-m":
            target, words = f"{words[0]}:main", words[1:]
        else:
            target = {"fit.py": "regressor.methods:main", "train.py": "regressor.cli:main"}[script]
    else:
        target = installed[first]
    module, function = target.split(":")
    words += ["--jobs", "1"] if module == "regressor.methods" else []
    return getattr(importlib.import_module(module), function)(words) or 0


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder as the pages take it to be: two photos of one person each."""
    place = tmp_path_factory.mktemp("docs")
    with Image.open(ROOT / "examples" / "photos" / "skier.jpg") as photo:
        for folder in ("photos", "examples/photos"):
            (place / folder).mkdir(parents=True)
            photo.resize((480, 319)).save(place / folder / "skier.jpg")
            photo.resize((400, 266)).save(place / folder / "again.jpg")
    (place / "decisions.json").write_text(json.dumps({"decisions": []}))
    return place


@pytest.mark.parametrize("page", PAGES)
def test_every_command_runs(page, place, setup, monkeypatch, capsys):  # noqa: F811
    monkeypatch.chdir(place)
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    installed = dict(line.split(" = ") for line in lines if line)
    for command in commands(page):
        if not why_not(command):
            assert run(command, installed) == 0, f"{command}\n{capsys.readouterr().err}"


def test_what_is_not_run_is_in_the_pages():
    every = [command for page in PAGES for command in commands(page)]
    assert sum(not why_not(command) for command in every) >= 10
    for pattern in NOT_RUN:
        assert any(re.search(pattern, command) for command in every), f"{pattern}: no such command"


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("material", reason="needs the extra `docs`")
    pytest.importorskip("latex2mathml", reason="needs the extra `docs`")
    given = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, env=quiet)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    pages = {path.stem for path in (tmp_path / "site").glob("*.html")}
    assert {"index", *(path.stem for path in (ROOT / "docs").glob("*.md"))} <= pages
    method = (tmp_path / "site" / "method.html").read_text()
    assert method.count("<math") > 20 and "$" not in re.sub(r"<script.*?</script>", "", method, flags=re.S)
    assert 'href="method.html"' in (tmp_path / "site" / "index.html").read_text()
    for path in (tmp_path / "site").glob("*.html"):  # nothing is fetched from elsewhere when a page is opened
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://', path.read_text()), (
            path.name
        )
