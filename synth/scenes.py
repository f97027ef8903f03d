"""Photos of clothed people with everything known: labels, masks, depth, keypoints, the camera, the bodies.

A scene is drawn from (Recipe, number): the same pair gives the same scene, whatever came before it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from fitter.label.label_files import UNKNOWN
from fitter.raster.rasterizer import clip_from_camera, make_rasterizer
from fitter.see.camera import Camera, tilt_deg
from fitter.see.keypoint_targets import body_targets
from priors.clothing import MIRROR_LABELS
from priors.skeleton import mirror_pose
from synth.appearance import (
    HAIR_RGB,
    SKIN_RGB,
    albedo,
    draw_background,
    draw_cloth,
    draw_occluder,
    draw_tone,
    is_skin,
    shading,
)
from synth.clothes.figures import vertex_normals
from synth.clothes.outfits import bare_trunk, draw_outfits
from synth.clothes.people import ClothedPerson, Tailor
from synth.pose_priors.library import load_poses

SUPERSAMPLE = 2
OCCLUDER, TARGET, NEIGHBOUR = 255, 1, 2  # values of Scene.owner besides 0
HAIR = 2
BEHIND_SURFACE_M = 0.14  # a joint is seen if no surface lies more than a limb's width before it
OCCLUDER_DEPTH = 0.7  # of the person's nearest point


@dataclass(frozen=True)
class Recipe:
    """How scenes are drawn.

    Args:
        seed: of everything random
        clothes: garments to learn from ("prior") or those held back ("benchmark")
        poses: "learning", "testing" or a half of it
        image_px: height, width
        fill: share of the image's height or width that the person takes (least, most)
        view_deg: the diagonal's field of view (least, most)
        pitch_deg: standard deviation of the camera's pitch
        roll_deg: and of its roll
        occluder: probability of one
        neighbour: probability of a second person
        hidden: share of the person that an occluder covers (least, most)
        bare: probability that a man in trousers wears nothing above them
        backgrounds: photos to stand before, else drawn ones
    """

    seed: int = 0
    clothes: Literal["prior", "benchmark"] = "prior"
    poses: str = "learning"
    image_px: tuple[int, int] = (256, 256)
    fill: tuple[float, float] = (0.55, 0.9)
    view_deg: tuple[float, float] = (20.0, 75.0)
    pitch_deg: float = 10.0
    roll_deg: float = 4.0
    occluder: float = 0.15
    neighbour: float = 0.15
    hidden: tuple[float, float] = (0.15, 0.35)
    bare: float = 0.0
    backgrounds: tuple[Path, ...] = field(default_factory=tuple)


@dataclass(frozen=True)
class Scene:
    """What a camera sees, and the truth.

    image: [H, W, 3] uint8; labels: [H, W] uint8, of everybody, UNKNOWN on bare trunks; owner: [H, W] uint8, 0
    background, TARGET, NEIGHBOUR, OCCLUDER; depth_m: [H, W], inf where nothing stands; people: the target first;
    place_m: [P, 3] pelvis joints in the camera frame; keypoints_px: [P, 25, 3] x, y, 1 = seen 0 = hidden.
    """

    image: np.ndarray
    labels: np.ndarray
    owner: np.ndarray
    depth_m: np.ndarray
    camera: Camera
    people: tuple[ClothedPerson, ...]
    place_m: np.ndarray
    keypoints_px: np.ndarray

    def label_map(self, person: int) -> np.ndarray:
        """Labels [H, W] of one person alone."""
        return np.where(self.owner == (TARGET, NEIGHBOUR)[person], self.labels, 0).astype(np.uint8)


class SceneMaker:
    """Draws scenes by number."""

    def __init__(self, recipe: Recipe, tailor: Tailor):
        self.recipe, self.tailor = recipe, tailor
        self.poses = load_poses(recipe.poses)
        self.rasterizer = make_rasterizer("cpu")
        self.targets = body_targets("openpose", *tailor.body.joint_layout)[0]
        self.landmarks = tailor.body.landmark_ids.numpy()

    def __call__(self, number: int) -> Scene:
        """Scene `number` of the recipe."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, number])
        height, width = recipe.image_px
        focal = np.hypot(height, width) / 2 / np.tan(np.radians(rng.uniform(*recipe.view_deg)) / 2)
        pitch, roll = rng.normal(0, recipe.pitch_deg), rng.normal(0, recipe.roll_deg)
        world_to_camera = Rotation.from_euler("zx", [roll, 180 + np.clip(pitch, -30, 30)], degrees=True)
        tilt = tilt_deg(world_to_camera.apply([0.0, -1.0, 0.0]))
        camera = Camera(focal, focal, width / 2, height / 2, width, height, "user", *tilt)
        person = self.draw_person(world_to_camera, rng)
        place = self._place(person, camera, rng)
        people, places = [person], [place]
        # every random choice is made whether it is used or not, so that rows with and without an occluder or a
        # neighbour show the same target
        has_neighbour, has_occluder = rng.random(2) < (recipe.neighbour, recipe.occluder)
        beside, covering, looks = rng.spawn(3)
        if has_neighbour:
            people.append(self.draw_person(world_to_camera, beside))
            aside = beside.choice([-1, 1]) * beside.uniform(0.3, 0.7)
            places.append(place + world_to_camera.apply([aside, 0, beside.uniform(-0.5, 0.4)]))
        return self._render(camera, people, np.array(places), has_occluder, covering, looks)

    def draw_person(self, world_to_camera: Rotation, rng: np.random.Generator) -> ClothedPerson:
        """Somebody in some clothes and pose, turned any way round, upright in the world as the performer was."""
        gender = ("female", "male")[rng.integers(2)]
        wardrobe = self.tailor.wardrobe
        shape = wardrobe.coefficients[rng.choice(wardrobe.rows_of(gender))]
        outfit = draw_outfits(gender, 1, rng, self.recipe.clothes)[0]
        if gender == "male" and self.recipe.bare and rng.random() < self.recipe.bare:
            outfit = bare_trunk(outfit)
        pose = self.poses[rng.integers(len(self.poses))].copy()
        if rng.random() < 0.5:
            pose = mirror_pose(pose)
        turn = Rotation.from_euler("y", rng.uniform(0, 360), degrees=True)
        pose[:3] = (world_to_camera * turn * Rotation.from_rotvec(pose[:3])).as_rotvec()
        return self.tailor.make(shape, gender, outfit, pose)

    def _place(self, person: ClothedPerson, camera: Camera, rng: np.random.Generator) -> np.ndarray:
        """Where the pelvis goes [3] m so that the person fills the wanted share of the image, wholly inside it."""
        fill = rng.uniform(*self.recipe.fill)
        points = person.vertices_m
        size = np.array([camera.width, camera.height])
        depth = camera.fx_px * np.ptp(points[:, :2], axis=0).max() / (fill * size.min())
        place = np.array([0.0, 0.0, depth])
        for _ in range(4):  # perspective: the extent depends on the distance
            low, high = _extent_px(points + place, camera)
            place[2] = max(place[2] * ((high - low) / size).max() / fill, 0.4 - points[:, 2].min())
        low, high = _extent_px(points + place, camera)
        free = size - (high - low)
        corner = rng.uniform(0.15, 0.85, 2) * free
        place[:2] += (corner - low) * place[2] / camera.fx_px
        return place

    def _render(self, camera, people, places, has_occluder: bool, covering, looks) -> Scene:
        points = [person.vertices_m + place for person, place in zip(people, places, strict=True)]
        ends = np.cumsum([0, *(len(p) for p in points)])
        faces = np.concatenate([person.faces + start for person, start in zip(people, ends, strict=False)])
        who = np.repeat(np.arange(len(people)), [len(person.faces) for person in people])
        labels = np.concatenate([person.labels for person in people])
        points = np.concatenate(points)
        size = (camera.height, camera.width)
        seen = self._rasterize(points, faces, camera, size)
        triangle = seen[..., 2].astype(int) - 1
        hit = triangle >= 0
        owner = np.where(hit, who[triangle] + 1, 0).astype(np.uint8)
        ids = np.where(hit, np.where(labels[triangle] == 0, UNKNOWN, labels[triangle]), 0).astype(np.uint8)
        depth = np.full(size, np.inf)
        depth[hit] = _spread(points[:, 2:], faces, seen[hit])[:, 0]
        image = self._paint(points, faces, who, people, camera, looks)
        if has_occluder:
            shape = draw_occluder(owner == TARGET, covering, self.recipe.hidden)
            owner[shape], ids[shape] = OCCLUDER, 0
            depth[shape] = OCCLUDER_DEPTH * points[: ends[1], 2].min()
            texture = draw_background(size, covering, [])
            image[shape] = texture[shape]
        keypoints = np.stack([
            self._keypoints(person, place, camera, depth) for person, place in zip(people, places, strict=True)
        ])  # fmt: skip
        return Scene(image, ids, owner, depth, camera, tuple(people), places, keypoints)

    def _rasterize(self, points, faces, camera: Camera, size) -> np.ndarray:
        """[h, w, 3]: weights of the triangle's first two corners, triangle + 1 (0: none); row 0 at the top."""
        window = torch.tensor([[0.0, 0.0, camera.width, camera.height]])
        clip = clip_from_camera(
            torch.tensor(points[None], dtype=torch.float32),
            torch.tensor([[camera.fx_px, camera.fy_px]], dtype=torch.float32),
            torch.tensor([[camera.cx_px, camera.cy_px]], dtype=torch.float32),
            window,
        )
        rast = self.rasterizer.rasterize(clip, torch.tensor(faces.astype(np.int32)), size).numpy()
        return rast[0, ::-1][..., [0, 1, 3]]

    def _paint(self, points, faces, who, people, camera: Camera, rng) -> np.ndarray:
        """The photo, drawn larger and averaged down."""
        size = (SUPERSAMPLE * camera.height, SUPERSAMPLE * camera.width)
        seen = self._rasterize(points, faces, camera, size)
        triangle = seen[..., 2].astype(int) - 1
        hit = triangle >= 0
        pixels = seen[hit]
        normals = _spread(vertex_normals(points, faces), faces, pixels)
        rest = _spread(np.concatenate([person.rest_m for person in people]), faces, pixels)
        material, cloths = _materials(people, rng)
        worn = material[triangle[hit]]
        colors = np.empty((len(worn), 3))
        for index, cloth in enumerate(cloths):
            mine = worn == index
            colors[mine] = albedo(cloth, rest[mine])
        light = rng.normal(0, 1, 3) + [0, -1.2, -1.0]  # from above, from the camera's side
        wrinkled = np.array([cloth.wrinkled for cloth in cloths])[worn]
        colors *= shading(normals, rest, wrinkled, light / np.linalg.norm(light))[:, None]
        behind = draw_background((camera.height, camera.width), rng, list(self.recipe.backgrounds))
        canvas = behind.repeat(SUPERSAMPLE, 0).repeat(SUPERSAMPLE, 1).astype(np.float32)
        canvas[hit] = np.clip(colors * rng.uniform(0.7, 1.3), 0, 255)
        shape = (camera.height, SUPERSAMPLE, camera.width, SUPERSAMPLE, 3)
        image = canvas.reshape(shape).mean((1, 3)) + rng.normal(0, 2, (camera.height, camera.width, 3))
        return np.clip(image, 0, 255).astype(np.uint8)

    def _keypoints(self, person: ClothedPerson, place, camera: Camera, depth_m: np.ndarray) -> np.ndarray:
        """BODY_25 [25, 3] px and 1 where seen, as the fit defines them on the true joints and landmarks."""
        points = np.concatenate([person.joints_m, person.naked_m[self.landmarks]]) + place
        points = self.targets @ points
        px = points[:, :2] / points[:, 2:] * camera.fx_px + [camera.cx_px, camera.cy_px]
        column, row = np.floor(px).astype(int).T
        inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
        surface = depth_m[np.where(inside, row, 0), np.where(inside, column, 0)]
        return np.column_stack([px, inside & (surface > points[:, 2] - BEHIND_SURFACE_M)])


