"""Conditional GAN: labels joined to the inputs of DCGAN.

Mirza and Osindero, "Conditional Generative Adversarial Nets", 2014; networks of `configs/dcgan.py`.

  configs/cgan.py          32 x 32, DCGAN's networks: for two CPU cores, about ten minutes
  configs/cgan.py:quick    the same, two minutes

The label's embedding is joined to z, and to the image as constant channels.
"""

from ml_collections import ConfigDict

from configs import common, dcgan


def get_config(arg=None) -> ConfigDict:
    """See the module; argument: quick."""
    chosen = common.parse_arg(arg, quick=False)
    config = dcgan.small()
    config.data.labels = 'auto'
    config.model.discriminator_condition = 'concat'
    config.train.duration = '190kimg'
    return dcgan.quick(config) if chosen.quick else config
