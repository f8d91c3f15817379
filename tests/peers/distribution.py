"""Writes distribution.json: reference values of other implementations for the sets below.

    python tests/peers/distribution.py data_copying_tests.py

It needs prdc 0.2, scikit-learn 1.9.1, scipy 1.17.1 and numpy 2.4.6. data_copying_tests.py is from
github.com/casey-meehan/data-copying at a0ba2db, by the authors of the C_T statistic. It was written for an older scipy,
whose rank test accepted columns.
"""

import importlib.util
import json
import pathlib
import sys

import numpy as np

FILE = pathlib.Path(__file__).with_suffix('.json')
CELLS = 3


def real_and_generated():
    """[150, 6] and [120, 6]: of two modes, one is nearly missing in the generated set and the other is narrower."""
    draw = np.random.RandomState(0)
    real = draw.standard_normal((150, 6)) + 4 * (np.arange(150) % 2)[:, None]
    generated = 0.8 * draw.standard_normal((120, 6)) + 4 * (np.arange(120) % 10 == 0)[:, None]
    return real, generated


def cells(n):
    """Cluster indices of n rows, with fractions of two, two and one fifth."""
    return np.arange(n) % 5 % CELLS


def samples_training_held_out():
    """Three distant clusters of samples: copies, samples like the data, and samples off the data."""
    draw = np.random.RandomState(1)
    cluster = lambda n: 100.0 * cells(n)[:, None]
    training, held_out = (draw.standard_normal((n, 4)) + cluster(n) for n in (240, 150))
    samples = draw.standard_normal((180, 4)) * np.array([1, 1, 2])[cells(180), None] + cluster(180)
    copied = np.flatnonzero(cells(180) == 0)
    samples[copied] = training[copied] + 0.3 * draw.standard_normal((len(copied), 4))
    return samples, training, held_out


def main():
    import prdc
    from scipy.stats import mannwhitneyu
    from sklearn.metrics.pairwise import polynomial_kernel

    spec = importlib.util.spec_from_file_location('data_copying_tests', sys.argv[1])
    copying = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copying)
    copying.mannwhitneyu = lambda x, y, **options: mannwhitneyu(x[:, 0], y[:, 0], **options)

    a, b = real_and_generated()
    aa, bb, ab = (polynomial_kernel(x, y, degree=3, coef0=1) for x, y in ((a, a), (b, b), (a, b)))
    others = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    samples, training, held_out = samples_training_held_out()
    sets = [array for x in (held_out, samples, training) for array in (x, cells(len(x)))]
    found = {
        'prdc': {str(k): prdc.compute_prdc(a, b, k) for k in (3, 5)},
        'kernel': others(aa) + others(bb) - 2 * ab.mean(),
        'z': copying.Zu(held_out, samples, training),
        'c_t': copying.C_T(*sets, tau=20 / len(samples)),
    }
    FILE.write_text(json.dumps(found, indent=1, default=float) + '\n')


if __name__ == '__main__':
    main()
