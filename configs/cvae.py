"""A conditional variational autoencoder: the label is given, and the latent holds what the label does not say.

  python launch.py --config=configs/cvae.py          32 x 32; about ten minutes on two CPU cores
  python launch.py --config=configs/cvae.py:quick    the same, two minutes

Sohn et al., "Learning Structured Output Representation using Deep Conditional Generative Models", NeurIPS 2015. Encoder
and decoder are given all labels of the data; `--config.sample.labels` chooses what to generate.

After 40,000 images of the catalog: 6.45 bits per dimension on held-out images; Frechet distance 8.0, SWD 324
(docs/families.md). Colours follow the labels, samples are clouds.
"""

from ml_collections import ConfigDict

from configs import common, vae


def get_config(arg=None) -> ConfigDict:
    """See the module; argument: quick."""
    chosen = common.parse_arg(arg, quick=False)
    config = vae.small()
    if chosen.quick:
        vae.quick(config)
    return config
