"""WGAN with clipped weights.

Arjovsky et al., "Wasserstein Generative Adversarial Networks", ICML 2017; networks of `configs/dcgan.py`.

  python launch.py --config=configs/wgan.py          32 x 32; about ten minutes on two CPU cores
  python launch.py --config=configs/wgan.py:quick    the same, two minutes

As published: the critic of DCGAN, five critic steps, RMSProp, weights clipped to 0.01. The learning rate is ten times
the paper's 5e-5, for a short training. A batch is divided among the critic steps.

After 40,000 images of the catalog: Frechet distance 8.1, SWD 83 (docs/families.md). Coloured blobs of the right size
and in the right place.
"""

from ml_collections import ConfigDict

from configs import common, dcgan


def get_config(arg=None) -> ConfigDict:
    """See the module; argument: quick."""
    chosen = common.parse_arg(arg, quick=False)
    config = dcgan.unconditional()
    config.method.update(loss='wasserstein', critic_steps=5, clip_weights=0.01)
    for net in config.optim.values():
        net.update(name='rmsprop', learning_rate=5e-4, b2=0.99)
    config.train.update(batch_size=80, duration='500kimg')  # five critic steps of 16
    return dcgan.quick(config) if chosen.quick else config
