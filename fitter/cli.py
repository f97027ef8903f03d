"""`python fit.py --images dir/`: reads the command line, fits every photo, writes results and a summary."""

import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path

from fitter.config import FitConfig
from fitter.help import FIT, called, short, whole
from fitter.jobs import wait_quietly
from fitter.yaml_files import read_yaml

wait_quietly()  # before torch is imported

PRESETS = Path(__file__).parents[1] / "configs"
UNKNOWN_IN_PRESET = re.compile(r"(?:Group '([\w.]+)' does not accept option|Option) '([\w.]+)'")
KINDS = {
    "float": "a finite number",
    "int": "a whole number",
    "bool": "true or false",
    "tuple": "a list, as [1, 2]",
}
SKIPPED = 3  # exit code of a run that finished but could not fit everything; 2 is a wrong command line


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 all photos fitted, 3 some skipped (the summary names them), 2 wrong usage."""
    try:
        config = read_config(sys.argv[1:] if arguments is None else arguments)
    except ValueError as error:
        name = called("fit.py")
        print(f"{name}: {error}; see {name} --help", file=sys.stderr)
        return 2
    return run(config)


def run(config: FitConfig, method=None) -> int:
    """`run_folder`, its exit code; method: `method.load_models`'s."""
    from fitter.run import run_folder, stop

    try:
        return SKIPPED if run_folder(config, method) else 0
    except (ValueError, OSError, ImportError, KeyboardInterrupt) as error:
        return stop(error)


def read_config(
    arguments: list[str],
    kind: type = FitConfig,
    prog: str = "fit.py",
    description: str = "Fit SMPL bodies to the people in photos.",
    groups=FIT,
):
    """The configuration (a `kind`) of a command line, presets (`--config NAME` or FILE) read. ValueError: what is
    wrong.

    `--help` ends the program with what `groups` say (`fitter.help.FIT`), `--help-all`, or without groups both, with all
    settings."""
    from argparse import ArgumentError

    parser = parser_of(kind, prog, description)
    asked = {"-h", "--help", "--help-all"}.intersection(arguments)
    if asked:
        needed = " ".join(f"--{one.name} {one.name.upper()}" for one in needed_by(kind))
        usage = f"{called(prog)} {needed} [options]".replace("  ", " ")
        everything = not groups or "--help-all" in asked
        print(whole(usage, parser.format_help()) if everything else short(usage, description, groups), end="")
        raise SystemExit(0)
    words = with_presets([underscored(word) for word in arguments])
    for file in preset_files(words):
        read_yaml(file)  # the parser itself is slow, or without end, on odd ones
    try:
        values = parser.instantiate(parser.parse_args(words))
    except (ArgumentError, TypeError, ValueError, OverflowError, RecursionError) as error:
        where = "".join(f"{file}: " for file in preset_files(words) if not preset_is_read(parser, kind, file))
        said = plainly(str(error)) or type(error).__name__
        typos = ["--" + f"{group}.{option}".lstrip(".") for group, option in UNKNOWN_IN_PRESET.findall(said)]
        raise ValueError(f"{where}{said}{nearest(words + typos, parser.format_help())}") from error
    return built(values, kind)


def plainly(said: str) -> str:
    """What jsonargparse says of a setting's value, in one line and as we would."""
    said = " ".join(said.split())
    found = re.fullmatch(r'Parser key "([\w.]+)": (.*?) (?:Given value type.*? Given|Got) value: (.*)', said)
    if not found:
        return said
    name, kinds, value = found.groups()
    words = [one.replace("'", "") for one in re.findall(r"Literal\[(.*?)\]", kinds)]
    words += [word for kind, word in KINDS.items() if f"<class '{kind}'>" in kinds]
    option = "--" + name.replace("_", "-")
    return f"{option}: expected {' or '.join(dict.fromkeys(words))}, got {value}" if words else said


def parser_of(kind: type, prog: str = "fit.py", description: str = ""):
    """jsonargparse's parser of a configuration (a `kind`), a setting an option."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=prog, description=description, exit_on_error=False, allow_abbrev=False)
    parser.add_argument(
        "--config", action="config", help="YAML file, or a preset's name: " + ", ".join(presets())
    )
    parser.add_class_arguments(kind, as_group=False)
    return parser


def checked(settings: Mapping) -> FitConfig:
    """Settings given in Python, groups as mappings, the rest at its defaults. ValueError: a name that is not known, a
    value of another type."""
    from argparse import ArgumentError

    refuse_unknown(settings, FitConfig)
    parser = parser_of(FitConfig)
    try:
        values = parser.instantiate(parser.parse_object({"images": "", **settings}))
    except (ArgumentError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(str(error)) from error
    return built(values, FitConfig)


def refuse_unknown(settings: Mapping, kind: type, group: str = "") -> None:
    """ValueError: a name that is no setting of a configuration (a `kind`), with the nearest one; group: "weights."."""
    import difflib

    known = [one.name for one in fields(kind)]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {group}{near[0]}?" if near else f"; there are {', '.join(known)}"
            raise ValueError(f"expected a setting of fit.py, got {group}{name}{hint}")


def built(values, kind: type):
    """A `kind` of jsonargparse's instantiated values."""
    return kind(**{name: value for name, value in vars(values).items() if name != "config"})


def needed_by(kind: type) -> list:
    """The fields of a configuration (a `kind`) that have no default."""
    return [one for one in fields(kind) if MISSING is one.default is one.default_factory]


def preset_files(words: list[str]) -> list[str]:
    """The files that follow `--config`."""
    return [file for option, file in zip(words, words[1:], strict=False) if option == "--config"]


def preset_is_read(parser, kind: type, file: str) -> bool:
    """Whether a preset alone can be read: if not, the trouble is the file's, and it is named."""
    words = [word for one in needed_by(kind) for word in (f"--{one.name}", "x")]
    try:
        parser.instantiate(parser.parse_args([*words, "--config", file]))
    except Exception:  # whatever it is, it is the file's
        return False
    return True


def presets() -> list[str]:
    """Names of the presets that ship: files in `configs`, without their ending."""
    return sorted(path.relative_to(PRESETS).with_suffix("").as_posix() for path in PRESETS.rglob("*.yaml"))


def with_presets(words: list[str]) -> list[str]:
    """`--config NAME` -> `--config` and that preset's file; a file that is there stays. ValueError: neither."""
    words = [
        part for word in words for part in (word.split("=", 1) if word.startswith("--config=") else [word])
    ]
    for at, name in enumerate(words[1:], 1):
        if words[at - 1] != "--config" or Path(name).is_file():
            continue
        if name not in presets():
            raise ValueError(f"--config: expected a file or one of {', '.join(presets())}, got {name!r}")
        words[at] = str(PRESETS / f"{name}.yaml")
    return words


def underscored(argument: str) -> str:
    """--save-mesh=obj -> --save_mesh=obj: options may be written with hyphens; --as is short for --export-as."""
    option, equals, value = argument.partition("=")
    option = "--export-as" if option == "--as" else option
    return "--" + option[2:].replace("-", "_") + equals + value if option.startswith("--") else argument


def nearest(words: list[str], help_text: str) -> str:
    """For each unknown option among `words`, the known one that it resembles most."""
    import difflib

    known = set(re.findall(r"--[\w.]+", help_text))
    unknown = [
        name for name in (word.partition("=")[0] for word in words) if name[:2] == "--" and name not in known
    ]
    guesses = [(name, difflib.get_close_matches(name, known, 1)) for name in unknown]
    return "".join(f"; {name}: did you mean {guess[0]}?" for name, guess in guesses if guess)
