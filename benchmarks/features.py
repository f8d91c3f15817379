"""Measures feature networks on real photos: what a linear classifier reads from them, and which damage they see.

  python benchmarks/features.py --features=efficientnet,vgg --train=PHOTOS/train --test=PHOTOS/test --count=0,400

`--features` takes what `eval.features` takes, and `pixels`: the colours of 16 x 16 pixels, as a baseline.

Accuracy: multinomial logistic regression on standardised features of the photos of `--train`, tested on those of
`--test`; its L2 penalty is chosen on a quarter of the training photos. Photos are read at 128 x 128 with `fit=pad`.
`--count` lists how many photos of each folder are used, in random order, 0 for all.

Damage: the distances of the reports between two halves of `--damage` random training photos each, at 64 x 64, after
known damage to the second half. Stronger damage of one kind must have a larger distance.

Features are kept in the cache, see `PRODUCTGEN_CACHE`.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage, optimize, special

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from productgen.data.folder import Folder  # noqa: E402
from productgen.evaluation.sets import PictureSet, measure, mixed, thumbnails  # noqa: E402
from productgen.metrics.distribution import Reference  # noqa: E402
from productgen.model.features import FeatureNet, open_features  # noqa: E402

BATCH, SIZE, SMALL = 32, 128, 64  # pictures at a time; sides of the pictures of both parts
PENALTIES = 10.0 ** np.arange(1, -6, -1)  # of a mean loss
DISTANCES = ('frechet_distance', 'kernel_distance')
FIGURES = (*DISTANCES, 'precision', 'recall', 'density', 'coverage')


def fit(x: np.ndarray, y: np.ndarray, penalty: float, start: np.ndarray) -> np.ndarray:
    """Multinomial logistic regression by L-BFGS: features [N, D] and codes [N] -> weights [D + 1, K], bias last.

    Args:
      x: standardised features.
      y: int codes below K.
      penalty: half of it times the sum of squared weights is added to the mean loss; the bias is free.
      start: initial weights [D + 1, K].
    """
    hot = np.eye(start.shape[1])[y]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(start.shape)
        logp = special.log_softmax(x @ w[:-1] + w[-1], axis=1)
        error = (np.exp(logp) - hot) / len(x)
        gradient = np.concatenate([x.T @ error + penalty * w[:-1], error.sum(0, keepdims=True)])
        return float(-np.sum(logp * hot) / len(x) + penalty / 2 * np.sum(w[:-1] ** 2)), gradient.ravel()

    found = optimize.minimize(loss, start.ravel(), jac=True, method='L-BFGS-B', options={'maxiter': 200})
    return found.x.reshape(start.shape)


def accuracy(
    train: np.ndarray, train_label: np.ndarray, test: np.ndarray, test_label: np.ndarray
) -> dict[str, float | int]:
    """Accuracy of a linear classifier and its binomial standard error.

    The penalty is the one with the highest accuracy on a random quarter of the training rows, the largest of equal
    ones; the classifier is then fitted to all of them.

    Args:
      train, train_label: features [N, D] and codes [N].
      test, test_label: features [M, D] and codes [M].
    """
    classes = int(max(train_label.max(), test_label.max())) + 1
    order = np.random.default_rng(0).permutation(len(train))
    held_out, rest = np.split(order, [len(order) // 4])

    def along_the_path(rows: np.ndarray, last: int):
        """Weights for the first penalties, each fit starting from the one before."""
        centre, scale = train[rows].mean(0), train[rows].std(0) + 1e-6
        weights = np.zeros((train.shape[1] + 1, classes))
        for penalty in PENALTIES[: last + 1]:
            weights = fit((train[rows] - centre) / scale, train_label[rows], penalty, weights)
            predict = lambda x, w=weights: np.argmax((x - centre) / scale @ w[:-1] + w[-1], 1)
            yield predict

    chosen = [
        np.mean(predict(train[held_out]) == train_label[held_out])
        for predict in along_the_path(rest, len(PENALTIES) - 1)
    ]
    best = int(np.argmax(chosen))
    *_, predict = along_the_path(order, best)
    value = float(np.mean(predict(test) == test_label))
    return {
        'accuracy': value,
        'standard_error': float(np.sqrt(value * (1 - value) / len(test))),
        'penalty': float(PENALTIES[best]),
        'train': len(train),
        'test': len(test),
    }


def _blurred(sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.stack([ndimage.gaussian_filter(i, (sigma, sigma, 0), mode='nearest') for i in x])


def _noisy(sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    def add(x: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(0).normal(0, 255 * sigma, x.shape)
        return np.clip(np.rint(x + noise), 0, 255).astype(np.uint8)

    return add


def _jpeg(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    def encoded(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, 'JPEG', quality=quality)
        return np.asarray(Image.open(file).convert('RGB'))

    return lambda x: np.stack([encoded(image) for image in x])


def _gains(*gains: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.clip(np.rint(x * np.asarray(gains)), 0, 255).astype(np.uint8)


DAMAGE: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # uint8 [N, H, W, 3] -> as many
    'none': lambda x: x,
    'blur, sigma 1': _blurred(1),
    'blur, sigma 2': _blurred(2),
    'noise, sigma 0.05': _noisy(0.05),
    'noise, sigma 0.1': _noisy(0.1),
    'JPEG, quality 10': _jpeg(10),
    'colour cast': _gains(1, 0.95, 0.8),
    'halves swapped': lambda x: np.roll(x, x.shape[2] // 2, 2),
}
HALF_REPEATED, HALF_CLASSES, ONE_CLASS = 'half of the pictures, twice', 'half of the classes', 'one class'
ORDERS = (  # of distances, the smaller first
    ('none', 'blur, sigma 1', 'blur, sigma 2'),
    ('none', 'noise, sigma 0.05', 'noise, sigma 0.1'),
    ('none', HALF_CLASSES, ONE_CLASS),
    *(('none', name) for name in ('JPEG, quality 10', 'colour cast', 'halves swapped', HALF_REPEATED)),
)


def pixels() -> FeatureNet:
    """The colours of 16 x 16 pixels as features."""
    about = {'network': 'colours of 16 x 16 pixels', 'weights': 'pixels', 'features': 768}
    return FeatureNet('pixels', about, {}, None, lambda images: (thumbnails(images) / np.float32(255), {}))


def open_any(name: str) -> FeatureNet:
    """What `open_features` accepts, or `pixels`."""
    return pixels() if name == 'pixels' else open_features(name, BATCH)


def _pictures(source: Folder, items: np.ndarray, damage: str = 'none') -> PictureSet:
    """Pictures of a folder after damage."""
    load = lambda i: DAMAGE.get(damage, DAMAGE['none'])(np.stack([source[int(k)]['image'] for k in items[i]]))
    key = json.dumps([source.digest, items.tolist(), damage])
    label = np.asarray(source.codes['label'])[items, None]
    return PictureSet(f'{source.path.name}, {damage}', load, label, key=key)


def accuracies(name: str, train: Path, test: Path, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Accuracies by the features of a network for several numbers of photos; test classes must be in `train`."""
    net, found = open_any(name), []
    sources = [Folder(str(p), (SIZE, SIZE), fit='pad', background='white') for p in (train, test)]
    values = sources[0].attributes['label']
    code = np.asarray([values.index(value) if value in values else -1 for value in sources[1].attributes['label']])
    most = max(counts) if all(counts) else None
    parts = []
    for source in sources:
        items = np.arange(len(source))
        items = items[np.asarray(source.codes['label']) >= 0]
        parts.append(measure(net, _pictures(source, mixed(items)[:most]), BATCH))
    for count in counts:
        a, b = (m.first(count or len(m.label)) for m in parts)
        label = code[b.label[:, 0]]
        row = accuracy(a.features, a.label[:, 0], b.features[label >= 0], label[label >= 0])
        found.append({'features': name, 'width': a.features.shape[1], 'classes': len(values), **row})
    return found


