"""YAML that a user gives: plain values, and never more of them, or deeper, than people write."""

import re
from pathlib import Path

MOST_VALUES = 10_000  # aliases unfolded
MOST_DEEP = 50


def read_yaml(path: str | Path):
    """What a YAML file says. ValueError: not such a file, `load_yaml`'s."""
    try:
        return load_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def load_yaml(text: str, loader: type | None = None):
    """What a YAML text says. loader: one of PyYAML's safe ones with more tags.

    ValueError: not YAML, tags that would build objects, nested deeper than MOST_DEEP (PyYAML then takes minutes), or
    aliases that unfold to more than MOST_VALUES.
    """
    import yaml

    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > MOST_DEEP:
        raise ValueError(f"expected YAML, got brackets {deepest} deep; {MOST_DEEP} are taken at most")
    try:
        data = yaml.load(text, loader or yaml.SafeLoader)  # builds plain values alone
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        line = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"expected YAML of plain values, got {type(error).__name__}: {line[:200]}"
        ) from error
    if unfolded(data, {}) > MOST_VALUES:
        raise ValueError(
            f"expected YAML, got one whose aliases unfold to more than {MOST_VALUES} values; write them out"
        )
    return data


def unfolded(part, sizes: dict[int, int]) -> int:
    """How many values there are in lists and dicts, those that stand at several places counted at each; sizes: of what
    was counted before, by identity. More than MOST_VALUES for one that holds itself."""
    if id(part) not in sizes:
        sizes[id(part)] = MOST_VALUES
        inside = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        sizes[id(part)] = 1 + sum(unfolded(one, sizes) for one in inside)
    return sizes[id(part)]
