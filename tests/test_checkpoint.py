"""Weights and arrays out of files: whole ones are read, objects left out, damage is named."""

import io
import pickle

import numpy as np
import pytest
import torch

from priors.checkpoint import read_npz, read_state_dict
from priors.clothing import load_clothing_prior
from priors.vposer import VPoserV2, load_vposer_prior
from regressor.checkpoints import load_hmr, save_hmr
from regressor.config import Source
from regressor.data import load_people
from regressor.hmr import HMR, Architecture


class Runs:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of the file was run')",)


def npz(**arrays) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


GOOD = npz(a=np.ones(3), b=np.array([Runs()], dtype=object))


def test_objects_are_left_out_not_built(tmp_path):
    (tmp_path / "a.npz").write_bytes(GOOD)
    assert list(read_npz(tmp_path / "a.npz", "file")) == ["a"]
    assert list(read_state_dict(tmp_path / "a.npz")) == ["a"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"x" * 50,
        GOOD[:-30],
        GOOD[:80],
        pickle.dumps(Runs()),
        GOOD.replace(b"(3,)", b"(9,)"),
    ],
    ids=["empty", "head", "text", "cut", "short", "pickle", "longer"],
)
@pytest.mark.parametrize("suffix", ["npz", "pt"])
def test_damaged_files_are_named(tmp_path, content, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"weights .*a\.{suffix}: expected"):
        read_state_dict(path)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    net = HMR(Architecture(bottleneck=False, blocks=(1, 1, 1, 1), width=2, shrink=8))
    save_hmr(tmp_path / "net.pt", net)
    load_hmr(tmp_path / "net.pt")
    with torch.no_grad():
        net.head.fc1.weight[0, 0] = torch.nan
    save_hmr(tmp_path / "net.pt", net)
    with pytest.raises(ValueError, match=r"net\.pt: .* 1 not finite \(head\.fc1\.weight\)"):
        load_hmr(tmp_path / "net.pt")
    state = VPoserV2(4, 2).state_dict()
    state["decoder_net.0.bias"][0] = torch.inf
    torch.save(state, tmp_path / "v.pt")
    with pytest.raises(ValueError, match=r"v\.pt: expected finite weights, got decoder_net\.0\.bias"):
        load_vposer_prior(tmp_path / "v.pt")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"prob": np.ones((3, 20))}, r"got float64 \(3, 20\) on"),
        ({"prob": -np.ones((4, 20))}, "expected probabilities >= 0"),
        ({"faces": np.array([[0, 1, 9]])}, r"faces \[F, 3\] of 0\.\.V-1"),
        ({"vertices": np.zeros((4, 3))}, r"vertices \[V, 3\] m"),
        ({"vertices": np.array(3.0)}, r"vertices \[V, 3\] m"),
    ],
)
def test_clothing_priors_that_are_none(tmp_path, change, said):
    mesh = np.eye(4, 3), np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]])
    good = {"prob": np.ones((4, 20)), "vertices": mesh[0], "faces": mesh[1]}
    (tmp_path / "p.npz").write_bytes(npz(**good))
    assert load_clothing_prior(str(tmp_path / "p.npz"), *mesh).prob.sum() == pytest.approx(4)
    (tmp_path / "p.npz").write_bytes(npz(**good | change))
    with pytest.raises(ValueError, match=rf"clothing prior .*p\.npz: .*{said}"):
        load_clothing_prior(str(tmp_path / "p.npz"), *mesh)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"center": np.ones((2, 3))}, r"center of float64 \(2, 3\)"),
        ({"scale": np.array(["x", "y"])}, "scale of <U1"),
        ({"pose": np.full((2, 72), np.nan)}, r"pose of .* not finite numbers of \(2, 72\)"),
        ({"gender": np.array(["m"])}, "gender of 1 people, imgname of 2"),
        ({"imgname": np.array(3)}, "TypeError"),
    ],
)
def test_datasets_that_are_none(tmp_path, change, said):
    good = {"imgname": np.array(["a.png", "b.png"]), "center": np.ones((2, 2)), "scale": np.ones(2)}
    (tmp_path / "d.npz").write_bytes(npz(**good | change))
    with pytest.raises(ValueError, match=rf"d\.npz: expected a SPIN-format npz or EFT's json, got .*{said}"):
        load_people(Source("d", str(tmp_path / "d.npz"), "."))


def test_a_files_own_body_decides_whether_its_shapes_count(tmp_path):
    """What `--export spin` wrote of the open body teaches a network of the open body, and no other."""
    rows = {"imgname": np.array(["a.png"]), "center": np.ones((1, 2)), "scale": np.ones(1), "pose": np.zeros((1, 72)),
            "shape": np.zeros((1, 10)), "has_smpl": np.zeros(1), "body_model": np.array("open_body 2")}  # fmt: skip
    (tmp_path / "d.npz").write_bytes(npz(**rows))
    source = Source("d", str(tmp_path / "d.npz"), ".")
    counts = {
        body: load_people(source, body).has_smpl.tolist() for body in ("open_body 2", "SMPL_NEUTRAL", None)
    }
    assert counts == {"open_body 2": [True], "SMPL_NEUTRAL": [False], None: [False]}
