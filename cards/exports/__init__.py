"""The card in the formats that others read: Hugging Face, Croissant, CHAI, JSON Schema, CSV.

Each is a function of ``card.json`` and of nothing else, so whatever leaves through an export has passed disclosure control.
"""
