"""A variational autoencoder of product images: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014.

  configs/vae.py            32 x 32, unconditional: for two CPU cores, about ten minutes
  configs/vae.py:quick      the same, two minutes
  configs/vae.py:map        the latent is a map at a quarter of the size: for faithful reconstructions (what latent
                            diffusion is made on), not for samples, whose prior it does not fit

The paper's networks are fully connected, on digits and small faces; these are convolutional. The Gaussian's scale is
learned, as in Rybkin et al., "Simple and Effective VAE Training with Calibrated Decoders", ICML 2021, which settles by
itself how much a latent is worth. Samples of a VAE are blurred: the mean of all that a latent may mean is shown.

With --config.model.remat=true activations are computed again for the gradient: less memory, more time.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, map."""
    chosen = common.parse_arg(arg, quick=False, map=False)
    config = small()
    if chosen.map:
        config.model.update(latent='map', z_dim=4, downsampling=4, channels=16, channel_max=64, blocks=1)
    if chosen.quick:
        quick(config)
    return config


def quick(config: ConfigDict) -> None:
    """Shortens the training to two minutes."""
    common.shorten(config, '20kimg', '10kimg')


def small() -> ConfigDict:
    """Nets and rates that show something after ten minutes on two CPU cores."""
    config = ConfigDict()
    config.seed = 0
    config.data = common.data_section(resolution='32')
    config.data.labels = 'none'
    config.method = {
        'name': 'vae',
        'likelihood': 'gaussian',
        'scale': 0.2,
        'learn_scale': True,
        'beta': 1.0,
        'kl_weight': '1',
        'anneal': 0.2,
        'free_bits': 0.0,
        'ema_kimg': 5.0,
        'ema_rampup': 0.05,
    }
    config.model = {
        'latent': 'vector',
        'z_dim': 64,
        'downsampling': 0,
        'channels': 32,
        'channel_max': 128,
        'blocks': 0,
        'groups': 8,
        'dropout': 0.0,
        'remat': False,
    }
    config.optim = {'vae': common.optimizer(learning_rate=0.002, schedule='cosine', end=0.05)}
    config.train = common.train_section(batch_size=32, duration='130kimg', sample_every='20kimg')
    config.sample = common.sample_section(truncation=0.8)
    config.eval = common.eval_section()
    return config
