r"""Learn the clothing prior P(label | vertex) by METHOD.md section 3's votes, from dressed figures or real people.

    python -m synth.clothing_prior --out priors/data/clothing_prior.npz \
        [--garments DIR] [--picture docs/clothing_prior.png] [--figures dressed_figures.png]
    python -m synth.clothing_prior --out my_prior.npz --fits DIR --labels DIR [--body SMPL.npz]

The first learns the shipped one: 520 adults of Anny's shape distribution, in its rest pose, wear outfits drawn
as often as real photos show (outfits.py); each figure is rendered as a label map from 10 views around; every
visible point of the body underneath takes the label that covers it. Run again on the same open body and the same
versions, it writes the same bytes. --garments: a folder of MakeHuman's CC0 assets (base/clothes, base/hair,
basemesh/hm08_base.obj) in place of those that ship.

The second takes people of your own, scans or photos: --fits, what fit.py wrote for every view; --labels, label
maps named as the photos (priors/clothing.py's ids or LIP's palette); --body, if the fits are of another body
than the open one. Give the file to fit.py as --clothing_prior.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fitter.jobs import one_thread
from priors.clothing import LABELS, MIRROR_LABELS
from synth.clothes.figures import Template, load_template, load_wardrobe
from synth.clothes.wear import SIDED
from synth.clothing_prior.votes import collect_votes, template_of, votes_of_fits

LICENCE = (
    "Clothing prior, CC0 1.0 Universal. Learned from renderings of MakeHuman's base mesh, clothes, shoes, "
    "hats and hair (CC0 1.0, makehumancommunity.org) on bodies of anny 0.6.2; vertices and faces "
    "are those of the open body (CC0 1.0). Outfits are as frequent as counted on Clothing-Co-Parsing."
)
BACKGROUND = 0.05  # an occluder may stand before any vertex
SMOOTHING = 0.5  # share of the neighbours' mean that replaces a vertex's own value, SMOOTHING_ROUNDS times
SMOOTHING_ROUNDS = 2
_CLOTHES = ("upper-clothes", "dress", "coat", "jumpsuits")
_LOWER = ("dress", "coat", "pants", "jumpsuits", "skirt")
ALLOWED = {  # body part without its side -> labels it can show; "arm", "leg", "shoe": those of its own side
    "head": ("hat", "hair", "sunglasses", "face"),
    "neck": (*_CLOTHES, "hair", "scarf", "face"),
    "collar": (*_CLOTHES, "hair", "scarf"),
    "spine3": (*_CLOTHES, "hair", "scarf"),
    "spine2": _CLOTHES,
    "spine1": (*_CLOTHES, "pants", "skirt"),
    "pelvis": ("upper-clothes", *_LOWER),
    "hip": ("upper-clothes", *_LOWER, "leg", "socks"),
    "knee": (*_LOWER, "leg", "socks", "shoe"),
    "ankle": ("pants", "jumpsuits", "leg", "socks", "shoe"),
    "foot": ("leg", "socks", "shoe"),
    "shoulder": (*_CLOTHES, "arm"),
    "elbow": (*_CLOTHES, "arm"),
    "wrist": (*_CLOTHES, "glove", "arm"),
    "hand": ("glove", "arm"),
}


def allowed_labels(part_ids: np.ndarray, joint_names: Sequence[str]) -> np.ndarray:
    """Which labels a vertex of each body part can show, background left out. [V] -> [V, 20] bool."""
    table = np.zeros((len(joint_names), len(LABELS)), bool)
    for row, joint in zip(table, joint_names, strict=True):
        side = 1 if joint.startswith("right_") else 0
        for name in ALLOWED[joint.removeprefix("left_").removeprefix("right_")]:
            row[LABELS.index(SIDED[name][side] if name in SIDED else name)] = True
    return table[part_ids]


def neighbour_mean(faces: np.ndarray, count: int):
    """Sparse [V, V] that averages a vertex's neighbours."""
    from scipy.sparse import coo_matrix, diags

    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    adjacency = coo_matrix((np.ones(len(edges)), edges.T), (count, count)).tocsr()
    adjacency.data[:] = 1
    return diags(1 / np.maximum(adjacency.sum(1).A1, 1)) @ adjacency


def fill_unseen(share: np.ndarray, seen: np.ndarray, mean) -> np.ndarray:
    """Rows never seen take their neighbours' average, solved at once. share: [V, C], seen: [V] bool."""
    from scipy.sparse import identity
    from scipy.sparse.linalg import spsolve

    filled = share.copy()
    unseen = ~seen
    if unseen.any():
        inner = identity(int(unseen.sum())) - mean[unseen][:, unseen]
        filled[unseen] = spsolve(inner.tocsc(), mean[unseen][:, seen] @ share[seen])
    return filled


