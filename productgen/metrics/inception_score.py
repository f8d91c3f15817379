"""Inception Score: how sure a classifier is of each picture, and how evenly the pictures fill its classes.

Salimans et al., "Improved Techniques for Training GANs", NIPS 2016, section 4: exp of the mean divergence
KL(p(y|x) || p(y)), from 1 to the number of classes K. It sees no real pictures, and nothing within a class.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from productgen.metrics.arrays import features

SPLITS = 10
_TOLERANCE = 1e-3  # of a row's sum: float16 probabilities of many classes


@dataclasses.dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation (of the population, as published) over the splits."""

    mean: float
    std: float


def inception_score(probabilities: ArrayLike, splits: int = SPLITS) -> InceptionScore:
    """The score of [N, K] class probabilities.

    The set is cut into `splits` runs of neighbouring rows; rows sorted by class must be shuffled before. The score of
    few rows is biased downwards: compare at one N and one number of splits. The deviation is that among the splits, not
    a standard error.

    Raises:
      ValueError: rows that are no probabilities (logits, say), or fewer rows than splits.
    """
    if splits < 1:
        raise ValueError(f'splits must be at least 1, got {splits}')
    p = features(probabilities, 'probabilities', least=splits)
    if p.min() < 0 or np.abs(p.sum(1) - 1).max() > _TOLERANCE:
        raise ValueError('probabilities: every row must be at least 0 and sum to 1')
    scores = []
    for part in np.array_split(p, splits):
        scores.append(np.exp(special.rel_entr(part, part.mean(0)).sum(1).mean()))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))
