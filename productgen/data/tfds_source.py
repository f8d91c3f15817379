"""TensorFlow Datasets as a source, without TensorFlow: `tfds:NAME`.

NAME is what `tfds.builder` takes (`name`, `name/config`, `name:1.0.0`, `name/config:1.0.0`), optionally with a split
in TFDS's own notation after an `@`: `tfds:beans@validation`, `tfds:beans@train[:80%]`. Without one it is `train`, or
the only split. Data is stored where TFDS stores it: `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`. NAME may also be
the folder of a prepared data set, one that begins with `/`, `~` or `.`: `tfds:/data/beans/0.1.0@test`.

TFDS reads array_record files without TensorFlow and can prepare most data sets in that format; for the others the
error gives the command to run once.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from productgen.config.paths import user_path
from productgen.config.text import first_line
from productgen.data import cache, images
from productgen.data.source import DataError, Item


class TfdsSource:
    """A `Source` over one split of a TFDS image data set.

    The picture is the feature `image`, else the supervised input, else the first feature of image type. ClassLabel
    features are the attributes. If none is called `label`, the supervised target or the only ClassLabel is renamed to
    it. A one-channel image feature called `mask` is the mask, a text feature called `text`, `caption` or `description`
    the text.

    Attributes:
      columns, attributes, codes, keys, digest: see `Source`. The key of a picture is its `group` value, else a hash of
        its content, which stays the same when the data set grows.
    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        *,
        fit: str = 'pad',
        background: str = 'white',
        group: str = '',
        cache_bytes: int = 0,
        data_dir: str | None = None,
    ):
        """Prepares the data set if necessary, which may download it, and reads its labels.

        Args:
          name: see the module's docstring.
          size: (height, width) of the pictures.
          fit: `pad`, `crop`, `stretch` or `native`, see `images.load_image`.
          background: colour behind transparent pixels and of the bars of `pad`.
          group: scalar feature that identifies the product; empty uses `sku` where it exists.
          cache_bytes: fitted pictures stay in memory if all of them fit into this many bytes.
          data_dir: where TFDS stores its data; None is TFDS's default.

        Raises:
          DataError: the data set or split does not exist, is damaged, cannot be prepared or read without TensorFlow,
            has no pictures, or no feature `group`.
        """
        self._load = {'size': size, 'fit': fit}
        images.check_fit(fit)
        images.parse_color(background)
        self._name = f'tfds:{name}'
        builder_name, split = _name_and_split(name)
        builder = _from_folder(builder_name) if _is_folder(name) else _prepared(builder_name, data_dir)
        self._path = builder.data_path
        split = split or _default_split(builder, self._name)
        features = builder.info.features
        image, mask = _image_features(builder, self._name)
        # The feature of each column and its background colour.
        self._features = {'image': (image, background)} | ({'mask': (mask, 'black')} if mask else {})
        self.columns = {'image': (*size, 3)} | ({'mask': (*size, 1)} if mask else {})
        self._text = _text_feature(features)
        labels = _label_features(builder)
        group = _group_feature(features, group, self._name)

        self._records = _open(builder, split, self._name)
        values = self._read_values(builder, split, [*labels.values(), *([group] if group else [])])
        self.attributes = {label: tuple(features[feature].names) for label, feature in labels.items()}
        self.codes = {label: np.array(values[feature], np.int32) for label, feature in labels.items()}
        self.keys = tuple(map(str, values[group] if group else values['@content']))
        content = [self._load, background, values['@digest'], list(self.attributes.items())]
        self.digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()
        self._native = fit == 'native'
        whole = cache.PictureCache(cache_bytes)
        self._pixels = whole if self._native else cache.PixelCache(len(self.keys), self.columns, cache_bytes)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Item:
        """`image` uint8 [H, W, 3] and, where the data set has one, `mask` uint8 [H, W, 1]; decoded when looked up.

        A look-up raises DataError where the picture cannot be decoded.
        """
        return self.drawn(index, None)

    def drawn(self, index: int, draw: int | None) -> Item:
        """The same; where pictures keep their resolution, the crops that a number decides."""
        return Item({column: functools.partial(self._read, index, column, draw) for column in self.columns})

    def _read(self, index: int, column: str, draw: int | None) -> np.ndarray:
        try:
            image = self._pixels.get(column, index, lambda: self._decode(index, column))
            return images.cut(image, self._load['size'], draw) if self._native else image
        except images.BadImage as error:
            reason = f'the {column} of item {index} of {self._name} cannot be used: {error}'
            raise DataError('data.source', reason, 'prepare the data set again') from error

    def text(self, index: int) -> str:
        """The text feature of the item, or ''."""
        return _plain(self._record(index)[self._text]) if self._text else ''

    def _record(self, index: int) -> dict[str, Any]:
        """The features of an item.

        Raises:
          DataError: a file is damaged.
        """
        try:
            return self._records[index]
        except Exception as error:  # readers raise whatever they like
            reason = f'record {index} of {self._name} cannot be read: {first_line(error)}'
            raise DataError('data.source', reason, f'copy or prepare {self._path} again') from error

    def _decode(self, index: int, column: str) -> np.ndarray:
        feature, background = self._features[column]
        picture = images.load_image(self._record(index)[feature], background=background, **self._load)
        return picture[..., : self.columns[column][-1]]  # a mask is decoded as RGB like every picture

    def _read_values(self, builder: Any, split: str, features: list[str]) -> dict[str, Any]:
        """Values of the features of all items, `@content` hashes of the pictures, and the `@digest` of everything.

        This takes a pass over the records (without decoding a picture), so the result is cached on disk until a file of
        the data set changes.
        """
        files = sorted(path for path in Path(builder.data_path).iterdir() if path.is_file())
        stamp = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
        key = f'{builder.data_path}@{split}'
        known = cache.read('tfds', key) or {}
        if known.get('stamp') == stamp and set(features) <= set(known['columns']):
            return known['columns']
        values: dict[str, Any] = {feature: [] for feature in (*features, '@content')}
        digest = hashlib.blake2b(digest_size=16)
        every = 0.1 if sys.stderr.isatty() else 20  # in a log file a line every 20 seconds
        for index in tqdm(range(len(self._records)), f'Reading {self._name}', delay=2, mininterval=every):
            record = self._record(index)
            for feature in features:
                values[feature].append(_plain(record[feature]))
            values['@content'].append(hashlib.blake2b(record[self._features['image'][0]], digest_size=16).hexdigest())
            for feature, value in sorted(record.items()):
                digest.update(f'{feature}:'.encode() + (value if isinstance(value, bytes) else repr(value).encode()))
        values['@digest'] = digest.hexdigest()
        cache.write('tfds', key, {'stamp': stamp, 'columns': values})
        return values


