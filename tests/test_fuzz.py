"""The fuzz sees what it is to see: a reader that fails, hangs, ends, writes elsewhere, or runs code from its file."""

import os
import sys
import time
from collections import Counter

import numpy as np
import pytest

from benchmarks import fuzz
from benchmarks.fuzz_inputs import Evil, Source, case, foreign, packed
from benchmarks.fuzz_readers import READERS, Reader


def refuse_without_name(path):
    raise ValueError("no")


BAD = {
    "good": (lambda path: path.read_bytes(), "accepted"),
    "refuses": (lambda path: int(f"{path}"), "refused"),
    "unnamed": (refuse_without_name, "unnamed"),
    "fails": (lambda path: {}["key"], "traceback"),
    "leaves": (lambda path: exit(0), "traceback"),
    "starts": (lambda path: os.system("true"), "escape"),
    "writes": (lambda path: (path.parents[1] / "outside").write_text(""), "escape"),
    "moves": (lambda path: path.rename(path.parents[1] / "outside"), "escape"),
    "runs": (lambda path: Evil().__reduce__()[0](Evil().__reduce__()[1][0]), "escape"),
}


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Audit hooks cannot be taken away again: this one is deaf after the test."""
    monkeypatch.chdir(tmp_path)
    events, deaf = [], []
    add = sys.addaudithook
    monkeypatch.setattr("sys.addaudithook", lambda hook: add(lambda *event: deaf or hook(*event)))
    fuzz.watch(events, os.path.realpath(tmp_path))
    yield events
    deaf.append(True)


def test_outcomes(watched, monkeypatch, tmp_path):
    for name, (read, outcome) in BAD.items():
        monkeypatch.setitem(READERS, name, Reader(read, list))
        watched.clear()
        found, said = fuzz.one(name, tmp_path / "a.bin", b"x", watched)
        assert found == outcome, (name, found, said)


def _read(path):
    """Hangs on a file that says so, and ends the process on another."""
    content = path.read_bytes()
    if content == b"hang":
        time.sleep(30)
    if content == b"end":
        os._exit(3)


def _work(pipe, cases, seed, folder):
    """`fuzz.work` with a reader of its own."""
    READERS["own"] = Reader(_read, lambda: [Source(".bin", b"")])
    fuzz.case = lambda sources, rng: (".bin", next(contents))
    contents = iter([b"x", *(SAID[number] for _, number in cases)])
    fuzz.work(pipe, cases, seed, folder)


SAID = [b"x", b"hang", b"end", b"x"]


def test_hangs_and_ended_processes_cost_one_file_each(monkeypatch, tmp_path):
    monkeypatch.setattr(fuzz, "HANG_S", 1.0)
    monkeypatch.setattr(fuzz, "work", _work)
    found = fuzz.run([("own", number) for number in range(4)], 0, tmp_path, 0)
    assert found == Counter({("own", "accepted"): 2, ("own", "hang"): 1, ("own", "traceback"): 1})


def test_the_same_seed_gives_the_same_files_and_other_seeds_others():
    tree = [Source(".json", {"people": [{"pose": [1.0, 2.0, 3.0]}]}), Source(".npz", {"a": np.zeros(3)})]
    files = [[case(tree, np.random.default_rng([seed, n])) for n in range(40)] for seed in (0, 0, 1)]
    assert files[0] == files[1] != files[2]
    assert len(set(files[0])) > 20 and tree[0].content == {"people": [{"pose": [1.0, 2.0, 3.0]}]}
    assert packed({"a": 1}, ".yaml") == b"a: 1\n" and packed(b"x", ".png") == b"x"
    assert len({foreign(np.random.default_rng(n)) for n in range(200)}) > 25


def test_every_reader_takes_its_good_files(tmp_path, monkeypatch):
    """Else nothing but refusals would be tried."""
    monkeypatch.chdir(tmp_path)
    from benchmarks.fuzz_readers import good_folder

    good_folder.cache_clear()
    for name, reader in READERS.items():
        taken = 0
        for number, source in enumerate(reader.sources()):
            path = tmp_path / f"{name} {number}{source.suffix}"
            path.write_bytes(packed(source.content, source.suffix))
            try:
                reader.read(path)
                taken += 1
            except ValueError:
                continue
        assert taken or name == "network", name
    good_folder.cache_clear()


def test_quick(monkeypatch, tmp_path, capsys):
    """No file fails, hangs or gets out; figures are printed."""
    monkeypatch.setattr("benchmarks.report.RESULTS", tmp_path)
    monkeypatch.setattr(fuzz, "QUICK", 60)
    figures = fuzz.main(["--quick"])
    assert figures["fuzz_inputs"] == (60, "files")
    printed = capsys.readouterr().out
    for name in ("tracebacks", "hangs", "escapes"):
        assert figures[f"fuzz_{name}"] == (0, "files") and f"FIGURE fuzz_{name} 0 files" in printed
