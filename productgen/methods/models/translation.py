"""The networks of methods that translate pictures: their `model` sections."""

from __future__ import annotations

import dataclasses

import flax.linen as nn

from productgen.config import UserError
from productgen.methods.base import Problem
from productgen.methods.models.pair import at_least, fraction, one_of
from productgen.methods.parts.translator import Translator
from productgen.nets.cyclegan import ResNet
from productgen.nets.dcgan import WEIGHTS
from productgen.nets.pix2pix import DEEPEST, PatchGAN, UNet, patches

# Of the authors' code of CUT: Xavier's normal initialisation with a gain of 0.02.
SMALL = nn.initializers.variance_scaling(0.02**2, 'fan_avg', 'normal')


@dataclasses.dataclass(frozen=True)
class TranslationModel:
    """The `model` section.

    Attributes:
      generator: `unet` (pix2pix) or `resnet` (CycleGAN, CUT).
      width: channels of the generator next to the image (64).
      depth: halvings of `unet`; 0 for as many as the shorter side allows, down to 1 pixel, and 8 at most.
      blocks: residual blocks of `resnet`: 9, or 6 for pictures of 128 x 128 and smaller.
      norm: normalisation in all networks: `batch`, `instance` or `none`. Where a forward pass sees one picture only,
        `batch` uses the statistics of each picture in translation too, as published; otherwise running ones.
      dropout: fraction of the activations that the generator drops, also when it translates: in the inner levels of
        `unet` (none with fewer than 6 halvings), in every block of `resnet`.
      antialias: filter before subsampling in all networks but `unet` (CUT).
      init: initial weights, `normal` (standard deviation 0.02) or `small` (that of CUT).
      discriminator_width: channels of the discriminator next to the image (64).
      discriminator_layers: its convolutions of stride 2; 3 judges patches of 70 x 70 pixels, 2 of 34, 1 of 16.
    """

    generator: str = 'resnet'
    width: int = 64
    depth: int = 0
    blocks: int = 9
    norm: str = 'instance'
    dropout: float = 0.0
    antialias: bool = False
    init: str = 'normal'
    discriminator_width: int = 64
    discriminator_layers: int = 3

    def __post_init__(self):
        at_least(self, 1, 'width', 'blocks', 'discriminator_width', 'discriminator_layers')
        at_least(self, 0, 'depth')
        one_of(self, 'generator', 'unet', 'resnet')
        one_of(self, 'norm', 'batch', 'instance', 'none')
        one_of(self, 'init', 'normal', 'small')
        fraction(self, 'dropout')
        if self.depth == 1 or self.depth > DEEPEST:
            raise UserError('model.depth', f'{self.depth} is not from 2 to {DEEPEST}', '0 follows the resolution')

    @property
    def kernel_init(self) -> nn.initializers.Initializer:
        """Initialiser of every kernel."""
        return SMALL if self.init == 'small' else WEIGHTS

    def translator(self, problem: Problem, outputs: int) -> Translator:
        """A generator of pictures with so many channels.

        Raises:
          UserError: a value that cannot be used.
        """
        one = problem.batch_size // problem.accumulate == 1
        norm = 'own' if self.norm == 'batch' and one else self.norm
        options = {'outputs': outputs, 'norm': norm, 'dropout': self.dropout, 'kernel_init': self.kernel_init}
        if self.generator == 'resnet':
            return Translator(ResNet(self.blocks, self.width, antialias=self.antialias, **options), unit=4, least=8)
        short = min(problem.resolution)
        depth = self.depth or min(short.bit_length() - 1, DEEPEST)
        if depth < 2 or short < 1 << depth - 1:
            raise UserError(
                'model.depth',
                f'pictures of {problem.resolution[1]}x{problem.resolution[0]} are too small for {depth} halvings',
                'choose a larger data.resolution, or model.generator=resnet',
            )
        return Translator(UNet(depth, self.width, **options), unit=1 << depth, least=1 << depth)

    def discriminator(self, problem: Problem) -> nn.Module:
        """The discriminator.

        Raises:
          UserError: the pictures are smaller than what it needs.
        """
        layers = self.discriminator_layers
        if not patches(problem.resolution, layers):
            raise UserError(
                'model.discriminator_layers',
                f'pictures of {problem.resolution[1]}x{problem.resolution[0]} are too small for {layers}: both sides '
                f'must be at least {3 << layers}',
                'lower it, or choose a larger data.resolution',
            )
        return PatchGAN(layers, self.discriminator_width, self.norm, self.antialias, self.kernel_init)


@dataclasses.dataclass(frozen=True)
class Pix2PixModel(TranslationModel):
    """The `model` section of pix2pix, see `TranslationModel`; other defaults."""

    generator: str = 'unet'
    norm: str = 'batch'
    dropout: float = 0.5


@dataclasses.dataclass(frozen=True)
class CUTModel(TranslationModel):
    """The `model` section of CUT, see `TranslationModel`, and this; other defaults.

    Attributes:
      features: width of the projected features of a patch (256).
    """

    antialias: bool = True
    init: str = 'small'
    features: int = 256

    def __post_init__(self):
        super().__post_init__()
        at_least(self, 1, 'features')
        one_of(self, 'generator', 'resnet')
