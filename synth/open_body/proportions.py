"""People's proportions for Anny's adults: joint heights, limb segments, breadths and girths as ANSUR II has them.

    python -m synth.open_body.proportions --ansur ANSUR_II_BOTH_Public.csv     # writes data/proportions.npz

Anny's phenotypes give stature, build and sex; their knees lie 4 cm too high, their forearms are 2 cm short, and given
stature and weight everybody has the same limbs. Here each adult's measures are drawn from ANSUR II (US Army, 2012,
6,068 people; public release) given the adult's own sex, stature and weight, and Anny's local dials (`lowerlegs-height`,
`measure-thigh-circ`, ...) are turned until the body has them. Only regression coefficients of the table ship.

Landmarks are not joint centres. The knee's axis is taken at the lateral femoral epicondyle, the ankle's at the lateral
malleolus, the hip's centre at the top of the trochanter; the shoulder's lies 2.0 % of stature below the acromion and
1.2 % inside of it, so the upper arm is 2.7 % of stature shorter than acromion to radiale (de Leva, J. Biomechanics
1996: 10 % of the upper arm above, 4 % below); the neck joint lies 0.8 % below the cervicale.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from synth.open_body.pose import JOINT_BONES

SHIPPED = Path(__file__).parent / "data" / "proportions.npz"
KG_PER_M3 = 1010.0
# measure -> ANSUR II column and what is added to it, as a share of stature; girths and breadths are as measured
MEASURES = {
    "ankle_height": ("lateralmalleolusheight", 0.0),
    "knee_height": ("lateralfemoralepicondyleheight", 0.0),
    "crotch_height": ("crotchheight", 0.0),
    "hip_height": ("trochanterionheight", 0.0),
    "shoulder_height": ("acromialheight", -0.020),
    "neck_height": ("cervicaleheight", -0.008),
    "shoulder_breadth": ("biacromialbreadth", -0.024),
    "upper_arm": ("acromionradialelength", -0.027),
    "forearm": ("radialestylionlength", 0.0),
    "hand": ("handlength", 0.0),
    "foot": ("footlength", 0.0),
    "chest_girth": ("chestcircumference", 0.0),
    "chest_depth": ("chestdepth", 0.0),
    "waist_girth": ("waistcircumference", 0.0),
    "waist_breadth": ("waistbreadth", 0.0),
    "hip_girth": ("buttockcircumference", 0.0),
    "hip_breadth": ("hipbreadth", 0.0),
    "thigh_girth": ("thighcircumference", 0.0),
    "lower_thigh_girth": ("lowerthighcircumference", 0.0),
    "calf_girth": ("calfcircumference", 0.0),
    "ankle_girth": ("anklecircumference", 0.0),
    "wrist_girth": ("wristcircumference", 0.0),
}
# Anny's dials, left and right together
DIALS = (
    "lowerlegs-height upperlegs-height {l,r}-lowerleg-scale-vert {l,r}-upperleg-scale-vert "
    "{l,r}-foot-scale-vert {l,r}-foot-scale-depth hip-scale-vert "
    "torso-scale-vert measure-napetowaist-dist measure-neck-height measure-shoulder-dist measure-upperarm-length "
    "measure-lowerarm-length {l,r}-upperarm-scale-vert {l,r}-lowerarm-scale-vert {l,r}-hand-scale "
    "measure-bust-circ torso-scale-horiz torso-scale-depth measure-waist-circ measure-hips-circ hip-scale-horiz "
    "hip-scale-depth measure-thigh-circ {l,r}-upperleg-scale-horiz measure-knee-circ measure-calf-circ "
    "measure-ankle-circ measure-wrist-circ"
).split()
LARGEST_DIAL = 1.5
DIAL_COST = 0.003  # of a dial's whole turn, squared, against a measure off by its own spread, squared
ROUNDS, STEP = 8, 0.7
STATURE_SLACK_M, VOLUME_SLACK_M3 = 0.004, 0.0007  # stature and weight stay what they were


@dataclass(frozen=True)
class Table:
    """What ANSUR II says of each of MEASURES given sex, stature and weight.

    coefficients [2, 3, M]: men, women; constant, per m of stature, per kg: metres; spread [M, M]: covariance of what
    is left, m^2; stature_weight [2, 4]: means and spreads of stature, m, and weight, kg.
    """

    coefficients: np.ndarray
    spread: np.ndarray
    stature_weight: np.ndarray

    def expected(self, female: np.ndarray, stature_m: np.ndarray, weight_kg: np.ndarray) -> np.ndarray:
        """[N, M] m. female: [N] in 0..1, a mixture of both in between."""
        known = np.stack([np.ones_like(stature_m), stature_m, weight_kg], 1)
        men, women = (known @ rows for rows in self.coefficients)
        return men + female[:, None] * (women - men)


def learn_table(path: Path) -> Table:
    """Regressions on the public ANSUR II table (mm, 0.1 kg). ValueError: another table."""
    with open(path, newline="", encoding="latin-1") as file:
        rows = list(csv.DictReader(file))
    missing = {column for column, _ in MEASURES.values()} - set(rows[0])
    if missing:
        raise ValueError(f"{path}: expected ANSUR II's columns, got none called {', '.join(sorted(missing))}")
    coefficients, left, whole = [], [], []
    for sex in ("Male", "Female"):
        people = [row for row in rows if row["Gender"] == sex]
        stature = np.array([float(row["stature"]) for row in people]) / 1000
        weight = np.array([float(row["weightkg"]) for row in people]) / 10
        values = np.stack(
            [np.array([float(row[column]) for row in people]) / 1000 + share * stature
             for column, share in MEASURES.values()], 1
        )  # fmt: skip
        known = np.stack([np.ones_like(stature), stature, weight], 1)
        solution = np.linalg.lstsq(known, values, rcond=None)[0]
        coefficients.append(solution)
        left.append(values - known @ solution)
        whole.append((stature.mean(), weight.mean(), stature.std(), weight.std()))
    return Table(np.stack(coefficients), np.cov(np.concatenate(left).T), np.array(whole))


@lru_cache(maxsize=1)
def load_table() -> Table:
    """The coefficients that ship."""
    with np.load(SHIPPED, allow_pickle=False) as file:
        return Table(file["coefficients"], file["spread"], file["stature_weight"])


class Tape:
    """Measures MEASURES on Anny's half surface (`source.Source`) at rest.

    Girths are closed polygons fixed to the surface: where a level plane cuts the mean adult, its convex hull.
    """

    def __init__(self, source, mean_rest: np.ndarray, mean_heads: np.ndarray):
        self.source = source
        self.bone = {name: source.labels.index(label) for name, label in JOINT_BONES.items()}
        self.top, self.sole = int(mean_rest[:, 1].argmax()), int(mean_rest[:, 1].argmin())
        side = {name: self._moved_by(stems) for name, stems in
                {"leg": ("upperleg", "lowerleg", "foot", "toe"), "foot": ("foot", "toe"),
                 "hand": ("wrist", "finger", "metacarpal"),
                 "arm": ("upperarm", "lowerarm", "wrist", "finger", "metacarpal"),
                 }.items()}  # fmt: skip
        trunk = ~side["arm"]
        y = mean_rest[:, 1] - mean_rest[self.sole, 1]
        stature = y[self.top]
        joint = {name: mean_heads[index] for name, index in self.bone.items()}
        level = {name: point[1] - mean_rest[self.sole, 1] for name, point in joint.items()}
        middle = source.on_plane & (y > 0.4 * stature) & (y < 0.6 * stature)
        self.crotch = int(np.where(middle, y, np.inf).argmin())
        foot = np.nonzero(side["foot"])[0]
        self.heel, self.toe = (int(foot[pick(mean_rest[foot, 2])]) for pick in (np.argmin, np.argmax))
        hand = np.nonzero(side["hand"])[0]
        reach = np.linalg.norm(mean_rest[hand] - joint["left_wrist"], axis=1)
        self.fingertip = int(hand[reach.argmax()])
        edges = np.concatenate([source.faces[:, [0, 1]], source.faces[:, [1, 2]], source.faces[:, [2, 0]]])
        self.edges = np.unique(np.sort(edges, 1), axis=0)
        up = np.array([0.0, 1.0, 0.0])
        between = (y > 0.6 * stature) & (y < level["left_shoulder"]) & trunk
        chest = y[np.where(between, mean_rest[:, 2], -np.inf).argmax()]
        low = (y > y[self.crotch]) & (y < 0.6 * stature) & trunk
        hips = y[np.where(low, mean_rest[:, 2], np.inf).argmin()]
        leg_levels = np.linspace(level["left_ankle"], level["left_knee"], 40)
        self.loops = {}

        def loop(name, height, mask, whole=True, normal=up):
            origin = np.array([0.0, height + mean_rest[self.sole, 1], 0.0])
            self.loops[name] = (self._cut(mean_rest, origin, normal, mask), whole)

        loop("chest_girth", chest, trunk)
        loop("waist_girth", 0.600 * stature, trunk)  # ANSUR II: omphalion
        loop("hip_girth", hips, trunk)
        loop("thigh_girth", y[self.crotch] - 0.02, side["leg"], False)
        loop("lower_thigh_girth", level["left_knee"] + 0.03 * stature, side["leg"], False)
        girths = []
        for height in leg_levels:
            loop("calf_girth", height, side["leg"], False)
            girths.append(self._girth(mean_rest[None], "calf_girth")[0])
        lower = leg_levels < 0.5 * (leg_levels[0] + leg_levels[-1])
        loop("ankle_girth", leg_levels[lower][np.array(girths)[lower].argmin()], side["leg"], False)
        upper = (~lower) & (leg_levels < 0.85 * level["left_knee"])
        loop("calf_girth", leg_levels[upper][np.array(girths)[upper].argmax()], side["leg"], False)
        along = joint["left_wrist"] - joint["left_elbow"]
        along = along / np.linalg.norm(along)
        self.loops["wrist_girth"] = (
            self._cut(mean_rest, joint["left_wrist"] - 0.015 * along, along, side["arm"]), False
        )  # fmt: skip
        self._keep_used_vertices()

    def _keep_used_vertices(self) -> None:
        """From here on vertices are numbered as in `ids`, the few that are measured."""
        points = ("top", "sole", "crotch", "heel", "toe", "fingertip")
        used = [edges.ravel() for (edges, _), _ in self.loops.values()] + [[getattr(self, n) for n in points]]
        self.ids = np.unique(np.concatenate(used))
        for name in points:
            setattr(self, name, int(np.searchsorted(self.ids, getattr(self, name))))
        for name, ((edges, share), whole) in self.loops.items():
            self.loops[name] = ((np.searchsorted(self.ids, edges), share), whole)

    def _moved_by(self, stems: tuple[str, ...]) -> np.ndarray:
        bones = [b for b, label in enumerate(self.source.labels) if label.startswith(stems)]
        return self.source.weights[:, bones].sum(1) > 0.5

    def _cut(self, points, origin, normal, mask) -> tuple[np.ndarray, np.ndarray]:
        """Edges [L, 2] and shares [L] of the convex hull of a plane's cut through the mean adult, in order."""
        from scipy.spatial import ConvexHull

        edges = self.edges[mask[self.edges].all(1)]
        height = (points - origin) @ normal
        low, high = height[edges].T
        crossed = (low < 0) != (high < 0)
        edges, share = edges[crossed], (low / (low - high))[crossed]
        cut = points[edges[:, 0]] * (1 - share)[:, None] + points[edges[:, 1]] * share[:, None]
        first = np.cross(normal, [0.0, 0.0, 1.0])
        plane = np.stack([first / np.linalg.norm(first), np.cross(first, normal)], 1)
        flat = cut @ plane
        # a half of the trunk: its hull with the mirror image, of which the left half is kept
        if mask[self.source.on_plane].any() and abs(cut[:, 0].min()) < 1e-3:
            hull = ConvexHull(np.concatenate([flat, flat * [-1, 1]])).vertices
            angle = np.arctan2(flat[:, 1] - flat[:, 1].mean(), flat[:, 0])
            order = [i for i in hull if i < len(flat)]
            order = sorted(order, key=lambda i: angle[i])
        else:
            order = ConvexHull(flat).vertices
        return edges[order], share[order]

    def _points(self, rest: np.ndarray, name: str) -> np.ndarray:
        (edges, share), _ = self.loops[name]
        return rest[:, edges[:, 0]] * (1 - share)[:, None] + rest[:, edges[:, 1]] * share[:, None]

    def _girth(self, rest: np.ndarray, name: str) -> np.ndarray:
        points = self._points(rest, name)
        steps = np.linalg.norm(np.diff(points, axis=1), axis=2).sum(1)
        if self.loops[name][1]:  # the left half of the trunk: from plane to plane
            return 2 * steps + 2 * (points[:, 0, 0] + points[:, -1, 0])
        return steps + np.linalg.norm(points[:, 0] - points[:, -1], axis=1)

    def measure(self, rest: np.ndarray, heads: np.ndarray) -> np.ndarray:
        """[N, M + 1] m, in the order of MEASURES, and stature.

        rest: [N, len(ids), 3], heads: [N, B, 3] (`source.rest_shapes` of `ids`).
        """
        at = {name: heads[:, index] for name, index in self.bone.items()}
        floor = rest[:, self.sole, 1]
        values = {
            "ankle_height": at["left_ankle"][:, 1] - floor,
            "knee_height": at["left_knee"][:, 1] - floor,
            "crotch_height": rest[:, self.crotch, 1] - floor,
            "hip_height": at["left_hip"][:, 1] - floor,
            "shoulder_height": at["left_shoulder"][:, 1] - floor,
            "neck_height": at["neck"][:, 1] - floor,
            "shoulder_breadth": 2 * at["left_shoulder"][:, 0],
            "upper_arm": np.linalg.norm(at["left_elbow"] - at["left_shoulder"], axis=1),
            "forearm": np.linalg.norm(at["left_wrist"] - at["left_elbow"], axis=1),
            "hand": np.linalg.norm(rest[:, self.fingertip] - at["left_wrist"], axis=1),
            "foot": np.linalg.norm(rest[:, self.toe] - rest[:, self.heel], axis=1),
            **{name: 2 * self._points(rest, name.replace("breadth", "girth"))[:, :, 0].max(1)
               for name in ("waist_breadth", "hip_breadth")},
            "chest_depth": np.ptp(self._points(rest, "chest_girth")[:, :, 2], axis=1),
            **{name: self._girth(rest, name) for name in self.loops},
        }  # fmt: skip
        stature = rest[:, self.top, 1] - floor
        return np.concatenate([np.stack([values[name] for name in MEASURES], 1), stature[:, None]], 1)


