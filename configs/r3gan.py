"""R3GAN on product images: a relativistic loss with a gradient penalty on both sides, and plain residual networks.

  python launch.py --config=configs/r3gan.py             32 x 32, small networks; about ten minutes on two CPU cores
  python launch.py --config=configs/r3gan.py:quick       the same, two minutes
  python launch.py --config=configs/r3gan.py:res=128     small product sets at any resolution, for one GPU; also
                                                         res=96x128
  python launch.py --config=configs/r3gan.py:ffhq256     as published for FFHQ, for several GPUs; also cifar10, ffhq64,
                                                         imagenet32, imagenet64

The published variants are the settings of Huang et al., "The GAN is dead; long live the GAN! A Modern Baseline GAN",
NeurIPS 2024. Penalty, learning rate, betas, EMA and augmentation follow half a cosine over the first 20 million images
(ImageNet: 200 million) and stay at its end; the paper leaves the length of the training to the user, here 25 million
(250 million). Two things differ: colour transforms are as likely as the others, not half as likely, and mirror images
come from the augmentation only, not from the data. `res=N` scales the penalty with the 3.11th power of the resolution,
which agrees with the published values for FFHQ at 64 and 256.

--config.model.remat=true recomputes activations for the gradient: less memory, more time.

After 40,000 images of the catalog: Frechet distance 2.1, SWD 47 (docs/families.md), at a third of StyleGAN2's speed.
One object with an outline on a plain background, in the colour of its label. FID on CIFAR-10 in the paper: 2.0.
"""

from ml_collections import ConfigDict

from configs import common

# The `data` and `model` settings in which they differ, then batch, widest level, gamma, EMA half-life in kimg and p of
# the augmentation.
PAPER = {
    'cifar10': ({'source': 'tfds:cifar10'}, {'bf16_levels': 3}, 512, 768, 0.05, 5_000, 0.55),
    'ffhq64': ({'resolution': '64', 'labels': 'none'}, {'bf16_levels': 4}, 256, 768, 2.0, 500, 0.3),
    'ffhq256': ({'resolution': '256', 'labels': 'none'}, {'bf16_levels': 4}, 256, 768, 150.0, 500, 0.3),
    'imagenet32': (
        {'source': 'tfds:imagenet_resized/32x32'}, {'group': 32, 'bf16_levels': 3}, 4096, 1536, 0.5, 50_000, 0.5,
    ),
    'imagenet64': (
        {'source': 'tfds:imagenet_resized/64x64', 'resolution': '64'},
        {'group': 32, 'bf16_levels': 4, 'channel_base': 64 * 1536},  # all levels are as wide as the widest
        4096, 1536, 1.0, 50_000, 0.4,
    ),
}  # fmt: skip


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, res=N, cifar10, ffhq64, ffhq256, imagenet32, imagenet64."""
    chosen = common.parse_arg(arg, one=True, quick=False, res='', **dict.fromkeys(PAPER, False))
    config = small()
    papers = [name for name in PAPER if chosen[name]]
    if papers:
        large(config, *PAPER[papers[0]])
        config.train.duration = '250000kimg' if papers[0].startswith('imagenet') else '25000kimg'
    elif chosen.res:
        one_gpu(config, chosen.res)
    elif chosen.quick:
        common.shorten(config, '8kimg', '2kimg')
    return config


def small() -> ConfigDict:
    """Networks and rates for ten minutes on two CPU cores."""
    config = ConfigDict()
    config.method = {
        'name': 'gan',
        'loss': 'relativistic',
        'penalty': 'r1_r2',
        'penalty_weight': '1->0.5',
        'anneal': 0.8,
        'ema_kimg': '0->2',
        'ema_rampup': 0.0,
        'augment': {'target': 0.0},
    }
    config.model = {'name': 'r3gan'}
    # Adam without momentum; the rate falls to a quarter while b2 rises.
    schedule = {'schedule': 'cosine', 'anneal': 0.8, 'end': 0.25, 'end_b2': 0.99}
    config.optim = common.networks('generator', 'discriminator', b1=0.0, b2=0.9, **schedule)
    config.train = {'batch_size': 16, 'duration': '36kimg', 'sample_every': '4kimg'}
    return config


def one_gpu(config: ConfigDict, res: str) -> None:
    """Half the published width, a quarter of the batch, a fifth of the duration and of the EMA half-life."""
    longer = max(int(side) for side in res.split('x'))
    gamma = round(2 * (longer / 64) ** 3.11, 3)
    large(config, {'resolution': res}, {'bf16_levels': 4}, batch=64, width=384, gamma=gamma, ema=100, p=0.3)
    config.train.duration = '5000kimg'


def large(
    config: ConfigDict, data: dict, model: dict, batch: int, width: int, gamma: float, ema: int, p: float
) -> None:
    """What all runs on GPUs share: `width` channels up to 32 pixels, then half as many at each doubling."""
    config.data = {'workers': 8, **data}
    config.method.update(penalty_weight=f'{gamma}->{gamma / 10:g}', ema_kimg=f'0->{ema}')
    config.method.augment.update(name='ada', transforms='bgc,cutout', p=f'0->{p}')
    config.model.update({'channel_base': 32 * width, 'channel_max': width, 'blocks': 2, **model})
    for net in config.optim.values():
        net.learning_rate = 2e-4
    config.train.update(
        batch_size=batch, log_every='4kimg', sample_every='100kimg', checkpoint_every='200kimg', grid_columns=12
    )
