"""What training can be told: frozen dataclasses, composed into TrainConfig. Presets: configs/*.yaml with `data`.

Imports nothing heavy, so that `train.py --help` answers at once.
"""

from dataclasses import dataclass, field
from typing import Literal

from fitter.config import Semantics

WORDS = ("shipped", "parser")  # in the place of `start`'s path
# settings of TrainConfig that name files
MODEL_FILES = ("start", "body", "body_male", "body_female", "h36m_regressor", "clothing_prior")


@dataclass(frozen=True)
class Source:
    """One dataset.

    Args:
        name: shown in tables
        file: SPIN-format .npz, or EFT's .json
        images: folder that image names are relative to
        labels: folder of label maps named as the images, or as the file names them (`labelname`: what `--export`
            wrote); people without one get no DSR terms
        label_classes: what their ids mean, as `FitConfig.label_classes`
        share: of the samples of an epoch, relative to the other sources; 0 = as many as it has people
        first: leave out the people before this row
        count: use only so many people; 0 = all
        only_2d: leave out its 3D joints and SMPL parameters, as of photos in the wild
        joints: how many count in evaluation: LSP's 14, or 17 with pelvis, spine and jaw (MPI-INF-3DHP)
        make: how the file is made if it is missing: synth.dataset and its arguments; `--out` and its folder are added
    """

    name: str
    file: str
    images: str
    labels: str | None = None
    label_classes: str = "lip"
    share: float = 0.0
    first: int = 0
    count: int = 0
    only_2d: bool = False
    joints: Literal[14, 17] = 14
    make: tuple[str, ...] = ()


@dataclass(frozen=True)
class Augmentation:
    """How pictures are changed at every look (SPIN).

    Args:
        flip: probability of a mirror image
        noise: colour channels are multiplied by U(1 - noise, 1 + noise)
        rotation_deg: standard deviation of a turn, clipped to twice that
        no_rotation: probability of none
        scale: standard deviation of a factor, clipped to 1 +- scale
        keypoints: most standard deviation, share of the crop, of the keypoints that limb maps are drawn from
        lost: probability that such a keypoint is not seen
    """

    flip: float = 0.5
    noise: float = 0.4
    rotation_deg: float = 30.0
    no_rotation: float = 0.6
    scale: float = 0.25
    keypoints: float = 0.02
    lost: float = 0.1


@dataclass(frozen=True)
class LossWeights:
    """Factors of the training loss: overall x (sum of weight x term). DSR's shipped training configuration, but for the
    rendered terms: those weigh beside the keypoints what they weigh in a fit (`fitter.config.Weights`), where it was
    measured. The shipped 0.1 belongs to the published form of DSR-C (configs/dsr.yaml); the one-sided form, a mean over
    the body's pixels, then outweighs all else and undoes what the joints teach.

    Args:
        overall: of everything
        keypoints: reprojection, in units of half a crop, squared
        joints: pelvis-centred 3D joints, m^2
        pose: rotation matrices
        shape: shape coefficients
        camera: exp(-10 s)^2, against cameras behind the person
        mc: DSR-MC
        c: DSR-C
        silhouette: whole-silhouette baseline
    """

    overall: float = 60.0
    keypoints: float = 5.0
    joints: float = 5.0
    pose: float = 1.0
    shape: float = 0.001
    camera: float = 1.0
    mc: float = 0.004
    c: float = 0.0024
    silhouette: float = 0.002


@dataclass(frozen=True)
class TrainConfig:
    """Train the HMR regressor, or evaluate one.

    Args:
        out: folder for checkpoints, scalars, pictures, results
        data: datasets to learn from
        validation: datasets to validate or evaluate on
        mode: train, or evaluate the `start` checkpoint
        network: resnet50, or lite for CPUs; a checkpoint knows its own
        start: checkpoint to start from: ours, SPIN's, EFT's, DSR's, or an ImageNet ResNet-50; shipped = the shipped
            network; parser = lite with the trunk of the shipped clothing parser
        body: SMPL model file; the open body if not given
        body_male, body_female: models that made the true bodies of people whose gender is given (3DPW)
        h36m_regressor: J_regressor_h36m.npy of that body; the open body has its own
        clothing_prior: .npz, or the reference's semantic_prior.npy for SMPL; the shipped one if not given
        batch: people a step, per process
        accumulate: steps whose gradients are summed before an update
        rate: Adam's learning rate
        schedule: of the rate: constant, or falling to 0 at the last step along a cosine
        clip: most norm of the gradient, which is scaled down to it; 0 = as large as it is. A network that starts from
            nothing needs it: one person who comes out behind the camera costs exp(20) else
        looks: of lite: its head first learns from so many looks at the people, whose features the trunk gives once
            (`regressor.head_first`), about as long as a twelfth of as many people take in updates of the whole
        steps: updates in all
        dsr_from: update from which the DSR terms count
        dsr_px: resolution at which they are rendered
        semantics: form of the DSR terms
        weights: of the losses
        augmentation: of the pictures
        validate_every: updates between validations and checkpoints
        device: the GPU if there is one (under torchrun: one per process), or as said
        precision: float32, or amp for mixed precision: float16 on a GPU, bfloat16 on a CPU (faster where it has matrix
            units for it, such as AMX; no faster or slower elsewhere)
        workers: processes that load pictures
        seed: of everything random
        resume: go on from the last checkpoint in `out`, if all that the weights depend on is as it was then
    """

    out: str = "run"
    data: tuple[Source, ...] = ()
    validation: tuple[Source, ...] = ()
    mode: Literal["train", "evaluate"] = "train"
    network: Literal["resnet50", "lite"] = "resnet50"
    start: str | None = None
    body: str | None = None
    body_male: str | None = None
    body_female: str | None = None
    h36m_regressor: str | None = None
    clothing_prior: str | None = None
    batch: int = 64
    accumulate: int = 1
    rate: float = 3e-5
    schedule: Literal["constant", "cosine"] = "constant"
    clip: float = 0.0
    looks: int = 0
    steps: int = 100_000
    dsr_from: int = 10_000
    dsr_px: int = 64
    semantics: Semantics = field(default_factory=Semantics)
    weights: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)
    validate_every: int = 1000
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "amp"] = "float32"
    workers: int = 1
    seed: int = 0
    resume: bool = True
