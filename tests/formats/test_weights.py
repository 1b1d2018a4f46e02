"""What a mirror of weights has kept goes on being read."""

from pathlib import Path

from rsdl.models.mirror import read_card
from rsdl.storage.local import LocalStore


def test_a_card_of_format_1_is_read():
    card = read_card(LocalStore(Path(__file__).with_name("weights")), "test_vit")
    assert card is not None and card.format == 1
    assert (card.bands, card.dtype) == (("red", "green", "blue"), "uint8")
    assert (card.mean, card.std) == ((127.5,) * 3, (127.5,) * 3)
    assert (card.source, card.license) == ("hub:timm/test_vit.r160_in1k", "apache-2.0")
    assert card.pretrained_cfg["tag"] == "r160_in1k"
