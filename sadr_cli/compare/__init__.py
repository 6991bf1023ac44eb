"""Two faces compared: one laid onto the other, and how far apart their surfaces are."""
