"""Latent diffusion: a variational autoencoder makes codes, diffusion learns their distribution.

  configs/latent_diffusion.py            32 x 32, both trained side by side: for two CPU cores, about ten minutes
  configs/latent_diffusion.py:quick      the same, two minutes
  configs/latent_diffusion.py:staged     the autoencoder first, the diffusion on it after half of the training
  configs/latent_diffusion.py:res=256    of the paper's size for one GPU; also res=192x256: multiples of 32

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022. The last has the sizes of the
paper's LDM-4 for CelebA-HQ and its rates, from the supplement (a U-Net of 224 channels, multipliers 1, 2, 3, 4 and
attention at the three coarser levels; codes of 3 channels at a quarter of the side; 1000 steps of a linear schedule;
learning rate 9.6e-5; 410,000 updates with a batch of 48), after the autoencoder's as published. The schedule is DDPM's,
attention has 7 heads at every level, and the autoencoder is a plain one: see `productgen.methods.latent_diffusion`.

An autoencoder that has been trained by `configs/vae.py:map` can be taken with `--config.train.init_from=WORKDIR
--config.train.init_nets=vae --config.method.autoencoder_share=-1`.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, staged, res=N."""
    chosen = common.parse_arg(arg, quick=False, staged=False, res='')
    if chosen.res and (chosen.quick or chosen.staged):
        raise ValueError(f'config argument {arg!r}: res=N stands alone')
    config = small()
    if chosen.staged:
        config.method.autoencoder_share = 0.5
    if chosen.res:
        published(config, chosen.res)
    elif chosen.quick:
        common.shorten(config, '12kimg', '6kimg')
    return config


def small() -> ConfigDict:
    """Nets and rates that show something after ten minutes on two CPU cores."""
    config = ConfigDict()
    config.seed = 0
    config.data = common.data_section(resolution='32')
    config.method = {
        'name': 'latent_diffusion',
        'schedule': 'cosine',
        'steps': 1000,
        'prediction': 'v',
        'min_snr': 0.0,
        'label_dropout': 0.1,
        'sampler': 'ddim',
        'eta': 0.0,
        'ema_kimg': 5.0,
        'ema_rampup': 0.05,
        'autoencoder_share': 0.0,
        'vae': {
            'name': 'vae',
            'likelihood': 'gaussian',
            'scale': 0.3,
            'learn_scale': True,
            'beta': 0.01,  # what a code says must stand out of its own noise, or diffusion has nothing to learn
            'kl_weight': '1',
            'anneal': 0.2,
            'free_bits': 0.0,
            'ema_kimg': 5.0,
            'ema_rampup': 0.05,
        },
    }
    config.model = {
        'unet': {
            'patch': 1,
            'channels': 64,
            'multipliers': '1,2',
            'blocks': 1,
            'attention': '0',
            'heads': 1,
            'dropout': 0.0,
            'remat': False,
        },
        'vae': {
            'latent': 'map',
            'z_dim': 4,
            'downsampling': 4,
            'channels': 16,
            'channel_max': 64,
            'blocks': 1,
            'groups': 8,
            'dropout': 0.0,
            'remat': False,
        },
    }
    config.optim = {
        'unet': common.optimizer(learning_rate=2e-3, b2=0.99, clip=1.0, schedule='cosine', warmup=0.02),
        'vae': common.optimizer(learning_rate=1e-3, schedule='cosine', end=0.05),
    }
    config.train = common.train_section(batch_size=32, duration='72kimg', sample_every='20kimg')
    config.sample = common.sample_section()
    config.eval = common.eval_section()
    config.sample.denoising_steps = 25
    return config


def published(config: ConfigDict, res: str) -> None:
    """Sets sizes and rates of the paper's LDM-4 for CelebA-HQ."""
    config.data.update(resolution=res, workers=8)
    config.method.update(schedule='linear', prediction='epsilon', autoencoder_share=0.3, ema_kimg=333.0, ema_rampup=0.0)
    config.model.unet.update(channels=224, multipliers='1,2,3,4', blocks=2, attention='1,2,3', heads=7)
    config.model.vae.update(z_dim=3, channels=128, channel_max=512, blocks=2, groups=32)
    config.optim.unet = common.optimizer(learning_rate=9.6e-5)
    config.optim.vae = common.optimizer(learning_rate=2e-4)
    config.train.update(
        batch_size=48,
        duration='28100kimg',
        log_every='5kimg',
        sample_every='500kimg',
        checkpoint_every='500kimg',
    )
    config.sample.denoising_steps = 200