def _spread(values: np.ndarray, faces: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Vertex values [N, C] at pixels [P, 3] of SceneMaker._rasterize -> [P, C]."""
    first, second, triangle = pixels.T
    corners = faces[triangle.astype(int) - 1]
    weights = np.stack([first, second, 1 - first - second], 1)
    return np.einsum("pk,pkc->pc", weights, values[corners])


def _materials(people: list[ClothedPerson], rng: np.random.Generator):
    """Material number of every face of all people, [F], and the materials: one a label, so shoes come in pairs."""
    numbers, cloths = [], []
    for person in people:
        skin, hair = draw_tone(SKIN_RGB, rng), draw_tone(HAIR_RGB, rng)
        kinds, inverse = np.unique(_sideless(person.labels), return_inverse=True)
        numbers.append(inverse.ravel() + len(cloths))
        for label in kinds:
            cloths.append(skin if is_skin(label) else hair if label == HAIR else draw_cloth(rng))
    return np.concatenate(numbers), cloths


def _sideless(labels: np.ndarray) -> np.ndarray:
    """Left labels in place of right ones."""
    return np.minimum(labels, np.array(MIRROR_LABELS)[labels])


def _extent_px(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    px = points[:, :2] / points[:, 2:].clip(0.2) * camera.fx_px + [camera.cx_px, camera.cy_px]
    return px.min(0), px.max(0)
