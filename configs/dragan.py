"""DRAGAN: a gradient penalty around the real images.

Kodali et al., "On Convergence and Stability of GANs", 2017.

  configs/dragan.py          32 x 32, DCGAN's networks: for two CPU cores, about ten minutes
  configs/dragan.py:quick    the same, two minutes

Lambda 10 as published. The discriminator normalises over layers where the paper's DCGAN normalises over the batch,
which would make an image's gradient depend on the others.
"""

from ml_collections import ConfigDict

from configs import common, dcgan


def get_config(arg=None) -> ConfigDict:
    """See the module; argument: quick."""
    chosen = common.parse_arg(arg, quick=False)
    config = dcgan.small()
    config.method.update(penalty='dragan', penalty_weight='10')
    config.model.norm = 'layer'
    config.train.duration = '125kimg'
    return dcgan.quick(config) if chosen.quick else config
