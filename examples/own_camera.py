"""Your own camera: the same photo with three cameras. Pose hardly changes, distance does.

python examples/own_camera.py
"""

from pathlib import Path

from fitter import Fitter

PHOTO = Path(__file__).parent / "photos" / "skier.jpg"
CAMERAS = {
    "a guess": None,
    "focal length in px": 1200.0,
    "K, distortion and tilt": {
        "K": [[1200, 0, 318], [0, 1200, 210], [0, 0, 1]],
        "distortion": [-0.12, 0.02, 0, 0],  # OpenCV's k1, k2, p1, p2
        "pitch_deg": 5.0,  # looking down
    },
}


def main() -> None:
    fitter = Fitter(people="largest", parser="none")
    for name, camera in CAMERAS.items():
        (fit,) = fitter(PHOTO, camera=camera)
        x, y, z = fit.joints_cam[0]
        print(
            f"{name}: focal {fit.focal_px[0]:.0f} px ({fit.camera_source}), pelvis at {x:.2f} {y:.2f} {z:.2f} m"
        )


if __name__ == "__main__":
    main()
