"""AC-GAN: a discriminator that also classifies.

Odena et al., "Conditional Image Synthesis with Auxiliary Classifier GANs", ICML 2017; networks of `configs/dcgan.py`.

  configs/acgan.py          32 x 32, DCGAN's networks: for two CPU cores, about ten minutes
  configs/acgan.py:quick    the same, two minutes
"""

from ml_collections import ConfigDict

from configs import common, dcgan


def get_config(arg=None) -> ConfigDict:
    """See the module; argument: quick."""
    chosen = common.parse_arg(arg, quick=False)
    config = dcgan.small()
    config.data.labels = 'auto'
    config.model.discriminator_condition = 'classes'
    return dcgan.quick(config) if chosen.quick else config
