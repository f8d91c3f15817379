"""StyleGAN2-ADA on product images.

  configs/stylegan.py            32 x 32, small nets: for two CPU cores, about ten minutes
  configs/stylegan.py:quick      the same, two minutes
  configs/stylegan.py:res=128    StyleGAN2-ADA's settings for one GPU (its `auto`) at any resolution; also res=96x128
  configs/stylegan.py:paper256   as published for FFHQ 256 x 256; also paper512, paper1024

The `paper` variants are the settings that the authors of Karras et al., "Training Generative Adversarial Networks with
Limited Data", NeurIPS 2020, published with it under the same names: batch size, minibatch-std group, channels, learning
rate, R1 gamma, EMA half-life and ramp-up, depth of the mapping network, 25,000 kimg. Regularisation intervals and
weights, style mixing and Adam's betas are those of "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020.

With --config.model.remat=true activations are computed again for the gradient: less memory, more time.
"""

from ml_collections import ConfigDict

from configs import common

# Batch, minibatch-std group, channel base, learning rate, R1 gamma, EMA half-life in kimg.
PAPER = {
    256: (64, 8, 16384, 0.0025, 1.0, 20.0),
    512: (64, 8, 32768, 0.0025, 0.5, 20.0),
    1024: (32, 4, 32768, 0.002, 2.0, 10.0),
}


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, res=N, paper256, paper512, paper1024."""
    chosen = common.parse_arg(arg, one=True, quick=False, res='', paper256=False, paper512=False, paper1024=False)
    config = small()
    papers = [res for res in PAPER if chosen[f'paper{res}']]
    if papers:
        published(config, papers[0], *PAPER[papers[0]], mapping_layers=8, ema_rampup=0.0)
    elif chosen.res:
        auto(config, chosen.res)
    elif chosen.quick:
        common.shorten(config, '12kimg', '4kimg')
    return config


def small() -> ConfigDict:
    """Nets and rates that show something after ten minutes on two CPU cores."""
    config = ConfigDict()
    config.seed = 0
    config.data = common.data_section(resolution='32')
    config.method = common.gan_section(name='stylegan2', penalty='r1', penalty_weight='0.7', penalty_interval=16)
    config.method.update(path_weight=0.0, path_interval=4, path_shrink=2, path_decay=0.99, mixing=0.0, w_decay=0.995)
    config.model = {
        'name': 'stylegan2',
        'z_dim': 64,
        'w_dim': 128,
        'mapping_layers': 2,
        'mapping_lr': 0.1,
        'label_layers': 1,
        'channel_base': 512,
        'channel_max': 64,
        'stddev_group': 4,
        'bf16_levels': 0,
        'remat': False,
    }
    config.optim = {
        'generator': common.optimizer(learning_rate=0.0025, b1=0.0, b2=0.99),
        'discriminator': common.optimizer(learning_rate=0.0025, b1=0.0, b2=0.99),
    }
    config.train = common.train_section(batch_size=16, duration='140kimg')
    config.sample = common.sample_section(truncation=0.7)
    config.eval = common.eval_section()
    return config


def auto(config: ConfigDict, res: str) -> None:
    """StyleGAN2-ADA's settings for one GPU: batch and gamma by resolution, a short mapping network, EMA ramp-up."""
    longer = max(int(side) for side in res.split('x'))
    batch = min(max(4096 // longer, 4), 32)
    base = 32768 if longer >= 512 else 16384
    rate = 0.002 if longer >= 1024 else 0.0025
    published(config, res, batch, 4, base, rate, 'auto', batch * 10 / 32, mapping_layers=2, ema_rampup=0.05)


def published(config, res, batch, group, base, rate, gamma, ema_kimg, *, mapping_layers, ema_rampup) -> None:
    """Sets everything that the published runs share, and the given values."""
    config.data.resolution = str(res)
    config.data.workers = 8
    config.method.update(
        penalty_weight=str(gamma), path_weight=2.0, mixing=0.9, ema_kimg=str(ema_kimg), ema_rampup=float(ema_rampup)
    )
    config.method.augment.update(name='ada', transforms='bgc')
    config.model.update(
        z_dim=512,
        w_dim=512,
        mapping_layers=mapping_layers,
        mapping_lr=0.01,
        label_layers=8,
        channel_base=base,
        channel_max=512,
        stddev_group=group,
        bf16_levels=4,
    )
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
