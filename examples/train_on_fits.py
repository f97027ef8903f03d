"""Training on fits: a small network that lifts 2D keypoints to 3D joints, learned from a folder of results.

python examples/train_on_fits.py [OUT]         the --out of a run; a few thousand people make sense
"""

import sys

import torch

from fitter import Fits, load_fits


def examples(fits: Fits) -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoints in the person's box [N, 75], confidence with them, and joints about the pelvis [N, 72] m."""
    box = torch.tensor(fits.box_px)
    middle, side = (box[:, :2] + box[:, 2:]) / 2, (box[:, 2:] - box[:, :2]).amax(1)
    points = torch.tensor(fits.observed_px)
    points[..., :2] = (points[..., :2] - middle[:, None]) / side[:, None, None] * (points[..., 2:] > 0)
    joints = torch.tensor(fits.joints_cam)
    return points.flatten(1).float(), (joints - joints[:, :1]).flatten(1).float()


def main(out: str = "out", steps: int = 300) -> float:
    torch.manual_seed(0)
    fits = load_fits(out)
    given, wanted = examples(fits[fits.valid])
    net = torch.nn.Sequential(torch.nn.Linear(75, 256), torch.nn.ReLU(), torch.nn.Linear(256, 72))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for step in range(steps):
        error = (net(given) - wanted).reshape(-1, 24, 3).norm(dim=2).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step}: {1000 * error.item():.0f} mm a joint, on {len(given)} people")
    return 1000 * error.item()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "out")
