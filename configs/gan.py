"""The original GAN: multilayer perceptrons.

Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014.

  configs/gan.py            32 x 32, non-saturating loss: for two CPU cores, about ten minutes
  configs/gan.py:quick      the same, two minutes
  configs/gan.py:minimax    with the minimax loss of the paper's equation 1, which gives the generator little to learn
                            from while the discriminator wins

The paper's discriminator of maxout units with dropout: --config.model.maxout=5 --config.model.dropout=0.5.
Unconditional as published; --config.data.labels=auto joins the labels to both inputs (Mirza and Osindero, "Conditional
Generative Adversarial Nets", 2014). Any loss, penalty and pair of networks can be set, see `productgen/methods/gan.py`.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, minimax."""
    chosen = common.parse_arg(arg, quick=False, minimax=False)
    config = ConfigDict()
    config.seed = 0
    config.data = common.data_section(resolution='32')
    config.data.labels = 'none'
    config.method = common.gan_section(loss='minimax' if chosen.minimax else 'non_saturating')
    config.model = {
        'name': 'mlp',
        'z_dim': 64,
        'generator_width': 512,
        'discriminator_width': 512,
        'layers': 2,
        'embed': 32,
        'maxout': 0,
        'dropout': 0.3,
        'input_dropout': 0.0,
    }
    config.optim = {
        'generator': common.optimizer(learning_rate=2e-4, b1=0.5),
        'discriminator': common.optimizer(learning_rate=2e-4, b1=0.5),
    }
    config.train = common.train_section(batch_size=64, duration='1200kimg', sample_every='50kimg')
    config.sample = common.sample_section()
    config.eval = common.eval_section()
    if chosen.quick:
        common.shorten(config, '200kimg', '50kimg')
    return config
