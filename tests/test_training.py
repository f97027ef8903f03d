"""Runs of training: what resumes what, what is said, what is made, and what is refused before anything is."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_people import batch_of, config_of, source, tiny, write_people

from fitter.body.model import OPEN_BODY, load_body
from fitter.config import Semantics
from regressor.checkpoints import load_hmr
from regressor.cli import main as train_main
from regressor.config import LossWeights, Source, TrainConfig
from regressor.data import load_people
from regressor.scalars import curve
from regressor.training import Trainer, rate_at


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("data"), load_body())


@pytest.fixture
def tiny_networks(monkeypatch):
    monkeypatch.setattr("regressor.training.make_hmr", lambda name: tiny())


def weights_of(out):
    return torch.load(out / "last.pt", weights_only=True)["model"]


def test_a_killed_run_goes_on_as_if_nothing_had_been(dataset, tmp_path, tiny_networks, monkeypatch):
    Trainer(config_of(dataset, tmp_path / "whole", steps=4)).run()
    update = Trainer.update

    def dies(self, batches):
        if self.step == 3:
            raise KeyboardInterrupt
        return update(self, batches)

    monkeypatch.setattr(Trainer, "update", dies)
    with pytest.raises(KeyboardInterrupt):
        Trainer(config_of(dataset, tmp_path / "killed", steps=4)).run()
    monkeypatch.setattr(Trainer, "update", update)
    resumed = Trainer(config_of(dataset, tmp_path / "killed", steps=4))
    assert resumed.step == 2
    resumed.run()
    whole, killed = weights_of(tmp_path / "whole"), weights_of(tmp_path / "killed")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "scalars.jsonl").read_text().splitlines()]
    assert {"keypoints", "mc", "c"} <= rows[1].keys() and "mc" not in rows[0]
    assert (tmp_path / "whole" / "best.pt").is_file()


def test_a_run_killed_by_the_system_makes_the_same_weights(dataset, tmp_path):
    """kill -9 between two checkpoints, then the same command again; against a run that nothing happened to."""
    source_text = f"{{name: toy, file: {dataset}/data.npz, images: {dataset}, labels: {dataset}/labels}}"
    preset = tmp_path / "tiny.yaml"
    preset.write_text(
        "network: lite\nbatch: 2\nrate: 1.0e-3\nsteps: 9\ndsr_from: 2\nvalidate_every: 3\nworkers: 0\n"
        f"data: [{source_text}]\n"
    )

    def command(out):
        return [sys.executable, "-m", "regressor.cli", "--config", str(preset), "--out", str(tmp_path / out)]

    subprocess.run(command("whole"), check=True, capture_output=True)
    killed = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    progress = tmp_path / "killed" / "scalars.jsonl"
    while not progress.is_file() or len(progress.read_text().splitlines()) < 6:
        assert killed.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    saved = torch.load(tmp_path / "killed" / "last.pt", weights_only=True)
    assert saved["step"] in (3, 6)
    subprocess.run(command("killed"), check=True, capture_output=True)
    whole, resumed = (
        torch.load(tmp_path / run / "last.pt", weights_only=True) for run in ("whole", "killed")
    )
    assert resumed["step"] == whole["step"] == 9
    for name, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][name]), name


def test_the_rate_falls_to_nothing_where_asked():
    config = TrainConfig(rate=2.0, steps=4, schedule="cosine")
    assert [rate_at(config, step) for step in (0, 2, 4)] == pytest.approx([2, 1, 0], abs=1e-12)
    assert rate_at(replace(config, schedule="constant"), 3) == 2.0


def test_accumulated_gradients_are_those_of_the_larger_batch(dataset, tmp_path, tiny_networks):
    trainer = Trainer(config_of(dataset, tmp_path, steps=1, accumulate=2, batch=1))
    people = load_people(source(dataset))
    batches = [
        {key: value[row : row + 1] for key, value in batch_of(people, Semantics()).items()} | {"name": ["a"]}
        for row in range(2)
    ]
    trainer.net.eval()
    trainer.net.train = lambda mode=True: trainer.net  # dropout and batch statistics would differ
    trainer.optimiser.step = lambda: None
    trainer.update(batches)
    accumulated = [p.grad.clone() for p in trainer.net.parameters()]
    both = {key: torch.cat([b[key] for b in batches]) for key in batches[0] if key != "name"} | {
        "name": ["a", "b"]
    }
    trainer.config = replace(trainer.config, accumulate=1)
    trainer.step = 0
    trainer.update([both])
    for one, other in zip(accumulated, trainer.net.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad, rtol=2e-3, atol=1e-5)


def test_one_person_behind_the_camera_does_not_spoil_the_step(dataset, tmp_path, tiny_networks):
    """exp(-10 s)^2 of a camera scale s < 0 has a gradient beyond measure, which Adam would remember for long."""
    norms = []
    for clip in (0.0, 5.0):
        trainer = Trainer(config_of(dataset, tmp_path, steps=1, clip=clip))
        with torch.no_grad():
            trainer.net.head.init_cam[:, 0] = -0.5
        trainer.optimiser.step = lambda: None
        trainer.update([batch_of(load_people(source(dataset)), Semantics()) | {"name": ["a", "b", "c"]}])
        grads = [p.grad.norm() for p in trainer.net.parameters() if p.grad is not None]
        norms.append(float(torch.stack(grads).norm()))
    assert norms[0] > 1e5 and norms[1] == pytest.approx(5, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_and_names_the_sample(
    dataset, tmp_path, tiny_networks, monkeypatch, capsys
):
    trainer = Trainer(config_of(dataset, tmp_path, steps=1))
    batch = batch_of(load_people(source(dataset)), Semantics()) | {"name": ["first", "second", "third"]}
    batch["betas"][1] = float("nan")
    with pytest.raises(FloatingPointError, match="step 0: term shape of second is nan"):
        trainer.update([batch])
    assert train_main(["--out", str(tmp_path)]) == 2
    assert "expected datasets, got none" in capsys.readouterr().err


def test_a_run_is_resumed_by_what_it_was_told_not_by_its_folder(dataset, tmp_path, tiny_networks, capsys):
    """Another rate, other weights, another batch or other data under the same name: refused, with the difference."""
    config = config_of(dataset, tmp_path, steps=2)
    Trainer(config).run()
    before = (tmp_path / "config.json").read_text(), (tmp_path / "last.pt").read_bytes()
    for change, words in (
        ({"rate": 2e-3}, "rate: 0.001 then, 0.002 now"),
        ({"weights": LossWeights(mc=0.1)}, "weights.mc: 0.004 then, 0.1 now"),
        ({"data": (source(dataset, count=2),)}, "data.toy.count: 0 then, 2 now"),
        ({"schedule": "cosine", "steps": 3}, "schedule: constant then, cosine now; steps: 2 then, 3 now"),
    ):
        with pytest.raises(ValueError, match=f"is a run with other settings, {words}. Give another --out"):
            Trainer(replace(config, **change))
    assert before == ((tmp_path / "config.json").read_text(), (tmp_path / "last.pt").read_bytes())
    with np.load(dataset / "data.npz") as file:
        rows = dict(file)
    np.savez(tmp_path / "data.npz", **rows)
    own = config_of(
        dataset, tmp_path / "own", steps=1, data=(replace(source(dataset), file=str(tmp_path / "data.npz")),)
    )
    Trainer(own).run()
    np.savez(tmp_path / "data.npz", **(rows | {"shape": rows["shape"] + 1}))
    with pytest.raises(ValueError, match="data toy: another file's content"):
        Trainer(own)
    assert Trainer(replace(own, resume=False)).step == 0
    capsys.readouterr()
    assert Trainer(config).run() == {}  # nothing is left to do, and it says so
    assert f"finished already, at step 2; network: {tmp_path}/best.pt" in capsys.readouterr().out
    Trainer(replace(config, steps=3, workers=1)).run()  # longer at a constant rate is the same run
    shown = capsys.readouterr()
    assert "resuming at step 2 of 3" in shown.out and "step 3: toy: MPJPE" in shown.out + shown.err
    steps = [json.loads(line)["step"] for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 2, 3, 3]


def test_every_run_ends_with_a_network_that_loads_anywhere(dataset, tmp_path, tiny_networks, capsys):
    """Without validation there is no best.pt; last.pt is as good a checkpoint."""
    Trainer(config_of(dataset, tmp_path, steps=1, validation=())).run()
    assert f"network: {tmp_path}/last.pt" in capsys.readouterr().out and not (tmp_path / "best.pt").exists()
    loaded, saved = load_hmr(tmp_path / "last.pt"), weights_of(tmp_path)
    assert all(torch.equal(value, saved[name]) for name, value in loaded.state_dict().items())
    begun = Trainer(config_of(dataset, tmp_path / "on", steps=1, start=str(tmp_path / "last.pt")))
    assert all(torch.equal(value, saved[name]) for name, value in begun.net.state_dict().items())
    torch.save({"model": saved, "step": 1}, tmp_path / "last.pt")
    with pytest.raises(
        ValueError, match="last.pt: expected a checkpoint of a run of this version, got another file"
    ):
        Trainer(config_of(dataset, tmp_path, steps=1, validation=()))


def test_validation_in_training_is_the_evaluation(dataset, tmp_path, tiny_networks, monkeypatch):
    """17 joints where the source says so, and the bodies of people whose gender is given."""
    with np.load(dataset / "data.npz") as file:
        rows = {key: file[key] for key in ("imgname", "center", "scale", "pose", "shape")}
    np.savez(tmp_path / "3dpw.npz", **rows, gender=np.array(["f", "m", "f"]))
    taller = {key: value for key, value in np.load(OPEN_BODY).items()}
    taller["v_template"] = 1.2 * taller["v_template"]
    np.savez(tmp_path / "tall.npz", **taller)
    people = Source("3dpw", str(tmp_path / "3dpw.npz"), str(dataset), joints=17)
    config = config_of(
        dataset, tmp_path / "run", steps=1, validation=(people,), body_male=str(tmp_path / "tall.npz")
    )
    trainer = Trainer(config)
    shown = trainer.run()
    evaluated = trainer.evaluate()
    assert shown == pytest.approx(evaluated) and len(shown) == 3
    neutral = Trainer(replace(config, out=str(tmp_path / "neutral"), body_male=None)).run()
    fourteen = replace(config, out=str(tmp_path / "14"), validation=(replace(people, joints=14),))
    assert abs(neutral["3dpw/mpjpe_mm"] - shown["3dpw/mpjpe_mm"]) > 1
    assert abs(Trainer(fourteen).run()["3dpw/mpjpe_mm"] - shown["3dpw/mpjpe_mm"]) > 0.1


def test_learning_without_labels_says_that_dsr_is_off(dataset, tmp_path, tiny_networks, capsys):
    bare = replace(source(dataset), labels=None)
    Trainer(config_of(dataset, tmp_path / "bare", steps=1, data=(bare,))).run()
    said = capsys.readouterr().out
    assert "toy: 3 people, 0 with labels" in said and "nobody has labels: the DSR terms are 0" in said
    Trainer(config_of(dataset, tmp_path / "labels", steps=1)).run()
    assert "toy: 3 people, 3 with labels\nresuming" not in (said := capsys.readouterr().out)
    assert "3 with labels" in said and "nobody" not in said
    with pytest.raises(
        FileNotFoundError, match="toy: images .*expected the folder that names in .* are relative to"
    ):
        Trainer(
            config_of(dataset, tmp_path / "x", steps=1, data=(replace(source(dataset), images="/nowhere"),))
        ).run()


def test_what_is_wrong_is_said_before_anything_is_made(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("regressor.cli.make_if_missing", lambda source: pytest.fail("made something"))
    monkeypatch.setattr("regressor.cli.MAKERS", {"synth.dataset": "numpy"})  # as if the package were there
    made = f"{{name: toy, file: {tmp_path}/made/dataset.npz, images: {tmp_path}, make: [synth.dataset, --count, '2']}}"
    (tmp_path / "garbage.pt").write_bytes(b"garbage")
    for words, said in (
        (["--start", "nowhere.pt"], "start nowhere.pt: expected a file, found none"),
        (["--start", str(tmp_path / "garbage.pt")], "garbage.pt: expected"),
        (["--body", "nowhere.npz"], "body nowhere.npz: expected a file, found none"),
        (["--out", str(tmp_path / "garbage.pt")], "expected a folder, or none yet, got a file"),
        (
            [f"--validation=[{{name: other, file: {tmp_path}/none.npz, images: ''}}]"],
            "other: expected the dataset's file",
        ),
        (
            [f"--validation=[{{name: other, file: {dataset}/data.npz, images: nowhere}}]"],
            "other: images nowhere: expected a folder, found none",
        ),
        (
            ["--mode", "evaluate", f"--validation=[{made}]"],
            "start: expected the checkpoint to evaluate, got none",
        ),
        (
            [f"--data=[{made.replace('synth.dataset', 'http.server')}]"],
            "toy: make: expected synth.dataset, got 'http.server'",
        ),
    ):
        assert train_main([f"--data=[{made}]", "--out", str(tmp_path / "run"), *words]) == 2
        assert said in capsys.readouterr().err
    monkeypatch.setattr("regressor.cli.MAKERS", {"synth.dataset": "absent_anny"})
    assert train_main([f"--data=[{made}]"]) == 2
    assert (
        "the package absent_anny to make it, found neither; in the checkout: pip install"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "made").exists() and not (tmp_path / "run").exists()


def test_ctrl_c_ends_in_one_line(dataset, tmp_path, tiny_networks, monkeypatch, capsys):
    def stopped(self, batches):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "update", stopped)
    text = f"{{name: toy, file: {dataset}/data.npz, images: {dataset}}}"
    assert train_main([f"--data=[{text}]", "--out", str(tmp_path), "--workers", "0"]) == 130
    assert "train.py: stopped; the same command goes on from the last checkpoint" in capsys.readouterr().err


def test_curves_show_where_values_went():
    assert curve([3.0, 2.0, 1.0]) == "3.0 █▅▁ 1.0"
    assert curve([2.0]) == "2.0 ▁ 2.0"
    many = curve(np.linspace(0, 470, 480).tolist())
    assert many.count("▁") == many.count("█") > 0 and len(many.split(" ")[1]) == 48
