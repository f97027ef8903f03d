"""A fit stays on its device: no constant left on the CPU, no waiting for the device inside a stage.

Torch's `meta` device, which has shapes and no values, stands in for a GPU. Where there is one, the same runs on it, and
CUDA itself refuses to be waited for.
"""

import copy
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fitter.body.model import load_body
from fitter.config import Optimisation, Semantics, Stage, Weights
from fitter.energy import solver
from fitter.energy.objective import Objective
from fitter.energy.semantics import FORMS, SemanticTerms, make_targets
from fitter.energy.stages import refine, search
from fitter.energy.starts import first_starts
from fitter.label.person_labels import PersonLabels
from fitter.people import Sighting, observe
from fitter.see.camera import default_camera
from fitter.see.keypoints import Person
from fitter.see.person_box import keypoint_box
from priors import simple
from priors.clothing import LABELS
from priors.pose import load_pose_prior
from regressor import losses
from regressor.cli import main as train_main
from regressor.config import LossWeights
from regressor.hmr import Prediction

DEVICES = ["meta", pytest.param("cuda", marks=pytest.mark.cuda)]
WAITS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal", "unique")
FROM_HOST = ("tensor", "as_tensor", "new_tensor", "from_numpy")
EVERYTHING = Weights(**{name: 1.0 for name in vars(Weights())})
SHORT = (
    Stage("torso", 1, free=("orientation", "place", "level"), joints="torso", depth_scale=1.0, keep=2),
    Stage("coarse", 1, keep=2),
    Stage("fine", 1),
    Stage("clothing", 2, crop_px=16),
)


class _Operations(TorchDispatchMode):
    """Refuses operations between devices, those that wait for one, and copies between them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kinds = devices((args, kwargs))
        if func.overloadpacket.__name__ in WAITS and kinds != {"cpu"}:
            raise AssertionError(f"{func}: the host waits for the device")
        result = func(*args, **(kwargs or {})) if len(kinds) < 2 else None
        kinds |= devices(result)
        if len(kinds) > 1:
            raise AssertionError(f"{func}: expected one device, got {sorted(kinds)}")
        return result


def devices(values) -> set[str]:
    """Of the tensors among them, and those that are named; derivatives of plain numbers hold nothing, wherever they
    are."""
    leaves = tree_leaves(values)
    named = {one.type for one in leaves if isinstance(one, torch.device)}
    tensors = [one for one in leaves if isinstance(one, torch.Tensor)]
    return named | {one.device.type for one in tensors if not torch._is_zerotensor(one)}


class _Calls(TorchFunctionMode):
    """Refuses what torch copies from the host before any operation is seen: Python numbers and lists."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        lists = name in ("__getitem__", "__setitem__") and any(
            isinstance(x, (list, tuple)) for x in (args[1] if isinstance(args[1], tuple) else [args[1]])
        )
        if name in FROM_HOST or lists:
            raise AssertionError(f"{name}: copies numbers from the host")
        return func(*args, **(kwargs or {}))


@contextmanager
def stays_on(device: str, copies: bool = False):
    """Fails where anything leaves the device; copies: numbers of the settings may be brought to it."""
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("warn" if copies else "error")
    try:
        with nullcontext() if copies else _Calls(), _Operations():
            yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")


class Blank:
    """Stands in for a rasteriser: shapes and devices as `Rasterizer.render`, differentiable, shows nothing."""

    def render(self, points_cam, tri, attr, focal_px, center_px, window_px, size):
        assert tri.dtype == torch.int32 and attr.dtype == points_cam.dtype
        camera = (focal_px.sum(1) + center_px.sum(1) + window_px.sum(1)).to(points_cam.dtype)
        seen = points_cam.index_select(1, tri.flatten().long()).mean((1, 2)) + 1e-6 * camera
        seen = seen[:, None] * attr.mean(1)
        return seen[:, None, None].sigmoid().expand(-1, *size, -1)


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    return request.param


def two_people():
    """People, and their labels: the second has none."""
    rng, people = np.random.default_rng(0), []
    for number in range(2):
        keypoints = np.column_stack([rng.uniform(100, 300, (25, 2)), np.ones(25)])
        people.append(Person(str(number), keypoints, "openpose", keypoint_box(keypoints)))
    ids = np.full((400, 400), LABELS.index("pants"), np.uint8)
    return people, [PersonLabels(ids, np.ones_like(ids), (LABELS.index("face"),)), None]


def fit_on(device, body, prior="gmm", settings=None):
    """An objective with every term, and what is seen of two people, on a device."""
    settings = settings or Semantics()
    prob = np.full((len(body.template), len(LABELS)), 1 / len(LABELS))
    semantics = SemanticTerms(Blank(), body.faces, prob, settings)
    prior = load_pose_prior(prior, None, torch.float64)
    objective = Objective(body, prior, EVERYTHING, 100.0, semantics)
    people, labels = two_people()
    seen = observe([Sighting("a", one, default_camera(400, 400)) for one in people], objective.body)
    seen = replace(seen, targets_at={16: make_targets(people, labels, settings, 16)})
    objective.to(device)
    objective.rendered_body.to(device), objective.keypoints.to(device)
    return objective, seen.to(device)


def begun(objective, seen):
    """Starts of every person, and the constants that are made once a process, before anything is refused."""
    starts = first_starts(objective, seen, Optimisation(yaws=(0.0,)))
    objective.evaluate(starts, seen, SHORT[0])
    return starts


