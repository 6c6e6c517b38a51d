"""A sentence encoder that teaches the towers before the clicks do: optional, from a local folder, used in `fit` only."""
