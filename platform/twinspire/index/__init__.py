"""Embed the catalogue, build, measure and search the index."""
