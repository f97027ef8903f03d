"""Settings that need each other, and paths: one line each, exit code 2, before the first photo."""

from dataclasses import replace

import pytest

from fitter.cli import read_config
from fitter.config import FitConfig
from fitter.options import check_options, check_paths
from regressor.methods import main

EFT = "--method eft --checkpoint net.pt"


@pytest.mark.parametrize(("given", "lines"), [
    ("--checkpoint net.pt", ["--checkpoint has no effect without --method eft or network"]),
    ("--mean-params m.npz", ["--mean-params has no effect without --method eft or network, or --init checkpoint:FILE"]),
    ("--rejection spin", ["--rejection has no effect without --export"]),
    ("--decisions d.json", ["--decisions has no effect without --export"]),
    ("--vposer v.pt", ["--vposer has no effect without --pose-prior vposer"]),
    ("--eft.steps 3", ["--eft has no effect without --method eft"]),
    ("--keypoints k --detector boxes.json", ["--detector has no effect with --keypoints"]),
    ("--keypoint-names halpe_26", ["--keypoint-names has no effect without --keypoints"]),
    ("--label-classes atr", ["--label-classes has no effect without --labels"]),
    ("--parser none --clothing-prior p.npz --ignore masks", [
        "--ignore has no effect without --labels or --parser",
        "--clothing-prior has no effect without --labels or --parser",
    ]),
    ("--parser none --weights.mc 3", ["--weights.mc has no effect without --labels or --parser"]),
    ("--parser none --unknown given", ["--unknown has no effect without --labels or --parser"]),
    ("--labels l --semantics.mc none --semantics.c none", [
        "--labels has no effect without --semantics.mc, c or silhouette"
    ]),
    ("--weights.silhouette 9", ["--weights.silhouette has no effect with --semantics.silhouette none"]),
    ("--semantics.c published --semantics.fill 1", ["--semantics.fill has no effect without --semantics.c one-sided"]),
    ("--semantics.c none --semantics.balance_classes true", [
        "--semantics.balance-classes has no effect with --semantics.c none"
    ]),
    (f"{EFT} --labels l", ["--labels has no effect without --eft.semantics"]),
    (f"{EFT} --init out", ["--init has no effect with --method eft"]),
    ("--method network --checkpoint net.pt --optimisation.starts 3 --parser p.onnx", [
        "--optimisation.starts has no effect with --method network",
        "--parser has no effect with --method network",
    ]),
    ("--people 0", ["--people: expected all, largest or a number from 1, got 0"]),
    ("--sequence true --views c.toml", ["--views has no effect on a clip: give it photos, as ffmpeg -i cam1.mp4 "
                                        "cam1/%06d.png makes them, and no --sequence"]),
    ("--method network --init network", ["--init has no effect with --method network"]),
    ("--labels l --label-classes pascal", [
        "--label-classes pascal: expected silhouette terms alone, for it knows no clothing: --semantics.mc none "
        "--semantics.c none --semantics.silhouette bce"
    ]),
])  # fmt: skip
def test_what_has_no_effect_is_said_a_line_each(given, lines, tmp_path, capsys):
    assert main(["--images", str(tmp_path), "--out", str(tmp_path / "out"), *given.split()]) == 2
    assert capsys.readouterr().err.splitlines() == [f"fit.py: {line}" for line in lines]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("given", "line"), [
    ("--limits.min_trust nan", "--limits.min-trust: expected a finite number, got nan"),
    ("--limits.min_trust 2", "limits.min_trust: expected a probability, 0 (nobody is doubted for it) to 1, got 2.0"),
    ("--optimisation.smoothness -1", "optimisation.smoothness: expected 0 or more, got -1.0"),
    ("--overlay perhaps", "--overlay: expected true or false, got perhaps"),
    ("--people nobody", "--people: expected all, largest or a whole number, got nobody"),
    ("--save-mesh fbx", "--save-mesh: expected obj, ply, glb, rigged, scene, bvh, got fbx"),
])  # fmt: skip
def test_a_value_that_cannot_be_is_one_line(given, line, capsys):
    assert main(["--images", "photos", *given.split()]) == 2
    assert capsys.readouterr().err == f"fit.py: {line}; see fit.py --help\n"


@pytest.mark.parametrize("given", [
    "", "--parser none", "--parser none --semantics.mc none --semantics.c none", "--labels l --label-classes cihp",
    "--labels l --parser none --ignore i --clothing-prior p", "--export spin --rejection spin",
    "--pose-prior vposer --vposer v", f"{EFT} --eft.semantics 1 --labels l --eft.steps 3", "--init checkpoint:net.pt "
    "--mean-params m", "--method network", "--method eft", "--init network",
    "--semantics.silhouette bce --weights.silhouette 9", "--keypoints k --detector shipped",
    "--labels l --label-classes pascal --semantics.mc none --semantics.c none --semantics.silhouette bce",
])  # fmt: skip
def test_what_has_an_effect_is_no_error(given):
    check_options(read_config(["--images", "photos", *given.split()]))


@pytest.mark.parametrize("name", ["keypoints", "camera", "labels", "ignore", "init", "vposer", "checkpoint",
                                  "clothing_prior", "mean_params"])  # fmt: skip
def test_a_path_that_is_not_there_is_one_line(name, tmp_path):
    config = replace(FitConfig("photos"), **{name: str(tmp_path / "no:where")})
    with pytest.raises(FileNotFoundError, match=rf"{name} .*no:where: expected a file or folder, found none"):
        check_paths(config)


def test_a_file_in_the_place_of_a_folder_and_the_other_way_round(tmp_path):
    (tmp_path / "file").touch()
    for name in ("labels", "ignore", "init"):
        with pytest.raises(
            ValueError, match=f"{name} .*expected a folder of files named as the photos, got a file"
        ):
            check_paths(replace(FitConfig("photos"), **{name: str(tmp_path / "file")}))
    with pytest.raises(ValueError, match="vposer .*expected a file, got a folder"):
        check_paths(replace(FitConfig("photos"), vposer=str(tmp_path)))
