"""Denoising diffusion (DDPM, with DDIM sampling and classifier-free guidance) on product images.

  configs/ddpm.py            32 x 32, a small U-Net: for two CPU cores, about ten minutes
  configs/ddpm.py:quick      the same, two minutes
  configs/ddpm.py:cifar10    as published for CIFAR-10, 32 x 32

The last is Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020, section 4 and appendix B: 35.7 million
parameters, linear schedule, prediction of the noise, 1000 steps of ancestral sampling, 800,000 updates. Labels are used
where there are any (`data.labels`), and the random horizontal flips of the paper's CIFAR-10 runs are left out, since
products have a left and a right.

The others predict v (Salimans and Ho, ICLR 2022) under a cosine schedule (Nichol and Dhariwal, ICML 2021) and sample
with DDIM (Song et al., ICLR 2021). `sample.guidance` and `sample.denoising_steps` also hold for the previews of a
training. Each step is an evaluation of the net, or two where guidance is not 1.

With --config.model.remat=true activations are computed again for the gradient: less memory, more time.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, cifar10."""
    chosen = common.parse_arg(arg, one=True, quick=False, cifar10=False)
    config = small()
    if chosen.cifar10:
        published(config)
    elif chosen.quick:
        common.shorten(config, '16kimg', '8kimg')
    return config


def small() -> ConfigDict:
    """Net and rates that show something after ten minutes on two CPU cores."""
    config = ConfigDict()
    config.seed = 0
    config.data = common.data_section(resolution='32')
    config.method = {
        'name': 'diffusion',
        'schedule': 'cosine',
        'steps': 1000,
        'prediction': 'v',
        'min_snr': 0.0,
        'label_dropout': 0.1,
        'sampler': 'ddim',
        'eta': 0.0,
        'ema_kimg': 5.0,
        'ema_rampup': 0.05,
    }
    config.model = {
        'patch': 2,
        'channels': 32,
        'multipliers': '1,2',
        'blocks': 1,
        'attention': '1',
        'heads': 1,
        'dropout': 0.0,
        'remat': False,
    }
    config.optim = {'unet': common.optimizer(learning_rate=2e-3, b2=0.99, clip=1.0, schedule='cosine', warmup=0.02)}
    config.train = common.train_section(batch_size=32, duration='90kimg', sample_every='20kimg')
    config.sample = common.sample_section()
    config.eval = common.eval_section()
    config.sample.denoising_steps = 25
    return config


def published(config: ConfigDict) -> None:
    """Sets what Ho et al. used for CIFAR-10; an average's decay of 0.9999 halves in 887 kimg at their batch size."""
    config.data.source = 'tfds:cifar10'
    config.method.update(schedule='linear', prediction='epsilon', sampler='ddpm', ema_kimg=887.0, ema_rampup=0.0)
    config.model.update(patch=1, channels=128, multipliers='1,2,2,2', blocks=2, attention='1', dropout=0.1)
    config.optim.unet = common.optimizer(learning_rate=2e-4, clip=1.0, warmup=5_000 / 800_000)
    config.data.workers = 8
    config.train.update(
        batch_size=128,
        duration='800000steps',
        log_every='6kimg',
        sample_every='1000kimg',
        checkpoint_every='1000kimg',
    )
    config.sample.denoising_steps = 1000