def volume_m3(source, coefficients: np.ndarray) -> np.ndarray:
    """Of both halves of the surface at rest, [N]. coefficients: [N, K]."""
    from synth.open_body.source import rest_shapes

    volumes = []
    for rows in np.array_split(coefficients, max(1, len(coefficients) // 20)):
        rest, _ = rest_shapes(source, rows, np.arange(len(source.ids)))
        a, b, c = (rest[:, source.faces[:, i]] for i in range(3))
        volumes.append(2 * np.abs(np.einsum("nfi,nfi->n", a, np.cross(b, c))) / 6)
    return np.concatenate(volumes)


def dial_columns(labels: list[str], first: int) -> np.ndarray:
    """Blend shapes [2, D, 2] that turn each of DIALS up and down, left and right. labels: Anny's local changes."""
    stems = [label.rsplit("-", 1)[0] for label in labels]
    columns = []
    for dial in DIALS:
        names = [dial.replace("{l,r}", side) for side in "lr"] if "{l,r}" in dial else [dial, dial]
        columns.append([first + 2 * stems.index(name) for name in names])
    up = np.array(columns)
    return np.stack([up, up + 1])


def with_dials(coefficients: np.ndarray, dials: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Coefficients [N, K] with dials [N, D] turned; columns as dial_columns."""
    turned = coefficients.copy()
    for direction, sign in ((0, 1.0), (1, -1.0)):
        amount = np.clip(sign * dials, 0, None)
        for d, pair in enumerate(columns[direction]):
            for column in set(pair.tolist()):
                turned[:, column] += amount[:, d]
    return turned


def proportioned(
    source, coefficients: np.ndarray, female: np.ndarray, table: Table, seed: int | None
) -> np.ndarray:
    """Coefficients [N, K] of adults with people's proportions: same sex, stature and weight, measures drawn by `seed`.

    female: [N] in 0..1. seed None: everyone has the measures expected of them.
    """
    from synth.open_body.source import rest_shapes

    start = coefficients.mean(0, keepdims=True)
    rest, heads = rest_shapes(source, start, np.arange(len(source.ids)))
    tape, columns = Tape(source, rest[0], heads[0]), source.dials
    spread = np.sqrt(np.diag(table.spread))
    scale = np.append(spread, STATURE_SLACK_M)

    def measures(rows):
        return tape.measure(*rest_shapes(source, rows, tape.ids)) / scale

    slopes = []  # up and down: dials are not straight through zero
    for step in (0.5, -0.5):
        moved = with_dials(np.repeat(start, len(DIALS), 0), step * np.eye(len(DIALS)), columns)
        volume = (volume_m3(source, moved) - volume_m3(source, start)) / VOLUME_SLACK_M3
        slopes.append(np.concatenate([measures(moved) - measures(start), volume[:, None]], 1) / step)
    before = measures(coefficients)
    stature, weight = before[:, -1] * STATURE_SLACK_M, volume_m3(source, coefficients) * KG_PER_M3
    wanted = table.expected(female, stature, weight)
    if seed is not None:
        rng = np.random.default_rng(seed)
        wanted = wanted + rng.multivariate_normal(
            np.zeros(len(spread)), table.spread, len(wanted), method="cholesky"
        )
    wanted = np.concatenate([wanted / spread, before[:, -1:]], 1)
    cost = DIAL_COST * len(scale) * np.eye(len(DIALS))
    dials, now = np.zeros((len(coefficients), len(DIALS))), before
    for _ in range(ROUNDS):
        slope = np.where((dials >= 0)[..., None], *slopes)  # [N, D, M + 2], volume last
        volume = np.einsum("nd,nd->n", dials, slope[..., -1])
        lack = np.concatenate([wanted - now, -volume[:, None]], 1)
        gradient = np.einsum("ndm,nm->nd", slope, lack) - dials @ cost
        step = np.linalg.solve(slope @ slope.transpose(0, 2, 1) + cost, gradient[..., None])[..., 0]
        dials = np.clip(dials + STEP * step, -LARGEST_DIAL, LARGEST_DIAL)
        now = measures(with_dials(coefficients, dials, columns))
    return with_dials(coefficients, dials, columns)


def main() -> None:
    """Command line: learn the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ansur", type=Path, required=True, help="ANSUR_II_BOTH_Public.csv")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    table = learn_table(options.ansur)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.out,
        coefficients=table.coefficients.astype(np.float32),
        spread=table.spread,
        stature_weight=table.stature_weight,
        measures=np.array(list(MEASURES)),
    )
    print(f"{options.out}: {len(MEASURES)} measures")


if __name__ == "__main__":
    main()
