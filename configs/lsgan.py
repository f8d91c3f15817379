"""LSGAN: a GAN with the least-squares loss.

Mao et al., "Least Squares Generative Adversarial Networks", ICCV 2017; networks of `configs/dcgan.py`.

  python launch.py --config=configs/lsgan.py          32 x 32; about ten minutes on two CPU cores
  python launch.py --config=configs/lsgan.py:quick    the same, two minutes

After 40,000 images of the catalog: Frechet distance 6.7, SWD 80 (docs/families.md). Coloured blobs of the right size
and in the right place.
"""

from ml_collections import ConfigDict

from configs import common, dcgan


def get_config(arg=None) -> ConfigDict:
    """See the module; argument: quick."""
    chosen = common.parse_arg(arg, quick=False)
    config = dcgan.unconditional()
    config.method.loss = 'least_squares'
    return dcgan.quick(config) if chosen.quick else config
