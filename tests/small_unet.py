"""A network in place of the U-Net, for tests of what surrounds it: fewer layers to trace and compile."""

import dataclasses

import flax.linen as nn

from productgen.core.rng import streams
from productgen.nets.layers import dropout
from productgen.nets.unet import embed_time


class SmallUNet(nn.Module):
    """Depends on all that a U-Net is given, and its last convolution starts at zero, too."""

    outputs: int
    dropout: float

    @nn.compact
    def __call__(self, x, time=None, label=None, keys=None, *, train=False):
        embedding = nn.Dense(4, name='time')(embed_time(time, 4))
        if label is not None:
            embedding += nn.Dense(4, use_bias=False, name='label')(label)
        y = nn.silu(nn.Conv(4, (3, 3), name='in')(x) + embedding[:, None, None])
        y = dropout(y, self.dropout, streams(keys, 'out') if train else None)
        return nn.Conv(self.outputs, (3, 3), kernel_init=nn.initializers.zeros, name='out')(y)


def shrunk(method):
    """The method with a `SmallUNet` in its denoiser."""
    unet = method.denoiser.unet
    small = SmallUNet(unet.outputs, unet.dropout)
    return dataclasses.replace(method, denoiser=dataclasses.replace(method.denoiser, unet=small))
