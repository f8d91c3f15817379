"""Losses and penalties: pure functions of arrays, and of functions given to them."""
