"""A photo's fits in Blender, before the camera that took it and the photo as its background.

    python fit.py --images photos --out out --save-mesh scene
    blender --python examples/blender_import.py -- out skier photos/skier.jpg

skier: of <out>/skier_<person>.npz, and skier_people.glb; with --save-mesh glb or rigged skier_<person>.glb. Needs
nothing of ours in Blender's Python, only NumPy, which it has. Plain Python has no Blender (bpy): there the script
prints what it would do and stops.
"""

import math
import sys
from pathlib import Path

import numpy as np

SENSOR_MM = 36.0


def scene_of(out: str, name: str) -> dict:
    """What goes into the scene: meshes, files with Y up; camera in Blender's terms; size of the picture in px."""
    results = sorted(Path(out).glob(f"{name}_*.npz"))
    together = Path(out) / f"{name}_people.glb"
    meshes = [together] if together.is_file() else [path.with_suffix(".glb") for path in results]
    if not results or not all(path.is_file() for path in meshes):
        raise SystemExit(
            f"{out}: expected {name}_<person>.npz and .glb, as fit.py --save-mesh scene writes them"
        )
    with np.load(results[0], allow_pickle=False) as fit:
        (fx, fy), (cx, cy), (width, height) = (fit[k] for k in ("focal_px", "center_px", "image_size_px"))
    tall = float(fx / fy)  # of a pixel, against its width
    return {
        "meshes": meshes,
        "size_px": (int(width), int(height)),
        "lens_mm": float(fx / width * SENSOR_MM),
        "pixel_aspect": (max(1.0, 1 / tall), max(1.0, tall)),
        "shift": (float((width / 2 - cx) / width), float((cy - height / 2) / width * tall)),
    }


def build(scene: dict, photo: str | None) -> None:
    """Meshes, camera and background in the open Blender file."""
    import bpy

    for mesh in scene["meshes"]:
        bpy.ops.import_scene.gltf(
            filepath=str(mesh)
        )  # turns Y up into Blender's Z up, so the camera looks along +Y
    camera = bpy.data.cameras.new("photo")
    camera.sensor_fit, camera.sensor_width, camera.lens = "HORIZONTAL", SENSOR_MM, scene["lens_mm"]
    camera.shift_x, camera.shift_y = scene["shift"]
    placed = bpy.data.objects.new("photo", camera)
    placed.rotation_euler = (math.pi / 2, 0.0, 0.0)
    bpy.context.collection.objects.link(placed)
    bpy.context.scene.camera = placed
    render = bpy.context.scene.render
    render.resolution_x, render.resolution_y = scene["size_px"]
    render.pixel_aspect_x, render.pixel_aspect_y = scene["pixel_aspect"]
    if photo:
        camera.show_background_images = True
        camera.background_images.new().image = bpy.data.images.load(str(Path(photo).resolve()))


def main(out: str, name: str, photo: str | None = None) -> None:
    scene = scene_of(out, name)
    print(f"{len(scene['meshes'])} files, lens {scene['lens_mm']:.1f} mm, shift {scene['shift']}")
    try:
        build(scene, photo)
    except ModuleNotFoundError as error:
        print(f"not in Blender ({error}): nothing is built")


if __name__ == "__main__":
    main(*sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:])
