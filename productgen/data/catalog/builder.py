"""The catalogue as a TensorFlow Datasets builder; prepares and reads without TensorFlow.

builder = ProductCatalog(config='64', data_dir='~/tensorflow_datasets', file_format='array_record')
builder.download_and_prepare()
pictures = builder.as_data_source('train')
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import tensorflow_datasets as tfds
from PIL import Image

from productgen.data.catalog import Catalog
from productgen.data.catalog.items import ATTRIBUTES, VIEWS_PER_SKU


@dataclasses.dataclass(kw_only=True)
class CatalogConfig(tfds.core.BuilderConfig):
    """One size of the catalogue.

    Attributes:
      resolution: edge length of the square pictures, in pixels.
      items: number of pictures in both splits together.
      seed: another seed is another catalogue.
    """

    resolution: int = 64
    items: int = 16_384
    seed: int = 0


class ProductCatalog(tfds.core.GeneratorBasedBuilder):
    """Procedural product photos with masks, attributes and captions; every tenth product is kept for validation."""

    name = 'product_catalog'
    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS = [
        CatalogConfig(name=str(size), resolution=size, description=f'{size} x {size} pixels')
        for size in (32, 64, 128, 256)
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.resolution
        features = {
            'image': tfds.features.Image(shape=(size, size, 3), encoding_format='png'),
            'mask': tfds.features.Image(shape=(size, size, 1), encoding_format='png'),
            'caption': tfds.features.Text(),
            'sku': tfds.features.Text(),
            **{name: tfds.features.ClassLabel(names=list(values)) for name, values in ATTRIBUTES.items()},
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=('image', 'label'),
        )

    def _split_generators(self, dl_manager) -> dict:
        del dl_manager  # nothing to download
        return {'train': self._generate_examples(False), 'validation': self._generate_examples(True)}

    def _generate_examples(self, validation: bool) -> Iterator[tuple[int, dict]]:
        config = self.builder_config
        catalog = Catalog((config.resolution, config.resolution), config.items, config.seed)
        for index in range(len(catalog)):
            if (index // VIEWS_PER_SKU % 10 == 9) != validation:
                continue
            picture = catalog[index]
            yield (
                index,
                {
                    'image': Image.fromarray(picture['image']),
                    'mask': Image.fromarray(picture['mask'][..., 0]),
                    'caption': catalog.text(index),
                    'sku': catalog.keys[index],
                    **{name: int(codes[index]) for name, codes in catalog.codes.items()},
                },
            )
