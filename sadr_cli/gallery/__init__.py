"""index.html of a run: an offline page with a card and an interactive mesh per face."""

from sadr_cli.gallery.cards import Card, Strip, face_card, write_cards
from sadr_cli.gallery.page import NAME, write_page

__all__ = ["NAME", "Card", "Strip", "face_card", "write_cards", "write_page"]
