"""Makes the derived pictures of ``photos/`` from the two public-domain portraits in it.

    python examples/make_photos.py

Needs only Pillow; the results are the same bytes for the same Pillow version.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

PHOTOS = Path(__file__).parent / "photos"


def occluded(portrait: Image.Image) -> Image.Image:
    """The astronaut with a scarf drawn over nose, mouth and chin."""
    scale = 4  # drawn large and reduced: smooth edges
    layer = Image.new("RGBA", (portrait.width * scale, portrait.height * scale))
    draw = ImageDraw.Draw(layer)

    def at(*points: float) -> list[float]:
        return [scale * v for v in points]

    draw.polygon(
        at(178, 128, 222, 122, 268, 130, 276, 176, 226, 204, 172, 174), fill=(46, 92, 130, 255)
    )
    for fold in range(5):
        y = 138 + 12 * fold
        draw.line(at(176, y, 224, y + 7, 272, y - 1), fill=(32, 68, 104, 255), width=3 * scale)
    layer = layer.resize(portrait.size, Image.Resampling.LANCZOS)
    layer = layer.filter(ImageFilter.GaussianBlur(0.6))
    return Image.alpha_composite(portrait.convert("RGBA"), layer).convert("RGB")


def turned(portrait: Image.Image, degrees: float = 35) -> Image.Image:
    """The portrait tilted in the plane, cut to its upper middle."""
    big = portrait.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    x, y = big.width // 2, big.height // 2
    return big.crop((x - 200, y - 200, x + 200, y + 200))


def group(portraits: list[Image.Image]) -> Image.Image:
    """Six prints of decreasing size on a wall: faces from about 200 down to 30 pixels."""
    wall = Image.new("RGB", (1760, 1000), (176, 170, 160))
    placed = [  # portrait, mirrored, height of the print, left, top
        (0, False, 900, 30, 50),
        (1, True, 600, 960, 50),
        (1, False, 300, 980, 670),
        (0, True, 280, 1450, 670),
        (0, False, 160, 1270, 690),
        (1, True, 120, 1560, 300),
    ]
    for number, mirrored, height, left, top in placed:
        portrait = portraits[number]
        if mirrored:
            portrait = portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        width = round(portrait.width * height / portrait.height)
        wall.paste(portrait.resize((width, height), Image.Resampling.LANCZOS), (left, top))
    return wall


def main() -> None:
    astronaut = Image.open(PHOTOS / "astronaut.jpg").convert("RGB")
    hopper = Image.open(PHOTOS / "hopper.jpg").convert("RGB")
    made = {
        "astronaut_occluded": occluded(astronaut),
        "hopper_turned": turned(hopper),
        "group": group([astronaut, hopper]),
    }
    for name, picture in made.items():
        picture.save(PHOTOS / f"{name}.jpg", quality=90)


if __name__ == "__main__":
    main()
