"""Readers of benchmark files: images, ground-truth landmarks and poses, scans, predictions."""
