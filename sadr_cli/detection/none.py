"""No detection: the photo is the face."""

from __future__ import annotations

import numpy as np

from sadr_cli.detection.base import RGBImage, check_image
from sadr_cli.detection.calibration import WHOLE_CROP
from sadr_cli.faces import Detection
from sadr_cli.pixels import image_box


class WholeImage:
    """Detector ``none``: one box around the whole photo, taken as the network's crop itself."""

    name = "none"

    def detect(self, image: RGBImage) -> list[Detection]:
        check_image(image)
        box = np.array(image_box(*image.shape[:2]))
        return [Detection(box, 1.0, None, WHOLE_CROP)]
