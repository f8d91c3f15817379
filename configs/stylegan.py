"""StyleGAN2-ADA on product images.

  python launch.py --config=configs/stylegan.py            32 x 32, small networks; about ten minutes on two CPU cores
  python launch.py --config=configs/stylegan.py:quick      the same, two minutes
  python launch.py --config=configs/stylegan.py:res=128    StyleGAN2-ADA's settings for one GPU (its `auto`) at any
                                                           resolution; also res=96x128
  python launch.py --config=configs/stylegan.py:paper256   as published for FFHQ 256 x 256, for several GPUs; also
                                                           paper512, paper1024

The `paper` variants are the settings that the authors of Karras et al., "Training Generative Adversarial Networks with
Limited Data", NeurIPS 2020, published with it under the same names: batch size, minibatch-std group, channels, learning
rate, R1 gamma, EMA half-life and ramp-up, depth of the mapping network, 25,000 kimg. Regularisation intervals and
weights, style mixing and Adam's betas are those of "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020.

--config.model.remat=true recomputes activations for the gradient: less memory, more time.

After 40,000 images of the catalog: Frechet distance 1.4, SWD 45 (docs/families.md). After the default's 140,000 shapes,
colours and backgrounds follow their labels; handles, chair legs and patterns are rough.
"""

from ml_collections import ConfigDict

from configs import common

# Batch, learning rate, R1 gamma, EMA half-life in kimg, and the `model` settings in which they differ.
PAPER = {
    256: (64, 0.0025, 1.0, 20.0, {'channel_base': 16384, 'stddev_group': 8}),
    512: (64, 0.0025, 0.5, 20.0, {'channel_base': 32768, 'stddev_group': 8}),
    1024: (32, 0.002, 2.0, 10.0, {'channel_base': 32768}),
}


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, res=N, paper256, paper512, paper1024."""
    chosen = common.parse_arg(arg, one=True, quick=False, res='', paper256=False, paper512=False, paper1024=False)
    config = small()
    papers = [res for res in PAPER if chosen[f'paper{res}']]
    if papers:
        published(config, papers[0], *PAPER[papers[0]])
        config.method.ema_rampup = 0.0
        config.model.mapping_layers = 8
    elif chosen.res:
        auto(config, chosen.res)
    elif chosen.quick:
        common.shorten(config, '12kimg', '4kimg')
    return config


def small() -> ConfigDict:
    """Networks and rates for ten minutes on two CPU cores."""
    config = ConfigDict()
    config.method = {'name': 'stylegan2', 'penalty': 'r1', 'penalty_weight': '0.7', 'penalty_interval': 16}
    config.model = {'name': 'stylegan2'}
    config.optim = common.networks('generator', 'discriminator', learning_rate=0.0025, b1=0.0, b2=0.99)
    config.train = {'batch_size': 16, 'duration': '140kimg'}
    config.sample = {'truncation': 0.7}
    return config


def auto(config: ConfigDict, res: str) -> None:
    """StyleGAN2-ADA's settings for one GPU: batch, rate and gamma follow the resolution."""
    longer = max(int(side) for side in res.split('x'))
    batch = min(max(4096 // longer, 4), 32)
    rate = 0.002 if longer >= 1024 else 0.0025
    model = {'channel_base': 32768 if longer >= 512 else 16384}
    published(config, res, batch, rate, 'auto', batch * 10 / 32, model)


def published(config: ConfigDict, res, batch: int, rate: float, gamma, ema_kimg: float, model: dict) -> None:
    """What all published settings share, and the given values."""
    config.data = {'resolution': str(res), 'workers': 8}
    config.method.update(penalty_weight=str(gamma), path_weight=2.0, mixing=0.9, ema_kimg=str(ema_kimg))
    config.method.augment = {'name': 'ada', 'transforms': 'bgc'}
    config.model.update(z_dim=512, w_dim=512, mapping_lr=0.01, label_layers=8, channel_max=512, bf16_levels=4)
    config.model.update(model)
    for net in config.optim.values():
        net.learning_rate = rate
    config.train.update(
        batch_size=batch,
        duration='25000kimg',
        log_every='4kimg',
        sample_every='100kimg',
        checkpoint_every='100kimg',
        grid_columns=12,
    )
