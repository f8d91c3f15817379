"""beta-VAE with warm-up of the divergence and free bits.

  configs/beta_vae.py           32 x 32, unconditional: for two CPU cores, about ten minutes
  configs/beta_vae.py:quick     the same, two minutes
  configs/beta_vae.py:faces     as published for CelebA, 64 x 64, 32 latents: beta 250, Gaussian
  configs/beta_vae.py:chairs    as published for 3D chairs, 64 x 64, 16 latents: beta 5, Bernoulli

Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework", ICLR 2017. Warm-up
(Bowman et al. 2016; Sonderby et al. 2016) and free bits (Kingma et al. 2016, section C.8) are off in the published
settings, which share Adam at 1e-4 and no normalisation. The paper's nets are four strided convolutions of 32, 32, 64
and 64 channels and a hidden fully connected layer of 256; these have a convolution of 32 at full size, four strided
ones of 64, and no hidden layer. The paper does not say of what pixels its Gaussian has the unit as deviation: here they
are in [-1, 1]. Were they in [0, 1], the same beta would weigh four times as much.

With a fixed scale, beta and scale are one setting; a learned one grows with beta and adds to it. It is fixed here, as
published.
"""

from ml_collections import ConfigDict

from configs import common, vae

# Latents, beta, likelihood.
PAPER = {'faces': (32, 250.0, 'gaussian'), 'chairs': (16, 5.0, 'bernoulli')}


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, faces, chairs."""
    chosen = common.parse_arg(arg, one=True, quick=False, faces=False, chairs=False)
    config = vae.small()
    config.method.update(scale=0.2, learn_scale=False, beta=2.0, kl_weight='0->1', free_bits=0.1)
    config.model.z_dim = 32
    papers = [name for name in PAPER if chosen[name]]
    if papers:
        published(config, *PAPER[papers[0]])
    elif chosen.quick:
        vae.quick(config)
    return config


def published(config: ConfigDict, latents: int, beta: float, likelihood: str) -> None:
    """Sets everything that the published runs share, and the given values."""
    config.data.resolution = '64'
    config.method.update(likelihood=likelihood, scale=1.0, beta=beta, kl_weight='1', free_bits=0.0)
    config.model.update(z_dim=latents, channels=32, channel_max=64, groups=0)
    config.optim.vae.update(learning_rate=1e-4, schedule='constant')
    config.train.update(batch_size=64, duration='20000kimg', sample_every='500kimg', checkpoint_every='500kimg')