def damage_table(net: FeatureNet, folder: Path, count: int) -> dict[str, dict[str, float]]:
    """By kind of damage the figures of `count` damaged photos, against as many others.

    Both sets are random, except those of `HALF_CLASSES` and `ONE_CLASS`: photos that are not in the reference, of every
    second class, and of the largest one.
    """
    source = Folder(str(folder), (SMALL, SMALL), fit='pad', background='white')
    code = np.asarray(source.codes['label'])
    order = mixed(np.flatnonzero(code >= 0))
    base, rest = order[:count], order[count:]
    chosen = {name: rest[:count] for name in DAMAGE}
    chosen[HALF_CLASSES] = rest[code[rest] % 2 == 0][:count]
    chosen[ONE_CLASS] = rest[code[rest] == np.argmax(np.bincount(code[rest]))][:count]
    for name, items in chosen.items():
        if len(items) < count:
            raise SystemExit(f'--damage={count}: {folder} has only {len(items)} photos for {name!r}')
    reference = Reference(measure(net, _pictures(source, base), BATCH).features)
    sets = {name: measure(net, _pictures(source, items, name), BATCH) for name, items in chosen.items()}
    sets[HALF_REPEATED] = sets['none'].take(np.arange(count) // 2)
    return {name: dict(reference.figures(m.features)) for name, m in sets.items()}


def out_of_order(table: dict[str, dict[str, float]]) -> list[str]:
    """The pairs of `ORDERS` in which the stronger damage does not have the larger distance, a line each."""
    return [
        f'{figure}: {weak} {table[weak][figure]:.4g}, {strong} {table[strong][figure]:.4g}'
        for figure in DISTANCES
        for order in ORDERS
        for weak, strong in zip(order, order[1:], strict=False)
        if table[weak][figure] >= table[strong][figure]
    ]


def print_damage(name: str, table: dict[str, dict[str, float]]) -> None:
    """Prints a table in Markdown: ratios are to no damage, and kernel distances have their standard errors."""
    print(f'\n| {name} | Fréchet (ratio) | kernel | precision | recall | density | coverage |')
    print('|---' * 7 + '|')
    for damage, row in table.items():
        ratio = row['frechet_distance'] / table['none']['frechet_distance']
        kernel = f'{row["kernel_distance"]:.3g} ± {row["kernel_distance_error"]:.1g}'
        rest = ' | '.join(f'{row[figure]:.2f}' for figure in FIGURES[2:])
        print(f'| {damage} | {row["frechet_distance"]:.3g} ({ratio:.2f}) | {kernel} | {rest} |')
    wrong = out_of_order(table)
    print(f'{name}: ' + ('; '.join(wrong) if wrong else 'stronger damage always has the larger distances'), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--features', default='efficientnet,vgg', help='networks, separated by commas')
    parser.add_argument('--train', type=Path, required=True, help='folder of labelled photos')
    parser.add_argument('--test', type=Path, help='folder of labelled photos; without it, no accuracy is measured')
    parser.add_argument('--count', default='0', help='numbers of photos of each folder, separated by commas; 0 for all')
    parser.add_argument('--damage', type=int, default=0, help='photos of each set of the damage test; 0 for none')
    parser.add_argument('--out', type=Path, help='JSON file for the results')
    args = parser.parse_args()
    counts, results = [int(count) for count in args.count.split(',')], {'accuracy': [], 'damage': {}}
    for name in args.features.split(','):
        if args.test:
            for row in accuracies(name, args.train, args.test, counts):
                results['accuracy'].append(row)
                print(
                    f'{name}, {row["width"]} features: accuracy {row["accuracy"]:.3f} ± {row["standard_error"]:.3f}, '
                    f'{row["classes"]} classes, {row["train"]} photos, {row["test"]} tested, '
                    f'penalty {row["penalty"]:g}',
                    flush=True,
                )
        if args.damage:
            results['damage'][name] = damage_table(open_any(name), args.train, args.damage)
            print_damage(name, results['damage'][name])
        if args.out:
            args.out.write_text(json.dumps(results, indent=2) + '\n')


if __name__ == '__main__':
    main()
