"""YAML of users: plain values, or a refusal that comes at once."""

import pytest

from fitter.yaml_files import load_yaml, read_yaml

ENDLESS = "\n".join(
    ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
)


@pytest.mark.parametrize(
    "text, said",
    [
        ("a: [1, 2", "expected YAML of plain values, got ParserError"),
        ("!!python/object/apply:os.getcwd []", "expected YAML of plain values, got ConstructorError"),
        ("{" + "[" * 30000, "expected YAML, got brackets 30001 deep"),
        ("- " * 3000, "expected YAML of plain values, got RecursionError"),
        (ENDLESS, "aliases unfold to more than 10000 values"),
        ("a: &a [*a]", "aliases unfold"),
        ("\x00", "expected YAML of plain values, got ReaderError"),
    ],
)
def test_odd_yaml_is_refused(tmp_path, text, said):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"a\.yaml: .*{said}"):
        read_yaml(path)


def test_usual_yaml_is_read(tmp_path):
    assert load_yaml("a: &b {x: [1, 2.5]}\nc: *b\n") == {"a": {"x": [1, 2.5]}, "c": {"x": [1, 2.5]}}
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"a\.yaml: .*codec"):
        read_yaml(tmp_path / "a.yaml")
