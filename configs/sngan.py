"""SNGAN with projection discriminator: residual networks, hinge loss, spectral normalisation.

Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018; Miyato and Koyama, "cGANs with
Projection Discriminator", ICLR 2018.

  python launch.py --config=configs/sngan.py            32 x 32, narrow networks; about ten minutes on two CPU cores
  python launch.py --config=configs/sngan.py:quick      the same, two minutes
  python launch.py --config=configs/sngan.py:cifar10    CIFAR-10 at 32 x 32 as published, for one GPU: five
                                                        discriminator steps of 64 images

`cifar10` has the networks and rates of the authors' code for conditional CIFAR-10. Three things differ: the generator's
step there has 128 fake images (here 64), whose labels are drawn uniformly (here those of the real images), and the last
layer of the discriminator has no bias.

Labels choose the gains and biases of the generator's batch normalisation and are projected on the features of the
discriminator; --config.data.labels=none for an unconditional model. The weights of the generator are averaged, which
the papers do not do.

After 40,000 images of the catalog: Frechet distance 1.7, SWD 53 (docs/families.md). Colours are right, shapes are
coarse. FID on CIFAR-10 in StudioGAN's benchmark: 9.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, cifar10."""
    chosen = common.parse_arg(arg, one=True, quick=False, cifar10=False)
    config = ConfigDict()
    config.method = {'name': 'gan', 'loss': 'hinge', 'critic_steps': 2}
    config.model = {'name': 'sngan'}
    config.optim = common.networks('generator', 'discriminator', b1=0.0, b2=0.9)
    if chosen.cifar10:
        published(config)
        return config
    config.optim.generator.learning_rate = 5e-4  # half the discriminator's
    config.train = {'batch_size': 64, 'duration': '110kimg'}
    if chosen.quick:
        config.train.update(duration='20kimg', checkpoint_every='5kimg')
    return config


def published(config: ConfigDict) -> None:
    """The authors' settings for conditional CIFAR-10."""
    config.data = {'source': 'tfds:cifar10'}
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
        net.update(learning_rate=2e-4, schedule='linear')  # to zero over 50,000 generator steps
    config.train = {
        'batch_size': 320,
        'duration': '50000steps',
        'sample_every': '200kimg',
        'checkpoint_every': '400kimg',
    }
