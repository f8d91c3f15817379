"""AC-GAN: a GAN whose discriminator also classifies.

Odena et al., "Conditional Image Synthesis with Auxiliary Classifier GANs", ICML 2017; networks of `configs/dcgan.py`.

  python launch.py --config=configs/acgan.py          32 x 32; about ten minutes on two CPU cores
  python launch.py --config=configs/acgan.py:quick    the same, two minutes

After 40,000 images of the catalog: Frechet distance 3.1, SWD 46 (docs/families.md). Colours follow the labels, shapes
are coarse.
"""

from ml_collections import ConfigDict

from configs import common, dcgan


def get_config(arg=None) -> ConfigDict:
    """See the module; argument: quick."""
    chosen = common.parse_arg(arg, quick=False)
    config = dcgan.small()
    config.model.discriminator_condition = 'classes'
    return dcgan.quick(config) if chosen.quick else config
