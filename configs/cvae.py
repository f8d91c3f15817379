"""A conditional variational autoencoder: the label is given, the latent is what it leaves open.

  configs/cvae.py           32 x 32: for two CPU cores, about ten minutes
  configs/cvae.py:quick     the same, two minutes

Sohn et al., "Learning Structured Output Representation using Deep Conditional Generative Models", NeurIPS 2015. Encoder
and decoder see every label of the data; `--config.sample.labels` says what to make.
"""

from ml_collections import ConfigDict

from configs import common, vae


def get_config(arg=None) -> ConfigDict:
    """See the module; argument: quick."""
    chosen = common.parse_arg(arg, quick=False)
    config = vae.small()
    config.data.labels = 'auto'
    if chosen.quick:
        vae.quick(config)
    return config
