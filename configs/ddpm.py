"""Denoising diffusion (DDPM, with DDIM sampling and classifier-free guidance) on product images.

  python launch.py --config=configs/ddpm.py            32 x 32, a small U-Net; about ten minutes on two CPU cores
  python launch.py --config=configs/ddpm.py:quick      the same, two minutes
  python launch.py --config=configs/ddpm.py:cifar10    as published for CIFAR-10, 32 x 32, for several GPUs

`cifar10` is Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020, section 4 and appendix B: 35.7 million
parameters, linear schedule, prediction of the noise, 1000 steps of ancestral sampling, 800,000 updates. Two things
differ: labels are used if the data has any (`data.labels`), and images are not flipped, since products have a left and
a right side.

The others predict v (Salimans and Ho, ICLR 2022) under a cosine schedule (Nichol and Dhariwal, ICML 2021) and sample
with DDIM (Song et al., ICLR 2021). `sample.guidance` and `sample.denoising_steps` also apply to the sample grids of a
training. A step evaluates the network once, or twice if guidance is not 1.

--config.model.remat=true recomputes activations for the gradient: less memory, more time.

After 40,000 images of the catalog: Frechet distance 6.0, SWD 95 (docs/families.md), right colours under noise. After
the default's 90,000, shapes of each category with broken edges.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, cifar10."""
    chosen = common.parse_arg(arg, one=True, quick=False, cifar10=False)
    config = ConfigDict()
    config.method = {'name': 'diffusion'}
    config.optim = {'unet': small_optimizer()}
    config.train = {'duration': '90kimg', 'sample_every': '20kimg'}
    config.sample = {'denoising_steps': 25}
    if chosen.cifar10:
        published(config)
    elif chosen.quick:
        common.shorten(config, '16kimg', '8kimg')
    return config


def small_optimizer() -> dict:
    """The U-Net's optimiser for ten minutes on two CPU cores."""
    return {'learning_rate': 2e-3, 'b2': 0.99, 'clip': 1.0, 'schedule': 'cosine', 'warmup': 0.02}


def published(config: ConfigDict) -> None:
    """Ho et al.'s settings for CIFAR-10. The decay of 0.9999 of their average is a half-life of 887 kimg."""
    config.data = {'source': 'tfds:cifar10', 'workers': 8}
    config.method.update(schedule='linear', prediction='epsilon', sampler='ddpm', ema_kimg=887.0, ema_rampup=0.0)
    # Attention at the second level, 16 x 16, as by default.
    config.model = {'patch': 1, 'channels': 128, 'multipliers': '1,2,2,2', 'blocks': 2, 'dropout': 0.1}
    config.optim = {'unet': {'learning_rate': 2e-4, 'clip': 1.0, 'warmup': 5_000 / 800_000}}
    config.train = {
        'batch_size': 128,
        'duration': '800000steps',
        'log_every': '6kimg',
        'sample_every': '1000kimg',
        'checkpoint_every': '1000kimg',
    }
    config.sample.denoising_steps = 1000
