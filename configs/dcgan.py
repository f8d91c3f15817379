"""DCGAN, and the networks of the configs built on it (wgan, wgan_gp, lsgan, dragan, cgan, acgan).

Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks", ICLR
2016.

  configs/dcgan.py          32 x 32, small nets: for two CPU cores, about ten minutes
  configs/dcgan.py:quick    the same, two minutes
  configs/dcgan.py:paper    64 x 64, the published widths, batch and rates

Unconditional as published; `configs/cgan.py` is conditional. z is normal where the paper draws it uniform.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, paper."""
    chosen = common.parse_arg(arg, one=True, quick=False, paper=False)
    config = small()
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
    """Nets and rates that show something after ten minutes on two CPU cores."""
    config = ConfigDict()
    config.seed = 0
    config.data = common.data_section(resolution='32')
    config.data.labels = 'none'
    config.method = common.gan_section()
    config.model = {
        'name': 'dcgan',
        'z_dim': 64,
        'width': 32,
        'max_width': 256,
        'generator_condition': 'concat',
        'discriminator_condition': 'projection',
        'embed': 32,
        'norm': 'batch',
        'spectral_norm': False,
        'dropout': 0.0,
    }
    config.optim = {
        'generator': common.optimizer(learning_rate=5e-4, b1=0.5),
        'discriminator': common.optimizer(learning_rate=5e-4, b1=0.5),
    }
    config.train = common.train_section(batch_size=32, duration='350kimg', sample_every='10kimg')
    config.sample = common.sample_section()
    config.eval = common.eval_section()
    return config


def quick(config: ConfigDict) -> ConfigDict:
    """The variant of about two minutes."""
    common.shorten(config, '24kimg', '8kimg')
    return config
