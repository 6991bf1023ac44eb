"""SADRNet: the network, its alignment, its checkpoint file and what runs it."""
