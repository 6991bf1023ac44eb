"""Records of a run: manifest, poses.csv and one JSON file per face."""
