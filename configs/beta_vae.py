"""beta-VAE with warm-up of the divergence and free bits.

  python launch.py --config=configs/beta_vae.py           32 x 32, unconditional; about ten minutes on two CPU cores
  python launch.py --config=configs/beta_vae.py:quick     the same, two minutes
  python launch.py --config=configs/beta_vae.py:faces     as published for CelebA, 64 x 64, 32 latents: beta 250,
                                                          Gaussian; for one GPU
  python launch.py --config=configs/beta_vae.py:chairs    as published for 3D chairs, 64 x 64, 16 latents: beta 5,
                                                          Bernoulli; for one GPU

Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework", ICLR 2017. Warm-up
(Bowman et al. 2016; Sonderby et al. 2016) and free bits (Kingma et al. 2016, section C.8) are off in the published
settings, which have Adam at 1e-4 and no normalisation. The paper's networks are four strided convolutions of 32, 32, 64
and 64 channels and a hidden fully connected layer of 256; these have a convolution of 32 at full size, four strided
ones of 64, and no hidden layer. The paper does not say for which range of pixels its Gaussian has unit deviation: here
they are in [-1, 1]. If they were in [0, 1], the same beta would weigh four times as much.

With a fixed scale, beta and scale are one setting; a learned scale grows with beta and adds to its effect. The scale is
fixed here, as published.

After 40,000 images of the catalog: 6.42 bits per dimension on held-out images; Frechet distance 10.8, SWD 176
(docs/families.md). Samples are silhouettes.
"""

from ml_collections import ConfigDict

from configs import common, vae

# Latents, and the settings of the likelihood.
PAPER = {'faces': (32, {'beta': 250.0}), 'chairs': (16, {'beta': 5.0, 'likelihood': 'bernoulli'})}


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, faces, chairs."""
    chosen = common.parse_arg(arg, one=True, quick=False, faces=False, chairs=False)
    config = vae.small()
    config.data = {'labels': 'none'}
    config.method.learn_scale = False
    papers = [name for name in PAPER if chosen[name]]
    if papers:
        published(config, *PAPER[papers[0]])
        return config
    config.method.update(beta=2.0, kl_weight='0->1', free_bits=0.1)
    config.model = {'z_dim': 32}
    if chosen.quick:
        vae.quick(config)
    return config


def published(config: ConfigDict, latents: int, likelihood: dict) -> None:
    """What all published settings share, and the given values."""
    config.data.resolution = '64'
    config.method.update(scale=1.0, **likelihood)
    config.model = {'z_dim': latents, 'channel_max': 64, 'groups': 0}
    config.optim.vae.learning_rate = 1e-4
    del config.optim.vae.schedule  # constant
    config.train.update(batch_size=64, duration='20000kimg', sample_every='500kimg', checkpoint_every='500kimg')
