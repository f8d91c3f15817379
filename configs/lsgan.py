"""Least squares GAN.

Mao et al., "Least Squares Generative Adversarial Networks", ICCV 2017.

  configs/lsgan.py          32 x 32, DCGAN's networks: for two CPU cores, about ten minutes
  configs/lsgan.py:quick    the same, two minutes
"""

from ml_collections import ConfigDict

from configs import common, dcgan


def get_config(arg=None) -> ConfigDict:
    """See the module; argument: quick."""
    chosen = common.parse_arg(arg, quick=False)
    config = dcgan.small()
    config.method.loss = 'least_squares'
    return dcgan.quick(config) if chosen.quick else config