def _is_folder(name: str) -> bool:
    return name.startswith(('/', '~', '.'))


def _name_and_split(name: str) -> tuple[str, str]:
    """`NAME@SPLIT` as both; the split may be empty. A folder may have an `@` in its name."""
    if _is_folder(name) and user_path(name, 'data.source').is_dir():
        return name, ''
    first, _, split = name.rpartition('@') if _is_folder(name) and '@' in name else name.partition('@')
    return first, split


def _from_folder(name: str) -> Any:
    """The builder of a data set that has been prepared in a folder."""
    import tensorflow_datasets as tfds

    path = user_path(name, 'data.source')
    if not (path / 'dataset_info.json').is_file():
        below = sorted(found.parent for n in (1, 2) for found in path.glob('*/' * n + 'dataset_info.json'))
        hint = 'give the folder of its version, which has dataset_info.json in it, such as /data/NAME/1.0.0'
        if below:
            hint = f'did you mean tfds:{below[-1]}?'
        what = 'is no data set that TFDS has prepared' if path.is_dir() else 'is no folder'
        raise DataError('data.source', f'{path} {what}', hint)
    try:
        return tfds.builder_from_directory(str(path))
    except Exception as error:  # whatever is wrong with the files
        reason = f'{path} cannot be opened: {first_line(error)}'
        raise DataError('data.source', reason, 'copy or prepare the data set again') from error


def _prepared(name: str, data_dir: str | None) -> Any:
    """The builder of a data set; prepares it as array_record unless it is on disk."""
    import tensorflow_datasets as tfds

    if name.split('/')[0].split(':')[0] == 'product_catalog':
        importlib.import_module('productgen.data.catalog.builder')  # importing it registers it with TFDS
    try:
        # A copy on disk is read in its own format; naming another one would be an error.
        builder = tfds.builder(name, data_dir=data_dir)
        if builder.is_prepared():
            return builder
        builder = tfds.builder(name, data_dir=data_dir, file_format='array_record')
    except tfds.core.registered.DatasetNotFoundError as error:
        names = tfds.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(name.split('/')[0].split(':')[0], names)
        hint = f'did you mean {" or ".join(close)}?' if close else 'see https://www.tensorflow.org/datasets/catalog'
        raise DataError('data.source', f'TFDS has no data set {name!r}', hint) from error
    except Exception as error:  # an unknown config or version, a missing package, damaged files
        raise DataError('data.source', f'tfds:{name} cannot be opened: {error}') from error
    try:
        builder.download_and_prepare()
    except Exception as error:  # anything from the network to the code of the data set
        location = f', data_dir={data_dir!r}' if data_dir else ''
        command = f"tfds.builder('{name}', file_format='array_record'{location}).download_and_prepare()"
        remedy = ''
        if "No module named 'tensorflow'" in str(error):
            remedy = (
                'its preparation needs TensorFlow, once. In any environment:\n  pip install tensorflow '
                f'tensorflow-datasets array_record\n  python -c "import tensorflow_datasets as tfds; {command}"'
            )
        raise DataError('data.source', f'tfds:{name} cannot be prepared: {error}', remedy) from error
    return builder


