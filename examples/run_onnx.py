"""Runs an exported network without PyTorch: NumPy, Pillow and ONNX Runtime are enough.

sadr export model --format onnx --dynamic-batch --out sadr.onnx
python examples/run_onnx.py sadr.onnx examples/photos/hopper.jpg 184 162 357 326

A seventh argument is the angle by which the face is turned in the photo, in degrees clockwise.
"""

import base64
import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

model, photo, *box = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["sadr"])

# The square of side 1.5 (w + h) / 2 around the box of the face (x0, y0, x1, y1), as 256 x 256.
x0, y0, x1, y1, angle = (*map(float, box), 0.0)[:5]
side = 1.5 * (x1 - x0 + y1 - y0) / 2
left, top = (x0 + x1 - side) / 2, (y0 + y1 - side) / 2
x, y = int(left // 1), int(top // 1)
middle = np.array([left + side / 2, top + side / 2])
upright = Image.open(photo).convert("RGB")
if angle:
    upright = upright.rotate(angle, Image.Resampling.BICUBIC, center=tuple(middle))
part = upright.crop((x, y, x + int(side) + 2, y + int(side) + 2))
corners = (left - x, top - y, left - x + side, top - y + side)
square = part.resize((256, 256), Image.Resampling.BILINEAR, corners)
crops = np.asarray(square)[None]  # any number of crops with --dynamic-batch

names = [output.name for output in session.get_outputs()]
result = dict(zip(names, session.run(names, {"crops": crops}), strict=True))

# The aligned face G, one point per pixel of the UV map, from crop pixels to photo pixels.
face = np.moveaxis(result["face_map"][0], 0, -1)
face = (face + (0.5, 0.5, 0)) * side / 256 + (left - 0.5, top - 0.5, 0)
c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
back = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])  # y down
middle = np.append(middle - 0.5, 0)
face = (face - middle) @ back.T + middle
bits = np.frombuffer(base64.b64decode(about["mask"]), np.uint8)
vertices = face[np.unpackbits(bits).reshape(256, 256).astype(bool)]
rows, columns = np.array(about["landmarks_row_column"]).T
landmarks = face[rows, columns]

r = back.T @ result["rotation"][0]  # y up
yaw, pitch = np.degrees([np.arcsin(-r[0, 2]), np.arctan2(r[1, 2], r[2, 2])])
print(f"{len(vertices)} vertices; yaw {yaw:.1f}, pitch {pitch:.1f} degrees")
print("nose tip at x {:.1f}, y {:.1f} of the photo".format(*landmarks[30, :2]))
