"""Export of results: run folders and meshes are read, decimated, merged and converted."""
