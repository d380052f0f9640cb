"""What a reader could work out from a card's numbers together, and what is held back so that they can't."""
