"""Inception Score: confidence of a classifier on each image, and diversity of the predicted classes.

Salimans et al., "Improved Techniques for Training GANs", NIPS 2016, section 4: exp of the mean divergence
KL(p(y|x) || p(y)), from 1 to the number of classes K. It uses no real images and ignores diversity within a class.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from productgen.metrics.arrays import features

SPLITS = 10
_TOLERANCE = 1e-3  # of the sum of a row, for float16 probabilities of many classes


@dataclasses.dataclass(frozen=True)
class InceptionScore:
    """Mean and population standard deviation over the splits, as in the paper."""

    mean: float
    std: float


def inception_score(probabilities: ArrayLike, splits: int = SPLITS) -> InceptionScore:
    """Computes the score of class probabilities [N, K].

    The set is split into `splits` runs of consecutive rows; rows sorted by class must be shuffled first. The score is
    biased downwards for few rows: compare at equal N and number of splits. The standard deviation is over the splits;
    it is not a standard error.

    Raises:
      ValueError: rows that are not probabilities (logits, for instance), fewer rows than splits, or no split.
    """
    if splits < 1:
        raise ValueError(f'splits must be at least 1, got {splits}')
    p = features(probabilities, 'probabilities', least=splits)
    if p.min() < 0 or np.abs(p.sum(1) - 1).max() > _TOLERANCE:
        raise ValueError('probabilities: rows must be at least 0 and sum to 1')
    scores = []
    for part in np.array_split(p, splits):
        scores.append(np.exp(special.rel_entr(part, part.mean(0)).sum(1).mean()))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))