@pytest.mark.parametrize(
    ("prior", "form"),
    [("gmm", "one-sided"), ("gmm", "published"), ("gmm", "composited"), ("vposer", "one-sided")],
)
def test_a_stage_stays_on_its_device(device, toy_body, prior, form):
    """All terms in all their forms, and every kind of stage."""
    settings = Semantics(mc="iou" if form == "one-sided" else "distance", c=form, silhouette="bce")
    objective, seen = fit_on(device, copy.deepcopy(toy_body), prior, settings)
    starts = begun(objective, seen)
    with stays_on(device):
        for number, stage in enumerate(SHORT[::3]):
            at = solver.minimise(objective, seen, solver.begin(starts), stage, number)
            assert at.terms.device.type == device
            assert at.terms.shape == (2, len(objective.term_names))


def test_a_whole_fit_stays_on_its_device(device, toy_body):
    """Search and refinement: choosing among starts between the stages included."""
    objective, seen = fit_on(device, copy.deepcopy(toy_body))
    settings = Optimisation(yaws=(0.0, 180.0), starts=3, stages=SHORT)
    starts = begun(objective, seen)
    with stays_on(device, copies=True):
        found = search(objective, seen, settings)
        found = refine(objective, seen, SHORT[3:], found.variables, given=starts)
        refine(objective, seen, SHORT[:1], found.variables, turned=True)
    assert found.energy_start.device.type == device
    assert set(FORMS) - {"silhouette"} < set(found.energies)


def keypoints_stay_behind(objective, monkeypatch):
    objective.keypoints.bones = torch.zeros_like(objective.keypoints.bones, device="cpu")


def limits_stay_behind(objective, monkeypatch):
    ends = simple._limits_like(torch.float64, torch.device("cpu"))
    monkeypatch.setattr(simple, "_limits_like", lambda dtype, device: ends)


def number_stays_behind(objective, monkeypatch):
    """0-dimensional, which torch itself would put up with."""
    objective.sigma = torch.tensor(100.0)


def somebody_waits(objective, monkeypatch):
    monkeypatch.setattr(objective.prior, "body_pose", lambda latent: latent * bool(latent.any()))


def somebody_indexes_by_a_list(objective, monkeypatch):
    monkeypatch.setattr(objective.prior, "body_pose", lambda latent: latent[:, list(range(69))])


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (keypoints_stay_behind, "expected one device, got ..cpu"),
        (limits_stay_behind, "expected one device, got ..cpu"),
        (number_stays_behind, "expected one device, got ..cpu"),
        (somebody_waits, "the host waits for the device"),
        (somebody_indexes_by_a_list, "copies numbers from the host"),
    ],
)
def test_mistakes_are_found(toy_body, monkeypatch, mistake, message):
    objective, seen = fit_on("meta", copy.deepcopy(toy_body))
    starts = begun(objective, seen)
    mistake(objective, monkeypatch)
    with pytest.raises(AssertionError, match=message), stays_on("meta"):
        solver.minimise(objective, seen, solver.begin(starts), SHORT[3])


def training_step(device, monkeypatch, semantics):
    """The training loss of two people on a device, DSR terms included, and what it is a function of."""
    made = []
    monkeypatch.setattr(losses, "make_rasterizer", lambda device: made.append(device) or Blank())
    criterion = losses.Criterion(load_body(), semantics, device)
    assert made == [device]
    like = torch.zeros(0, device=device)
    rotations = torch.eye(3, device=device).expand(2, 24, 3, 3).clone().requires_grad_()
    prediction = Prediction(rotations, like.new_zeros(2, 10), like.new_ones(2, 3))
    targets = make_targets(*two_people(), semantics, 16).to(device)
    batch = {f"targets.{name}": value for name, value in vars(targets).items()}
    shapes = {
        "keypoints_px": (25, 3),
        "joints_m": (24, 4),
        "rotations": (24, 3, 3),
        "betas": (10,),
        "has_smpl": (),
    }
    batch |= {name: like.new_ones(2, *shape) for name, shape in shapes.items()}
    return criterion, prediction, batch


@pytest.mark.parametrize("form", ["one-sided", "published"])
def test_the_training_loss_stays_on_its_device(device, monkeypatch, form):
    """From before dsr_from to after it."""
    semantics = Semantics(c=form, silhouette="bce")
    criterion, prediction, batch = training_step(device, monkeypatch, semantics)
    with stays_on(device):
        terms = criterion(prediction, criterion.bodies(prediction), batch, True)
        losses.total(terms, LossWeights()).backward()
    assert {"mc", "c", "silhouette", "keypoints", "joints"} < set(terms)
    assert {value.device.type for value in terms.values()} == {device}
    assert prediction.rotations.grad.device.type == device


def test_a_prior_left_on_the_host_is_found(monkeypatch):
    criterion, prediction, batch = training_step("meta", monkeypatch, Semantics())
    criterion.semantics.prob = torch.zeros_like(criterion.semantics.prob, device="cpu")
    with pytest.raises(AssertionError, match="expected one device"), stays_on("meta"):
        criterion(prediction, criterion.bodies(prediction), batch, True)


def test_a_gpu_that_is_not_there_is_said_to_be_missing(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    file = tmp_path / "people.npz"
    file.touch()
    data = f"--data=[{{name: toy, file: {file}, images: {tmp_path}}}]"
    assert train_main([data, "--device", "cuda", "--out", str(tmp_path / "run")]) == 2
    assert "expected a CUDA GPU for 'cuda', found none" in capsys.readouterr().err
