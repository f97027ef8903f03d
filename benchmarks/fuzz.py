"""Does any file make a reader of this package fail otherwise than by saying what is wrong with the file?

    python -m benchmarks.fuzz                  # 10,000 files
    python -m benchmarks.fuzz --quick          # 400 of them, within a minute
    python -m benchmarks.fuzz --only camera --seed 3 --show 20

Good files of every kind (`benchmarks/fuzz_readers.py`) are damaged: bytes changed, cut, doubled; numbers, names and
lists in them exchanged for odd ones; arrays of other shapes and types, or that promise terabytes; pickles and YAML with
code in them; lists nested 30,000 deep, YAML that unfolds without end (`benchmarks/fuzz_inputs.py`).

Every file goes to its reader in a process of its own. A refusal is ValueError, OSError or ImportError, as a run says in
one line; anything else, the end of the process too, counts as a traceback. A hang: more than 10 s. Escapes: a file
written, removed or renamed outside of the folder of the fuzz, a program or connection started, code from a file run, as
Python's own audit events say. Unnamed: refusals that do not name the file. The same seed gives the same files.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from benchmarks.fuzz_inputs import MARKER, case
from benchmarks.fuzz_readers import READERS

INPUTS, QUICK = 10_000, 400
HANG_S = 10.0
MEMORY_BYTES = 12 << 30
REFUSALS = (ValueError, OSError, ImportError)
STARTS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
)
MOVES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.chmod",
    "shutil.rmtree",
)


def main(arguments: list[str] | None = None) -> dict[str, tuple[float, str]]:
    """Prints and writes the figures; returns them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=INPUTS, help="files")
    parser.add_argument("--only", choices=list(READERS), action="append", help="readers; all if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="tracebacks to print of each reader")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    count = QUICK if options.quick else options.count
    cases = shared_out(options.only or list(READERS), count)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        found = run(cases, options.seed, Path(folder), options.show)
    return report(found, "fuzz_quick" if options.quick or options.only else "fuzz")


def shared_out(names: list[str], count: int) -> list[tuple[str, int]]:
    """(reader, number of the file) of `count` files, by the readers' shares."""
    whole = sum(READERS[name].share for name in names)
    wanted = np.round(np.cumsum([0, *(READERS[name].share / whole for name in names)]) * count).astype(int)
    return [(name, n) for name, few in zip(names, np.diff(wanted), strict=True) for n in range(few)]


def run(cases: list[tuple[str, int]], seed: int, folder: Path, show: int) -> Counter:
    """(reader, outcome) -> how many; the process that reads is begun anew after a hang or its own end."""
    found, shown, done = Counter(), Counter(), 0
    context = multiprocessing.get_context("spawn")
    while done < len(cases):
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, cases[done:], seed, str(folder)), daemon=True)
        process.start()
        theirs.close()
        patience = 120.0  # until it has imported what it needs
        try:
            while done < len(cases):
                name, number = cases[done]
                if not ours.poll(patience):
                    outcome, said = "hang", f"{name} {number}: no answer in {patience:.0f} s"
                    break
                answer = ours.recv()
                patience = HANG_S
                if answer is None:  # ready
                    continue
                outcome, said = answer
                _count(found, shown, name, number, outcome, said, show)
                done += 1
            else:
                outcome = ""
        except EOFError:
            process.join()
            outcome, said = "traceback", f"{name} {number}: the process ended ({process.exitcode})"
        if outcome:
            _count(found, shown, name, number, outcome, said, show)
            done += 1
        process.kill()
        process.join()
    return found


def _count(found: Counter, shown: Counter, name, number, outcome, said, show) -> None:
    found[name, outcome] += 1
    if outcome not in ("accepted", "refused"):
        shown[name, outcome] += 1
        if shown[name, outcome] <= show:
            print(f"--- {name} {number}: {outcome}\n{said}", file=sys.stderr)


def work(pipe, cases: list[tuple[str, int]], seed: int, folder: str) -> None:
    """Reads files one after the other, in `folder`, and sends what came of each."""
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    events: list[str] = []
    sources = {name: READERS[name].sources() for name in dict.fromkeys(name for name, _ in cases)}
    for name in sources:  # whatever is imported or compiled at first use is not the file's doing
        suffix, content = case(sources[name], np.random.default_rng(0))
        one(name, Path(f"first{suffix}"), content, events)
    watch(events, os.path.realpath(folder))
    pipe.send(None)
    for name, number in cases:
        suffix, content = case(sources[name], np.random.default_rng([seed, number, *name.encode()]))
        events.clear()
        pipe.send(one(name, Path(f"a{number}{suffix}"), content, events))


def one(name: str, path: Path, content: bytes, events: list[str]) -> tuple[str, str]:
    """What a reader makes of a file: outcome, and what it said."""
    path.write_bytes(content)
    outcome, said = "accepted", ""
    try:
        READERS[name].read(path)
    except REFUSALS as error:
        said = str(error)
        outcome = "refused" if path.name in said else "unnamed"
    except BaseException:
        outcome, said = "traceback", traceback.format_exc(limit=-4)
    if Path(MARKER).exists():
        Path(MARKER).unlink()
        events.append("code in the file was run")
    if events:
        outcome, said = "escape", f"{events[0]}; {said}"
    path.unlink(missing_ok=True)
    return outcome, said


def watch(events: list[str], folder: str) -> None:
    """Notes from now on what this process does outside of `folder`."""

    def hook(event: str, arguments: tuple) -> None:
        if event in STARTS:
            events.append(f"{event} {arguments[0]!r}")
        writes = event == "open" and (
            (isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"))
            or (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        )
        if not writes and event not in MOVES:
            return
        for place in arguments[: 1 if writes else 2]:
            if isinstance(place, str | bytes | os.PathLike):
                place = os.path.realpath(os.fsdecode(place))
                if not place.startswith(folder + os.sep) and place != os.devnull:
                    events.append(f"{event} {place}")

    sys.addaudithook(hook)


def report(found: Counter, name: str) -> dict[str, tuple[float, str]]:
    """The table by reader, and the figures."""
    from benchmarks.report import Table, write_results

    outcomes = ("accepted", "refused", "unnamed", "traceback", "hang", "escape")
    readers = list(dict.fromkeys(reader for reader, _ in found))
    rows = [(reader, *(found[reader, outcome] for outcome in outcomes)) for reader in readers]
    total = {outcome: sum(found[reader, outcome] for reader in readers) for outcome in outcomes}
    figures = {
        "fuzz_inputs": (sum(total.values()), "files"),
        "fuzz_tracebacks": (total["traceback"], "files"),
        "fuzz_hangs": (total["hang"], "files"),
        "fuzz_escapes": (total["escape"], "files"),
        "fuzz_unnamed": (total["unnamed"], "files"),
    }
    columns = (
        "reader",
        "accepted",
        "refused, file named",
        "refused, not named",
        "traceback",
        "hang",
        "escape",
    )
    write_results(name, __doc__, figures, [Table("What readers made of the files", columns, rows)])
    return figures


if __name__ == "__main__":
    main()
