"""Pictures of an embedding: items by category (Fig. 5), results by head (Fig. 6), the mixing ratio (Fig. 7).

Each picture is data first, then drawn twice from it: as a PNG that says one thing, and as a page to look closer.
"""
