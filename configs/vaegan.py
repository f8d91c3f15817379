"""VAE-GAN: an autoencoder that compares pictures by what a discriminator sees.

  configs/vaegan.py           32 x 32: for two CPU cores, about ten minutes
  configs/vaegan.py:quick     the same, two minutes
  configs/vaegan.py:paper     Larsen et al.'s settings for CelebA, 64 x 64

Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", ICML 2016. The published settings are
batches of 64, RMSProp at 3e-4 and a latent of 128; gamma is that of the authors' code. There are three halvings, to
8 x 8, with the published encoder's 64, 128 and 256 channels, in the discriminator too; the nets differ by group
normalisation, 4x4 convolutions, one more at full size and narrower fully connected layers.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, paper."""
    chosen = common.parse_arg(arg, one=True, quick=False, paper=False)
    config = small()
    if chosen.paper:
        config.data.resolution = '64'
        config.method.update(gamma=1e-6, similarity=3, ema_rampup=0.0)
        config.model.update(z_dim=128, downsampling=8, channels=32, channel_max=256)
        for net in config.optim.values():
            net.update(name='rmsprop', learning_rate=3e-4, b2=0.9)
        config.train.update(batch_size=64, duration='5000kimg', sample_every='100kimg', checkpoint_every='100kimg')
    elif chosen.quick:
        common.shorten(config, '10kimg', '5kimg')
    return config


def small() -> ConfigDict:
    """Nets and rates that show something after ten minutes on two CPU cores."""
    config = ConfigDict()
    config.seed = 0
    config.data = common.data_section(resolution='32')
    config.method = {'name': 'vaegan', 'gamma': 0.0005, 'similarity': 2, 'ema_kimg': 5.0, 'ema_rampup': 0.05}
    config.model = {
        'latent': 'vector',
        'z_dim': 64,
        'downsampling': 0,
        'channels': 24,
        'channel_max': 96,
        'blocks': 0,
        'groups': 8,
        'dropout': 0.0,
        'remat': False,
    }
    adam = dict(learning_rate=0.0005, b1=0.0, b2=0.99)
    config.optim = {name: common.optimizer(**adam) for name in ('encoder', 'decoder', 'discriminator')}
    config.train = common.train_section(batch_size=16, duration='50kimg', sample_every='10kimg')
    config.sample = common.sample_section(truncation=0.8)
    config.eval = common.eval_section()
    return config