def counted_votes(votes: np.ndarray, template: Template) -> np.ndarray:
    """Votes [V, 20] with the mirror image's added, of labels only that the body part can show."""
    both = votes + votes[template.mirror_ids][:, MIRROR_LABELS]
    return np.where(allowed_labels(template.part_ids, template.joint_names), both, 0.0)


def share_unseen(votes: np.ndarray, template: Template) -> float:
    """Share of the vertices for which nobody voted."""
    return float((counted_votes(votes, template).sum(1) <= 0).mean())


def prior_from_votes(votes: np.ndarray, template: Template, background: float = BACKGROUND) -> np.ndarray:
    """METHOD.md section 3: votes [V, 20] >= 0 -> probabilities [V, 20], rows sum to 1, left/right symmetric.

    Shares of all labels but background; unseen vertices filled; smoothed a little; symmetrised; labels that
    the body part cannot show set to 0; background added. ValueError: a vertex has no allowed label.
    """
    allowed = allowed_labels(template.part_ids, template.joint_names)
    votes = counted_votes(votes, template)
    total = votes.sum(1, keepdims=True)
    mean = neighbour_mean(template.faces, len(votes))
    share = fill_unseen(votes / np.where(total > 0, total, 1), total[:, 0] > 0, mean)
    for _ in range(SMOOTHING_ROUNDS):
        share = (1 - SMOOTHING) * share + SMOOTHING * (mean @ share)
    share = np.where(allowed, share, 0.0)
    share = (share + share[template.mirror_ids][:, MIRROR_LABELS]) / 2
    total = share.sum(1, keepdims=True)
    if not (total > 0).all():
        raise ValueError(
            f"clothing prior: expected an allowed label at every vertex, {int((total <= 0).sum())} have none"
        )
    prob = (1 - background) * share / total
    prob[:, LABELS.index("background")] = background
    return prob


def summary(prob: np.ndarray, template: Template) -> str:
    """Mean probability of each label by body part (left parts; a label of the other side never occurs)."""
    lines = []
    for j, joint in enumerate(template.joint_names):
        if joint.startswith("right_") or not (template.part_ids == j).any():
            continue
        mean = prob[template.part_ids == j].mean(0)
        order = [i for i in np.argsort(-mean, kind="stable") if i and mean[i] >= 0.005]
        lines.append(f"{joint:14s} " + "  ".join(f"{LABELS[i]} {mean[i]:.2f}" for i in order))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Command line: learn, write, show."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--out", type=Path, required=True, help="the npz to write")
    parser.add_argument(
        "--garments", type=Path, help="folder of MakeHuman's CC0 assets (default: what ships)"
    )
    parser.add_argument("--fits", type=Path, help="folder of fits to learn from in place of dressed figures")
    parser.add_argument("--labels", type=Path, help="their label maps")
    parser.add_argument("--body", type=Path, help="the body's file (default: the open body)")
    parser.add_argument("--picture", type=Path, help="png of the prior on the body, front and back")
    parser.add_argument("--figures", type=Path, help="png of some of the dressed figures")
    options = parser.parse_args(arguments)
    if bool(options.fits) != bool(options.labels):
        parser.error("expected --fits and --labels together, got only one of them")

    one_thread()
    template, votes, licence = _from_fits(options) if options.fits else _from_figures(options)
    prob = prior_from_votes(votes, template).astype(np.float16)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.out, prob=prob, vertices=template.vertices_m, faces=template.faces, licence=np.array(licence)
    )
    print(summary(prob.astype(float), template))
    print(f"{options.out}: {options.out.stat().st_size} bytes")
    if options.picture:
        from synth.clothing_prior.pictures import write_prior

        write_prior(options.picture, prob.astype(float), template)


def _from_figures(options: argparse.Namespace) -> tuple[Template, np.ndarray, str]:
    from fitter.body.model import OPEN_BODY

    template = load_template(options.body or OPEN_BODY)
    seen = []

    def keep(name: str, images: np.ndarray) -> None:
        seen.append((name, images[[0, 3, 5]].astype(np.uint8)))

    wardrobe = load_wardrobe(options.garments, template)
    votes = collect_votes(wardrobe, on_figure=keep if options.figures else None)
    if options.figures:
        from synth.clothing_prior.pictures import write_figures

        write_figures(options.figures, seen)
    return template, votes, LICENCE


def _from_fits(options: argparse.Namespace) -> tuple[Template, np.ndarray, str]:
    from fitter.body.model import load_body

    body = load_body(options.body)
    votes, voted = votes_of_fits(sorted(options.fits.glob("*.npz")), options.labels, body)
    template = template_of(body)
    never = share_unseen(votes, template)
    print(
        f"votes of {voted} views; {100 * never:.1f} % of the vertices were never seen and take their neighbours'"
    )
    return template, votes, "As the photos and the body that it was learned from."
