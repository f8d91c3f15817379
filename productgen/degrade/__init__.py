"""Degradations: what spoils photos, as functions of arrays that compile, seeded for each picture.

Pictures are float32 [B, H, W, C], sRGB in [0, 1]; keys [B] are the samples' own (`productgen.core.rng`), so that a
picture is degraded alike in every batch. Results are not clipped or rounded to 8 bits unless a function says so.
"""
