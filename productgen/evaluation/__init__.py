"""Measuring a run, or any folder of pictures: `--mode=eval`."""

from productgen.evaluation.evaluate import evaluate

__all__ = ['evaluate']
