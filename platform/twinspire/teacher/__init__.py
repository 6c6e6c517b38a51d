"""A sentence encoder that teaches the towers before the clicks do: optional, a local folder, used in `fit` alone."""
