"""What a fit can be told: frozen dataclasses, one per concern, composed into FitConfig. Presets: configs/*.yaml.

This module imports nothing heavy, so that `fit.py --help` answers at once.
"""

from dataclasses import dataclass, field
from math import inf
from typing import Literal


@dataclass(frozen=True)
class Weights:
    """Factors of the energy terms at scale 1.

    The keypoint term is in px of a 224 px crop of the person's box, so the others follow from how far keypoints are to
    be believed: at a noise of s = 1 % of the box (2.2 px) a negative log likelihood weighs 2 s^2 = 10, a squared
    standard normal variable s^2 = 5; shape weighs half of that, for on photos of people who stand straight, bodies that
    may differ more in proportions lean less. SPIN's values believe them less: pose 4.78^2, shape 5^2, angle 15.2^2.

    Args:
        keypoints: reprojection of the 25 keypoints
        pose: pose prior (GMM negative log-likelihood, or squared VPoser latent), gravity's direction included
        limits: joints beyond their range of motion
        angle: SMPLify's exponential of elbows and knees that bend the wrong way, instead of limits
        level: camera's pitch and roll against what is known of them
        shape: squared shape coefficients; beyond 2.8, where hardly anybody is, twenty-one times as much
        depth: squared log of the distance against its first estimate
        lifted: what the lifter makes of the keypoints' depths
        mc: DSR-MC, 0..1
        c: DSR-C, mean negative log probability per pixel of the crop (one-sided: of the body)
        silhouette: whole-silhouette baseline
    """

    keypoints: float = 1.0
    pose: float = 10.0
    limits: float = 10.0
    angle: float = 0.0
    level: float = 10.0
    shape: float = 2.5
    depth: float = 100.0
    lifted: float = 1.0
    mc: float = 500.0
    c: float = 300.0
    silhouette: float = 250.0


BODY = ("orientation", "place", "pose", "shape")


@dataclass(frozen=True)
class Stage:
    """One stage of the optimisation.

    Args:
        name: shown in errors and kept in results
        steps: at most so many Levenberg-Marquardt steps
        gain: fall of the energy, as a share of it, below which a step is not worth taking
        free: which variables move; level = the camera's pitch and roll
        joints: torso = shoulders and hips only
        pose_scale: multiplies weights.pose in this stage
        shape_scale: multiplies weights.shape
        depth_scale: multiplies weights.depth
        keep: how many of a person's starts go on to the next stage, the best by energy
        crop_px: resolution of the crop in which the DSR terms are rendered; 0 = without them
    """

    name: str
    steps: int
    free: tuple[Literal["orientation", "place", "pose", "shape", "level"], ...] = (
        "orientation",
        "place",
        "pose",
        "shape",
        "level",
    )
    joints: Literal["torso", "all"] = "all"
    pose_scale: float = 1.0
    shape_scale: float = 1.0
    depth_scale: float = 0.0
    keep: int = 1
    crop_px: int = 0
    gain: float = 1e-5


