"""Your own keypoints: fits the skier to keypoints of another tool, given as an array, and says how well they are met.

python examples/own_keypoints.py
"""

from pathlib import Path

import numpy as np

from fitter import Fitter

PHOTO = Path(__file__).parent / "photos" / "skier.jpg"
# fmt: off
COCO = np.array([  # x, y px, confidence: nose, left and right eye, ear, shoulder, elbow, wrist, hip, knee, ankle
    [368, 80, .7], [374, 74, .7], [362, 75, .6], [385, 76, .7], [360, 79, .6], [404, 110, .7], [367, 124, .6],
    [440, 154, .5], [341, 162, .4], [441, 161, .5], [303, 180, .6], [431, 211, .7], [402, 216, .7], [430, 289, .7],
    [370, 273, .7], [472, 362, .6], [404, 340, .7],
])
# fmt: on


def main() -> None:
    fitter = Fitter(keypoint_names="coco", parser="none")  # an order's name, or a YAML list of your own names
    for fit in fitter(PHOTO, keypoints=COCO):
        print(
            f"person {fit.person}: valid {fit.valid}, keypoints met to {fit.quality['reprojection_pct']:.1f} %"
        )
        print("left knee, degrees:", np.degrees(np.linalg.norm(fit.pose[12:15])).round(1))


if __name__ == "__main__":
    main()
