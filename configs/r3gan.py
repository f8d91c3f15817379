"""R3GAN on product images: a relativistic loss with a gradient penalty on both sides, and plain residual networks.

  configs/r3gan.py             32 x 32, small nets: for two CPU cores, about ten minutes
  configs/r3gan.py:quick       the same, two minutes
  configs/r3gan.py:res=128     small product sets at any resolution on one GPU; also res=96x128
  configs/r3gan.py:ffhq256     as published for FFHQ; also cifar10, ffhq64, imagenet32, imagenet64

The last are the settings of Huang et al., "The GAN is dead; long live the GAN! A Modern Baseline GAN", NeurIPS 2024.
Everything moves along half a cosine over the first 20 million images (ImageNet: 200) and stays; where training ends is
up to the user, here after 25 (250). Two things differ: colour transforms fire as often as the others, not half as
often, and mirror images come from the augmentation alone, not from the data. `res=N` scales the penalty
with the 3.1th power of the resolution, which goes through the published values for FFHQ at 64 and 256.

With --config.model.remat=true activations are computed again for the gradient: less memory, more time.
"""

from ml_collections import ConfigDict

from configs import common

# Data, resolution, batch, widest level, channels a group, gamma, EMA half-life in kimg, augmentation p, bf16 levels.
PAPER = {
    'cifar10': ('tfds:cifar10', 32, 512, 768, 16, 0.05, 5_000, 0.55, 3),
    'ffhq64': ('', 64, 256, 768, 16, 2.0, 500, 0.3, 4),
    'ffhq256': ('', 256, 256, 768, 16, 150.0, 500, 0.3, 4),
    'imagenet32': ('tfds:imagenet_resized/32x32', 32, 4096, 1536, 32, 0.5, 50_000, 0.5, 3),
    'imagenet64': ('tfds:imagenet_resized/64x64', 64, 4096, 1536, 32, 1.0, 50_000, 0.4, 4),
}


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, res=N, cifar10, ffhq64, ffhq256, imagenet32, imagenet64."""
    chosen = common.parse_arg(arg, one=True, quick=False, res='', **dict.fromkeys(PAPER, False))
    config = small()
    for name in PAPER:
        if chosen[name]:
            published(config, name)
    if chosen.res:
        one_gpu(config, chosen.res)
    elif chosen.quick:
        common.shorten(config, '8kimg', '2kimg')
    return config


def small() -> ConfigDict:
    """Nets and rates that show something after ten minutes on two CPU cores."""
    config = ConfigDict()
    config.seed = 0
    config.data = common.data_section(resolution='32')
    config.method = common.gan_section(
        loss='relativistic',
        penalty='r1_r2',
        penalty_weight='1->0.5',
        anneal=0.8,
        ema_kimg='0->2',
        ema_rampup=0.0,
        augment={'name': 'none', 'transforms': '', 'p': '0', 'target': 0.0, 'adjust_kimg': 500.0},
    )
    config.model = {
        'name': 'r3gan',
        'z_dim': 64,
        'channel_base': 512,
        'channel_max': 64,
        'blocks': 1,
        'group': 16,
        'bf16_levels': 0,
        'remat': False,
    }
    config.optim = {name: optimizer(learning_rate=0.001) for name in ('generator', 'discriminator')}
    config.train = common.train_section(batch_size=16, duration='36kimg', sample_every='4kimg')
    config.sample = common.sample_section()
    config.eval = common.eval_section()
    return config


def optimizer(learning_rate: float) -> ConfigDict:
    """Adam without momentum; its rate falls to a quarter while its memory grows."""
    return common.optimizer(learning_rate, b1=0.0, b2=0.9, schedule='cosine', anneal=0.8, end=0.25, end_b2=0.99)


def published(config: ConfigDict, name: str) -> None:
    """The settings of `PAPER`."""
    source, resolution, batch, width, group, gamma, ema, p, bf16_levels = PAPER[name]
    if source:
        config.data.source = source
    else:
        config.data.labels = 'none'
    large(config, str(resolution), batch, width, gamma, ema, p)
    config.model.update(group=group, bf16_levels=bf16_levels)
    config.train.duration = '25000kimg'
    if name.startswith('imagenet'):
        config.model.channel_base = resolution * width  # no level is narrower
        config.train.duration = '250000kimg'


def one_gpu(config: ConfigDict, res: str) -> None:
    """Half the published width and a quarter of the batch, a fifth of the duration and so of the EMA."""
    longer = max(int(side) for side in res.split('x'))
    large(config, res, batch=64, width=384, gamma=round(2 * (longer / 64) ** 3.11, 3), ema=100, p=0.3)
    config.model.bf16_levels = 4
    config.train.duration = '5000kimg'


def large(config: ConfigDict, resolution: str, batch: int, width: int, gamma: float, ema: int, p: float) -> None:
    """What runs on GPUs share: `width` channels up to 32 pixels, then half as many at each doubling."""
    config.data.update(resolution=resolution, workers=8)
    config.method.update(penalty_weight=f'{gamma}->{gamma / 10:g}', ema_kimg=f'0->{ema}')
    config.method.augment.update(name='ada', transforms='bgc,cutout', p=f'0->{p}')
    config.model.update(channel_base=32 * width, channel_max=width, blocks=2)
    config.optim = {name: optimizer(learning_rate=2e-4) for name in config.optim}
    config.train.update(
        batch_size=batch, log_every='4kimg', sample_every='100kimg', checkpoint_every='200kimg', grid_columns=12
    )
