"""Drawing in NumPy: a z-buffer rasteriser, overlays on the photo, textures from it."""
