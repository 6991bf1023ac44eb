"""From results to other files: run folders and meshes read back, decimated, merged, converted."""
