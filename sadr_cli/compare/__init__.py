"""Compares two faces: aligns one to the other and measures the distance of their surfaces."""
