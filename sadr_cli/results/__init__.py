"""The files that say what a run did: manifest, poses.csv and the record of each face."""
