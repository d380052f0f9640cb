"""Two versions of a card: what changed, and whether both may be public at once."""
