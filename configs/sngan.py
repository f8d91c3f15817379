"""SNGAN with projection discriminator: residual networks, hinge loss, spectral normalisation.

Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018; Miyato and Koyama, "cGANs with
Projection Discriminator", ICLR 2018.

  configs/sngan.py            32 x 32, narrow nets: for two CPU cores, about ten minutes
  configs/sngan.py:quick      the same, two minutes
  configs/sngan.py:cifar10    as published for CIFAR-10, 32 x 32: five discriminator steps of 64 images

The last has the networks and rates of the authors' code for conditional CIFAR-10. Three things differ: the generator's
step there has 128 fake images (here 64), whose labels are drawn evenly (here those of the real images), and the last
layer of the discriminator has no bias.

Labels choose the gains and biases of the generator's batch normalisation and are projected on the discriminator's
features; --config.data.labels=none is unconditional. The generator is averaged, which the papers do not do.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, cifar10."""
    chosen = common.parse_arg(arg, one=True, quick=False, cifar10=False)
    config = ConfigDict()
    config.seed = 0
    config.data = common.data_section(resolution='32')
    config.method = common.gan_section(loss='hinge', critic_steps=2)
    config.model = {
        'name': 'sngan',
        'z_dim': 64,
        'generator_width': 32,
        'generator_max': 64,
        'discriminator_width': 32,
        'discriminator_max': 64,
        'down_blocks': 3,
        'flat_blocks': 0,
        'discriminator_condition': 'projection',
        'spectral_norm': True,
    }
    config.optim = {
        'generator': common.optimizer(learning_rate=5e-4, b1=0.0, b2=0.9),
        'discriminator': common.optimizer(learning_rate=1e-3, b1=0.0, b2=0.9),
    }
    config.train = common.train_section(batch_size=64, duration='110kimg')
    config.sample = common.sample_section()
    config.eval = common.eval_section()
    if chosen.cifar10:
        config.data.source = 'tfds:cifar10'
        config.method.critic_steps = 5
        config.model.update(
            z_dim=128,
            generator_width=256,
            generator_max=256,
            discriminator_width=128,
            discriminator_max=128,
            down_blocks=2,
            flat_blocks=2,
        )
        for net in config.optim.values():
            # The rate falls to zero over 50,000 generator steps.
            net.update(learning_rate=2e-4, schedule='linear')
        config.train.update(batch_size=320, duration='50000steps', sample_every='200kimg', checkpoint_every='400kimg')
    if chosen.quick:
        common.shorten(config, '20kimg', '5kimg')
    return config
