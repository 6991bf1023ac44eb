"""Rendering in NumPy: a z-buffer rasteriser, overlays on photos, textures from photos."""
