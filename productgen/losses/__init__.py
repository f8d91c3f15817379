"""Losses and penalties: pure functions of arrays, or of functions passed to them."""