def _open(builder: Any, split: str, name: str) -> Any:
    """Random access to the records; images stay encoded, so that reading a label or a text is cheap."""
    import tensorflow_datasets as tfds

    skip = {
        feature: tfds.decode.SkipDecoding()
        for feature, kind in builder.info.features.items()
        if isinstance(kind, tfds.features.Image)
    }
    try:
        records = builder.as_data_source(split, decoders=skip)
    except NotImplementedError as error:
        raise DataError(
            'data.source',
            f'{name} is on disk as {builder.info.file_format.value}, which cannot be read without TensorFlow',
            f'move {builder.data_path} away (or set TFDS_DATA_DIR to another folder) and start again to prepare it as '
            'array_record, or convert it once:\n  pip install tensorflow\n  python -m '
            'tensorflow_datasets.scripts.convert_format --out_file_format=array_record '
            f'--dataset_version_dir={builder.data_path}',
        ) from error
    except ValueError as error:
        raise DataError('data.source', f'{name} has no split {split!r}', f'there are {_splits(builder)}') from error
    if not len(records):
        raise DataError('data.source', f'the split {split!r} of {name} is empty', f'there are {_splits(builder)}')
    return records


def _default_split(builder: Any, name: str) -> str:
    splits = list(builder.info.splits)
    if 'train' in splits or len(splits) == 1:
        return 'train' if 'train' in splits else splits[0]
    raise DataError('data.source', f'{name} has no split `train`', f'choose from {_splits(builder)} with {name}@SPLIT')


def _splits(builder: Any) -> str:
    return ', '.join(builder.info.splits) or 'none'


def _supervised(builder: Any) -> tuple[Any, Any]:
    keys = builder.info.supervised_keys
    return (keys[0], keys[1]) if keys else (None, None)


def _in_order(builder: Any) -> list[tuple[str, Any]]:
    """Names and types of the features, always in the same order: the code's; sorted where there are files only."""
    import tensorflow_datasets as tfds

    found = list(builder.info.features.items())
    files_only = isinstance(builder, tfds.core.read_only_builder.ReadOnlyBuilder)
    return sorted(found, key=lambda item: item[0]) if files_only else found


def _image_features(builder: Any, name: str) -> tuple[str, str | None]:
    """The features that are the picture and its mask, None where there is no mask."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    found = [
        feature
        for feature, kind in _in_order(builder)
        if isinstance(kind, tfds.features.Image)
        and not isinstance(kind, tfds.features.LabeledImage)
        and kind.np_dtype in (np.uint8, np.uint16)  # float images are stored as bit patterns
    ]
    mask = 'mask' if 'mask' in found and features['mask'].shape[-1] == 1 else None
    found = [feature for feature in found if feature != mask]
    if not found:
        raise DataError('data.source', f'{name} holds no pictures', f'its features are {", ".join(features)}')
    for preferred in ('image', _supervised(builder)[0]):
        if preferred in found:
            return preferred, mask
    return found[0], mask


def _label_features(builder: Any) -> dict[str, str]:
    """{attribute: feature} of all ClassLabels with a known number of values."""
    import tensorflow_datasets as tfds

    found = [
        feature
        for feature, kind in _in_order(builder)
        if isinstance(kind, tfds.features.ClassLabel) and kind.num_classes is not None
    ]
    target = _supervised(builder)[1]
    label = 'label' if 'label' in found else target if target in found else found[0] if len(found) == 1 else None
    return {'label' if feature == label else feature: feature for feature in found}


def _text_feature(features: Any) -> str | None:
    import tensorflow_datasets as tfds

    found = [feature for feature, kind in features.items() if isinstance(kind, tfds.features.Text)]
    for usual in ('text', 'caption', 'description'):
        if usual in found:
            return usual
    return None


def _group_feature(features: Any, group: str, name: str) -> str | None:
    import tensorflow_datasets as tfds

    scalars = [
        feature
        for feature, kind in features.items()
        if isinstance(kind, tfds.features.Tensor | tfds.features.Text | tfds.features.ClassLabel) and kind.shape == ()
    ]
    if group and group not in scalars:
        raise DataError('data.group', f'{name} has no feature {group!r}', f'it has {", ".join(scalars) or "none"}')
    return group or ('sku' if 'sku' in scalars else None)


def _plain(value: Any) -> str | int | float:
    """A scalar as a Python type that JSON knows; TFDS returns text as bytes."""
    if isinstance(value, bytes):
        return value.decode('utf-8', 'replace')
    return value.item() if isinstance(value, np.generic | np.ndarray) else value
