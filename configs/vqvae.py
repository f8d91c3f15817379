"""VQ-VAE with a Transformer prior on product images.

  configs/vqvae.py            32 x 32 in 8 x 8 of 256 codes: for two CPU cores, about ten minutes
  configs/vqvae.py:quick      the same, two minutes, both stages side by side
  configs/vqvae.py:paper      as published for ImageNet 128 x 128 in 32 x 32 codes, for accelerators

The last has the settings of van den Oord et al., "Neural Discrete Representation Learning", NeurIPS 2017, section 4:
two halvings, two residual blocks, 256 hidden units, 512 codes, beta 0.25, decay 0.99, Adam at 2e-4, batch 128, 250,000
steps of the autoencoder; code width 64 and the residual width of 32 are those of the authors' later reference settings.
The paper does not give its prior's settings; here it is a Transformer with as many steps again.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, paper."""
    chosen = common.parse_arg(arg, one=True, quick=False, paper=False)
    config = small()
    if chosen.paper:
        published(config)
    elif chosen.quick:
        config.method.prior_start = 0.0
        config.model.prior.layers = 2
        config.train.duration = '24kimg'
        config.train.sample_every = '8kimg'
        config.train.checkpoint_every = '8kimg'
    return config


def small() -> ConfigDict:
    """Nets and rates that show something after ten minutes on two CPU cores."""
    config = ConfigDict()
    config.seed = 0
    config.data = common.data_section(resolution='32')
    config.method = {
        'name': 'vqvae',
        'reconstruction': {'mse': 4.0, 'l1': 0.0, 'charbonnier': 0.0, 'ssim': 0.0, 'laplacian': 0.0},
        'commitment': 0.25,
        'decay': 0.99,
        'revive': 0.1,
        'prior_start': 0.35,
        'ema_kimg': 2.0,
        'ema_rampup': 0.05,
    }
    config.model = {
        'levels': 2,
        'width': 64,
        'blocks': 2,
        'residual_width': 32,
        'codes': 256,
        'code_width': 32,
        'prior': {'width': 128, 'layers': 3, 'heads': 4, 'dropout': 0.0},
    }
    config.optim = {
        'encoder': common.optimizer(learning_rate=1e-3),
        'decoder': common.optimizer(learning_rate=1e-3),
        'prior': common.optimizer(learning_rate=1e-3, schedule='cosine', warmup=0.05, clip=1.0),
    }
    config.train = common.train_section(batch_size=32, duration='140kimg')
    config.sample = common.sample_section()
    config.eval = common.eval_section()
    return config


def published(config: ConfigDict) -> None:
    """The paper's settings for ImageNet."""
    config.data.update(resolution='128', fit='crop', workers=8)
    config.method.update(revive=0.0, prior_start=0.5)
    config.model.update(width=256, codes=512, code_width=64)
    config.model.prior.update(width=512, layers=12, heads=8, dropout=0.1)
    for name in ('encoder', 'decoder'):
        config.optim[name].learning_rate = 2e-4
    config.optim.prior.learning_rate = 3e-4
    config.train.update(
        batch_size=128,
        duration='500000steps',
        log_every='100steps',
        sample_every='5000steps',
        checkpoint_every='5000steps',
    )
