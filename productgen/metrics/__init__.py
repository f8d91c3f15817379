"""Figures of how alike two sets of pictures are."""
