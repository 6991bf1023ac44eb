"""Faces while they happen: a camera, a stream or a video, followed, shown and recorded."""
