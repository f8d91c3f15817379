"""Frechet distance between Gaussians fitted to two sets of features (Heusel et al., NeurIPS 2017, equation 6).

FID is this distance between features of the Inception network. Covariances are divided by N - 1, as in the reference
code. Computations are in float64.

The distance between finite sets is biased upwards, by an amount that depends on the distributions: compare distances at
equal N only. Between two sets of N and M rows from the same Gaussian of covariance S with eigenvalues l_i, it is to
first order not 0 but

    (1/N + 1/M) (tr S + 1/2 sum_ij l_i l_j (1 + [i = j]) / (l_i + l_j)),

about (1/N + 1/M) D (D + 5) / 4 in D dimensions of unit variance: of the order D^2 / N, and larger than the differences
between good generators unless N is far above D. Chong and Forsyth (CVPR 2020) show that the bias differs between
generators, so that even their ranking may be wrong. Below about 10,000 images, and for single classes, use the kernel
distance, which is unbiased.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import lapack

from productgen.metrics.arrays import features


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and covariance of features, accumulated over parts in any order.

    Attributes:
      count: number of rows N.
      mean: [D] float64.
      scatter: sum of (x - mean)(x - mean)^T, [D, D] float64.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def empty(cls, width: int) -> Moments:
        """Moments of no rows, with D = `width` features."""
        return cls(0, np.zeros(width), np.zeros((width, width)))

    @classmethod
    def of(cls, rows: ArrayLike) -> Moments:
        """Computes the moments of features [N, D].

        Raises:
          ValueError: not [N, D], no rows, or not finite.
        """
        rows = features(rows, 'moments')
        mean = rows.mean(0)
        centred = rows - mean
        return cls(len(rows), mean, centred.T @ centred)

    def update(self, rows: ArrayLike) -> Moments:
        """Adds rows [N, D]."""
        return self.merge(Moments.of(rows))

    def merge(self, other: Moments) -> Moments:
        """Moments of the union of both sets (Chan, Golub and LeVeque 1979), without cancellation in sums of squares.

        Raises:
          ValueError: the widths differ.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(f'moments differ in width: {len(self.mean)} and {len(other.mean)}')
        count = self.count + other.count
        if not count:
            return self
        shift = other.mean - self.mean
        between = self.count * other.count / count * np.outer(shift, shift)
        return Moments(count, self.mean + shift * (other.count / count), self.scatter + other.scatter + between)

    @property
    def covariance(self) -> np.ndarray:
        """Covariance [D, D], divided by N - 1.

        Raises:
          ValueError: fewer than two rows.
        """
        if self.count < 2:
            raise ValueError(f'a covariance needs at least 2 rows, got {self.count}')
        return self.scatter / (self.count - 1)

    def to_dict(self) -> dict[str, np.ndarray]:
        """Converts to arrays by name, for `numpy.savez`."""
        return {'count': np.asarray(self.count), 'mean': self.mean, 'scatter': self.scatter}

    @classmethod
    def from_dict(cls, arrays: Mapping[str, np.ndarray]) -> Moments:
        """Inverts `to_dict`."""
        return cls(int(arrays['count']), np.asarray(arrays['mean']), np.asarray(arrays['scatter']))


def _root(covariance: np.ndarray) -> np.ndarray:
    """Computes R [D, r] with R R^T = S of rank r: the factor of Cholesky with pivoting (LAPACK's dpstrf).

    Pivots within rounding error of 0 are dropped: under the root, noise of 1e-16 would become 1e-8 each. The time is
    D r^2, a small part of that of eigenvectors where there are fewer rows than features.
    """
    factor, pivots, rank, _ = lapack.dpstrf(covariance, lower=1, tol=-1)
    root = np.empty((len(covariance), rank))
    root[pivots - 1] = np.tril(factor)[:, :rank]
    return root


def frechet_distance(a: Moments, b: Moments) -> float:
    """Computes |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1^1/2 S2 S1^1/2)^1/2, at least 0.

    The trace of the root is the sum of the singular values of R1^T R2, where R R^T = S: their squares are the
    eigenvalues of S1^1/2 S2 S1^1/2, but singular values are accurate to machine precision instead of its square root,
    also for singular covariances of fewer rows than features.

    Raises:
      ValueError: a set has fewer than two rows, or the widths differ.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f'moments differ in width: {len(a.mean)} and {len(b.mean)}')
    first, second = a.covariance, b.covariance
    common = np.linalg.svd(_root(first).T @ _root(second), compute_uv=False).sum()
    distance = np.sum((a.mean - b.mean) ** 2) + np.trace(first) + np.trace(second) - 2 * common
    return float(max(distance, 0.0))
