"""Degradations: what spoils photos, as functions of arrays that can be compiled, seeded for each picture."""
