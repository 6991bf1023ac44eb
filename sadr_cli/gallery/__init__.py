"""index.html of a run: one page that works offline: a card per face, meshes that can be turned."""

from sadr_cli.gallery.cards import Card, Strip, face_card, write_cards
from sadr_cli.gallery.page import NAME, write_page

__all__ = ["NAME", "Card", "Strip", "face_card", "write_cards", "write_page"]
