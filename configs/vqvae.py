"""VQ-VAE with a Transformer prior on product images.

  python launch.py --config=configs/vqvae.py          32 x 32 as 8 x 8 of 256 codes; about ten minutes on two CPU cores
  python launch.py --config=configs/vqvae.py:quick    the same, two minutes, both stages at the same time
  python launch.py --config=configs/vqvae.py:paper    as published for ImageNet, 128 x 128 as 32 x 32 codes, for several
                                                      GPUs

`paper` has the settings of van den Oord et al., "Neural Discrete Representation Learning", NeurIPS 2017, section 4: two
halvings, two residual blocks, 256 hidden units, 512 codes, beta 0.25, decay 0.99, Adam at 2e-4, batch 128, 250,000
steps of the autoencoder; code width 64 and the residual width of 32 are those of the authors' later reference settings.
The paper does not give the settings of its prior; here it is a Transformer, trained for another 250,000 steps.

After 40,000 images of the catalog: Frechet distance 7.2, SWD 159 (docs/families.md). The prior shows category and
background in outline.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, paper."""
    chosen = common.parse_arg(arg, one=True, quick=False, paper=False)
    config = ConfigDict()
    config.method = {'name': 'vqvae'}
    config.optim = {'prior': {'schedule': 'cosine', 'warmup': 0.05, 'clip': 1.0}}
    config.train = {'duration': '140kimg'}
    if chosen.paper:
        published(config)
    elif chosen.quick:
        config.method.prior_start = 0.0
        config.model = {'prior': {'layers': 2}}
        common.shorten(config, '24kimg', '8kimg')
    return config


def published(config: ConfigDict) -> None:
    """The paper's settings for ImageNet."""
    config.data = {'resolution': '128', 'fit': 'crop', 'workers': 8}
    config.method.update(revive=0.0, prior_start=0.5)
    config.model = {
        'width': 256,
        'codes': 512,
        'code_width': 64,
        'prior': {'width': 512, 'layers': 12, 'heads': 8, 'dropout': 0.1},
    }
    config.optim.update(common.networks('encoder', 'decoder', learning_rate=2e-4))
    config.optim.prior.learning_rate = 3e-4
    config.train = {
        'batch_size': 128,
        'duration': '500000steps',
        'log_every': '100steps',
        'sample_every': '5000steps',
        'checkpoint_every': '5000steps',
    }
