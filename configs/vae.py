"""A variational autoencoder of product images: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014.

  python launch.py --config=configs/vae.py          32 x 32, unconditional; about ten minutes on two CPU cores
  python launch.py --config=configs/vae.py:quick    the same, two minutes
  python launch.py --config=configs/vae.py:map      the latent is a map at a quarter of the size: accurate
                                                    reconstructions, such as latent diffusion needs, but poor samples,
                                                    as the prior does not fit such a map; also map,quick

The paper's networks are fully connected, for digits and small faces; these are convolutional. The scale of the Gaussian
is learned, which weighs reconstruction against the divergence (Rybkin et al., "Simple and Effective VAE Training with
Calibrated Decoders", ICML 2021). Samples of a VAE are blurred: a decoder outputs the mean of the images that a latent
can stand for.

--config.model.remat=true recomputes activations for the gradient: less memory, more time.

After 40,000 images of the catalog: 6.40 bits per dimension on held-out images; Frechet distance 12.9, SWD 226
(docs/families.md). Reconstructions are good, samples are clouds.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, map."""
    chosen = common.parse_arg(arg, quick=False, map=False)
    config = small()
    config.data = {'labels': 'none'}
    if chosen.map:
        config.model = {
            'latent': 'map',
            'z_dim': 4,
            'downsampling': 4,
            'channels': 16,
            'channel_max': 64,
            'blocks': 1,
        }
    if chosen.quick:
        quick(config)
    return config


def small() -> ConfigDict:
    """Networks and rates for ten minutes on two CPU cores."""
    config = ConfigDict()
    config.method = {'name': 'vae'}
    config.optim = {'vae': {'learning_rate': 0.002, 'schedule': 'cosine', 'end': 0.05}}
    config.train = {'duration': '130kimg', 'sample_every': '20kimg'}
    config.sample = {'truncation': 0.8}
    return config


def quick(config: ConfigDict) -> None:
    """Shortens the training to two minutes."""
    config.train.update(duration='20kimg', sample_every='10kimg')
