"""No detection: the photo is the face."""

from __future__ import annotations

import numpy as np

from sadr_cli.detection.base import RGBImage, check_image
from sadr_cli.detection.calibration import WHOLE_CROP
from sadr_cli.faces import Detection


class WholeImage:
    """Detector ``none``: one box around the whole photo, taken as the network's crop itself."""

    name = "none"

    def detect(self, image: RGBImage) -> list[Detection]:
        check_image(image)
        height, width = image.shape[:2]
        box = np.array([-0.5, -0.5, width - 0.5, height - 0.5])
        return [Detection(box, 1.0, None, WHOLE_CROP)]
