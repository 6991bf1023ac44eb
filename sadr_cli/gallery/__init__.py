"""index.html of a run: one page without network, a card a face, meshes that turn."""

from sadr_cli.gallery.cards import Strip, face_card, write_cards
from sadr_cli.gallery.page import NAME, write_page

__all__ = ["NAME", "Strip", "face_card", "write_cards", "write_page"]
