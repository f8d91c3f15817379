"""DCGAN, and the networks of the configs built on it (wgan, wgan_gp, lsgan, dragan, cgan, acgan).

Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks", ICLR
2016.

  python launch.py --config=configs/dcgan.py          32 x 32, small networks; about ten minutes on two CPU cores
  python launch.py --config=configs/dcgan.py:quick    the same, two minutes
  python launch.py --config=configs/dcgan.py:paper    64 x 64 with the published widths, batch and rates, for one GPU

Unconditional as published; `configs/cgan.py` is conditional. z is normal, in the paper uniform.

After 40,000 images of the catalog: Frechet distance 5.1, SWD 72 (docs/families.md). Coloured blobs of the right size
and in the right place.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, paper."""
    chosen = common.parse_arg(arg, one=True, quick=False, paper=False)
    config = unconditional()
    if chosen.paper:
        config.data.resolution = '64'
        config.model.update(z_dim=100, width=128, max_width=1024)
        config.train.update(batch_size=128, duration='25epochs', sample_every='1epochs', checkpoint_every='1epochs')
        for net in config.optim.values():
            net.learning_rate = 2e-4
    if chosen.quick:
        quick(config)
    return config


def small() -> ConfigDict:
    """Networks and rates for ten minutes on two CPU cores."""
    config = ConfigDict()
    config.method = {'name': 'gan'}
    config.model = {'name': 'dcgan'}
    config.optim = common.networks('generator', 'discriminator', learning_rate=5e-4, b1=0.5)
    config.train = {'duration': '350kimg', 'sample_every': '10kimg'}
    return config


def unconditional() -> ConfigDict:
    """`small` without labels."""
    config = small()
    config.data = {'labels': 'none'}
    return config


def quick(config: ConfigDict) -> ConfigDict:
    """Shortens the training to about two minutes."""
    common.shorten(config, '24kimg', '8kimg')
    return config
