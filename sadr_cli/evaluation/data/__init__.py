"""The benchmarks' files read: images, true landmarks and poses, scans, predictions."""
