"""One photo to pose, landmarks and a mesh that opens in Blender.

    python examples/quickstart.py [PHOTO]

Writes one GLB per face into the current folder.
"""

import sys
from pathlib import Path

from sadr_cli import Reconstructor, read_image, save_mesh

photo = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "photos/hopper.jpg"

reconstructor = Reconstructor()  # the installed weights, on a GPU if there is one
image = read_image(photo)  # (H, W, 3) uint8 RGB, upright
faces = reconstructor.reconstruct(image)

for i, face in enumerate(faces):
    yaw, pitch, roll = face.euler  # degrees
    seen = (face.landmark_visibility > 0.5).sum()
    print(f"face {i}: yaw {yaw:.0f}, pitch {pitch:.0f}, roll {roll:.0f}; {seen} of 68 points seen")
    print(f"  nose tip at {face.landmarks[30].round(1)} pixels, confidence {face.confidence:.2f}")
    file = save_mesh(f"{photo.stem}_{i}.glb", face, reconstructor.uv, image)[0]
    print(f"  wrote {file}: {len(face.vertices)} vertices")
