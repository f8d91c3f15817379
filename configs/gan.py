"""The original GAN: multilayer perceptrons.

Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014.

  python launch.py --config=configs/gan.py            32 x 32, non-saturating loss; about ten minutes on two CPU cores
  python launch.py --config=configs/gan.py:quick      the same, two minutes
  python launch.py --config=configs/gan.py:minimax    with the minimax loss of the paper's equation 1, whose gradient
                                                      for the generator vanishes while the discriminator wins

The paper's discriminator with maxout units and dropout: --config.model.maxout=5 --config.model.dropout=0.5.
Unconditional as published; --config.data.labels=auto gives the labels to both networks (Mirza and Osindero,
"Conditional Generative Adversarial Nets", 2014). Any loss, penalty and pair of networks can be set, see
`productgen/methods/gan.py`.

After 40,000 images of the catalog: Frechet distance 37, SWD 723 (docs/families.md); after 200,000, at some 1,500 images
per second on one core, recognisable silhouettes under grain.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, minimax."""
    chosen = common.parse_arg(arg, quick=False, minimax=False)
    config = ConfigDict()
    config.data = {'labels': 'none'}
    config.method = {'name': 'gan'}
    config.model = {'name': 'mlp'}
    config.optim = common.networks('generator', 'discriminator', learning_rate=2e-4, b1=0.5)
    config.train = {'batch_size': 64, 'duration': '1200kimg', 'sample_every': '50kimg'}
    if chosen.minimax:
        config.method.loss = 'minimax'
    if chosen.quick:
        common.shorten(config, '200kimg', '50kimg')
    return config