@dataclass(frozen=True)
class Optimisation:
    """How one person's energy is minimised.

    Args:
        sigma: width of the robust keypoint term, px in a 224 px crop of the person's box
        pitch_spread_deg: how far from level cameras are pitched whose pitch is not given, standard deviation, > 0
        roll_spread_deg: the same of roll
        yaws: body orientations tried against the camera, in degrees (0 = facing it)
        starts: initial poses per kept orientation, from the pose prior (1 = its mean alone)
        lifter: begin where the lifter says (`priors/lifter.py`) instead of at `yaws` and `starts`, and believe it in
            depth
        smoothness: in clips, weight of the joints' squared acceleration, summed over joints and time (m^2/s^3)
        key_frames_s: in clips, seconds from one frame that is also fitted to clothing labels to the next
        stages: run in this order
    """

    sigma: float = 100.0
    pitch_spread_deg: float = 4.0
    roll_spread_deg: float = 2.5
    yaws: tuple[float, ...] = (0.0, 90.0, 180.0, 270.0)
    starts: int = 11
    lifter: bool = True
    smoothness: float = 0.02
    key_frames_s: float = 0.2
    stages: tuple[Stage, ...] = (
        Stage("camera", 12, free=("orientation", "place", "level"), joints="torso", depth_scale=1.0, keep=2),
        Stage("pose, coarse", 12, pose_scale=10.0, shape_scale=10.0, keep=6),
        Stage("pose, fine", 30),
        *(
            Stage(f"clothing, {px} px", steps, BODY, pose_scale=0.4, shape_scale=0.5, crop_px=px, gain=1e-3)
            for px, steps in ((64, 12), (128, 8), (224, 8))
        ),
    )

    def __post_init__(self):
        for name in ("pitch_spread_deg", "roll_spread_deg"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number of degrees, got {getattr(self, name)}")
        for name in ("smoothness", "key_frames_s"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"optimisation.{name}: expected 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class Semantics:
    """Which form the DSR terms take (DSR, ICCV 2021; Table 1 compares them).

    Args:
        mc: minimally-clothed regions: soft intersection over union (eq. 3), distance map (eq. 2), or none
        c: clothed regions (eq. 4): as published, composited over the background, one-sided, or none
        fill: one-sided DSR-C: what a pixel of the person costs that the body leaves free, against thin bodies
        centre: one-sided DSR-C: share of `fill` that grows with a free pixel's distance from the person's outline, so
            that limbs lie in the middle of loose clothing, 0..1
        silhouette: baseline FB: the whole silhouette instead
        hard_labels: baseline MVP: every vertex wears its most likely label
        only_seen_labels: give vertices only labels that the photo shows of this person (the paper does so for DSR-MC)
        balance_classes: weight DSR-C's classes by the inverse of their pixels, as the reference code does
    """

    mc: Literal["iou", "distance", "none"] = "iou"
    c: Literal["published", "composited", "one-sided", "none"] = "one-sided"
    fill: float = 0.3
    centre: float = 0.5
    silhouette: Literal["bce", "distance", "none"] = "none"
    hard_labels: bool = False
    only_seen_labels: bool = True
    balance_classes: bool = False

    @property
    def used(self) -> bool:
        """Whether any term compares with labels at all."""
        return (self.mc, self.c, self.silhouette) != ("none", "none", "none")


@dataclass(frozen=True)
class Eft:
    """How a network is fine-tuned on one person (EFT: Joo, Neverova, Vedaldi, 3DV 2021).

    Args:
        steps: at most so many updates
        rate: Adam's learning rate; if not given 5e-6, and 1e-5 for the small network
        shape: weight of squared betas
        semantics: the DSR terms, 1 = weighing beside the keypoints what FitConfig.weights says; 0 = keypoints alone
        stop: keypoint loss (mean squared distance, half a crop = 1) at which it is good enough
    """

    steps: int = 20
    rate: float | None = None
    shape: float = 0.001
    semantics: float = 0.0
    stop: float = 1e-4


@dataclass(frozen=True)
class Limits:
    """When a fit is called valid (SPIN and 4D-Humans reject alike).

    Args:
        min_keypoints: keypoints of confidence > 0.3
        max_reprojection_pct: median error of those, per cent of the longer side of the person's box
        max_abs_beta: largest shape coefficient
        max_pose_percentile: pose energy, as a percentile of mocap poses
        min_size_px: longer side of the person's box
        max_distance_m: from the camera
        min_trust: probability that the joints are right to within 60 mm (`fitter/trust.py`), 0..1
    """

    min_keypoints: int = 6
    max_reprojection_pct: float = 5.0
    max_abs_beta: float = 3.0
    max_pose_percentile: float = 99.9
    min_size_px: float = 16.0
    max_distance_m: float = 500.0
    min_trust: float = 0.1

    def __post_init__(self):
        if not 0 <= self.min_trust <= 1:
            raise ValueError(
                f"limits.min_trust: expected a probability, 0 (nobody is doubted for it) to 1, got {self.min_trust}"
            )


@dataclass(frozen=True)
class FitConfig:
    """Fit SMPL bodies to the people in a folder of photos.

    Args:
        images: folder of photos, or one photo; or one video
        out: folder for the results
        sequence: every folder of `images` with photos is a clip of frames in the order of their numbers, and every
            video is one (docs/video.md)
        fps: frames a second of the clips; 0 = as the video says, 30 for folders
        keypoints: folder of JSON files, one a photo (OpenPose, MMPose), or one file of many photos (COCO annotations or
            results, AlphaPose, ViTPose); the shipped detector runs if not given
        keypoint_names: which keypoint is which, where the files do not say: a YAML list of names in their order, or
            coco, halpe_26, crowdpose, human36m, ... (`fitter/see/keypoint_orders.py`)
        detector: who says where people are, if keypoints are not given: shipped, a JSON file of boxes by photo or in
            COCO's format, or an ONNX file with a YAML file beside it that describes it (`fitter/see/boxes.py`)
        labels: folder of clothing label maps, <photo>.png or .npy, <photo>_<person>.png; they win over the parser
        label_classes: what their ids mean: the order of lip, cihp, atr, pascal (silhouettes alone) or sapiens, or a
            YAML file `{0: background, 1: hat, ...}` of our labels or "unknown"
        parser: who labels the clothes of the others: shipped, none (keypoints alone), or an ONNX file with a YAML file
            beside it that describes it
        ignore: folder of masks named as labels, non-zero where nothing is to be judged (occluders, text); label 255
            says the same
        unknown: found = the DSR terms also skip what is found to be an occluder or a stranger's clothes; given = only
            what `ignore` and label 255 name
        camera: JSON/YAML/npz of intrinsics in px, or a folder of one per photo; else EXIF, else sqrt(w^2 + h^2)
        views: calibration of several cameras that saw the same people at once: a file (JSON, YAML, Pose2Sim's TOML)
            with intrinsics, R and t of each by name, or a folder with EasyMocap's intri.yml and extri.yml; photos lie
            in folders called as the cameras, or begin with their names (docs/views.md)
        body: SMPL model file (.npz or official .pkl); the open body if not given
        people: which people of a photo: all, largest, or the N largest
        clothing_prior: .npz, or the reference's semantic_prior.npy for SMPL; the shipped one if not given
        pose_prior: gmm, or vposer (needs the extra `vposer`)
        vposer: official VPoser v1 or v2 checkpoint; our own weights if not given
        method: optimize = minimise the energy; eft = fine-tune the network of `checkpoint` on each person; network =
            its answer as it is
        checkpoint: of the regressor, for eft and network; the shipped one if not given
        mean_params: SPIN's smpl_mean_params.npz, for checkpoints without mean parameters
        init: where the optimiser begins: a folder of results (.npz) of these photos, network = at the shipped
            regressor's bodies, or checkpoint:FILE of another one
        save_mesh: also write every body as a mesh; rigged = as .glb with its 24 joints and their skin; scene = so, all
            people of a photo or clip in one <photo>_people.glb; bvh = the moving skeleton, of clips
        overlay: write a picture of every photo's fits
        report: write report.html, a page to look through the people and to accept or reject them
        export: also write the people as a dataset, in `out`/export: for SPIN, EFT, BEDLAM, CameraHMR, 4D-Humans (npz,
            tars to train on), mmhuman3d (HumanData), NeuralAnnot, or AMASS's motions
        export_as: smpl (or `--as smpl`) = refuse bodies other than SMPL, whose betas other tools take for SMPL's
        rejection: whom an export leaves out: those not valid, or by another tool's rule (`fitter/write/rejection.py`)
        decisions: the report's decisions.json: an export leaves out who was rejected there, takes who was accepted,
            and `rejection` says of the others
        device: where fits are computed: the GPU if there is one, or as said
        batch: photos that are fitted together; 0 = 8, on a GPU 64
        jobs: processes; 0 = one per core
        cluster: dask://local, dask://host:port, ray://local or ray://host:port instead of processes of this machine
        shard: k/n, k = 0..n-1: every n-th photo alone, as one task of an array of n that share `out`
        overwrite: fit photos again whose results are already in `out` with this configuration
    """

    images: str
    out: str = "out"
    sequence: bool = False
    fps: float = 0.0
    keypoints: str | None = None
    keypoint_names: str | None = None
    detector: str = "shipped"
    camera: str | None = None
    views: str | None = None
    body: str | None = None
    clothing_prior: str | None = None
    people: Literal["all", "largest"] | int = "all"
    pose_prior: Literal["gmm", "vposer"] = "gmm"
    vposer: str | None = None
    method: Literal["optimize", "eft", "network"] = "optimize"
    checkpoint: str | None = None
    mean_params: str | None = None
    init: str | None = None
    save_mesh: Literal["obj", "ply", "glb", "rigged", "scene", "bvh"] | None = None
    overlay: bool = True
    report: bool = True
    export: (
        Literal[
            "spin",
            "eft",
            "bedlam",
            "camerahmr",
            "4dhumans",
            "4dhumans-tars",
            "humandata",
            "neuralannot",
            "amass",
        ]
        | None
    ) = None
    export_as: Literal["smpl"] | None = None
    rejection: Literal["none", "valid", "spin", "eft", "eft-strict", "4dhumans", "camsmplify"] = "valid"
    decisions: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch: int = 0
    jobs: int = 0
    cluster: str | None = None
    shard: str | None = None
    overwrite: bool = False
    labels: str | None = None
    label_classes: str = "lip"
    parser: str = "shipped"
    ignore: str | None = None
    unknown: Literal["found", "given"] = "found"
    weights: Weights = field(default_factory=Weights)
    semantics: Semantics = field(default_factory=Semantics)
    optimisation: Optimisation = field(default_factory=Optimisation)
    eft: Eft = field(default_factory=Eft)
    limits: Limits = field(default_factory=Limits)
