"""Training of SADRNet: photos, synthesis of samples, losses, loop."""
