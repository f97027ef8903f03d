"""Networks of one's own, and the YAML card beside them: understood or refused by name."""

import pytest

from fitter.label.parse import read_card as parser_card
from fitter.see.boxes import CHOICES, BoxCard
from fitter.see.networks import Network, read_card


def box_card(path):
    return read_card(path, BoxCard, CHOICES)


@pytest.mark.parametrize("read", [box_card, parser_card])
@pytest.mark.parametrize(
    "text, said",
    [
        ("size: [64", "expected YAML of plain values, got ParserError"),
        ("!!python/object/apply:os.getcwd []", "expected YAML of plain values, got ConstructorError"),
        ("[" * 3000, "expected YAML, got brackets 3000 deep"),
        ("3", "expected `size"),
        ("size: true", "size: expected .* got True"),
        ("size: 64.5", "size: expected .* got 64.5"),
        ("size: .nan", "size: expected .* got nan"),
        ("size: [0, -3]", "size: expected"),
        ("{size: 64, mean: [a, b, c]}", "(size|mean): expected"),
    ],
)
def test_cards_that_are_none(tmp_path, read, text, said):
    path = tmp_path / "net.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"net\.yaml: {said}"):
        read(path)


def test_cards_that_are_some(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text("{size: 64, score: 1, mean: [0, 0.5, 1], output: boxes}")
    assert box_card(path) == BoxCard(64, score=1, mean=(0, 0.5, 1), output="boxes")
    path.write_text("{size: [64, 48], logits: false}")
    assert parser_card(path).size == (64, 48)
    for wrong in ("std: [1, 1]", "std: [1, 1, 0]", "classes: hat", "logits: 1", "size: [64, 48, 3]"):
        path.write_text(f"size: [64, 48]\n{wrong}" if "size" not in wrong else wrong)
        with pytest.raises(ValueError, match=f"{wrong.split(':')[0]}.*: expected"):
            parser_card(path)


def test_a_file_that_is_no_network(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"\x08\x01damaged")
    with pytest.raises(ValueError, match=r"net\.onnx: expected an ONNX network, got .*; give another"):
        Network(tmp_path / "net.onnx", "give another").input_names  # noqa: B018
