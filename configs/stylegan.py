"""StyleGAN2-ADA on product images."""

from ml_collections import ConfigDict

from configs import common

# Published settings (Karras et al. 2020, ADA; the reference implementation's `paper256`, `paper512` and `paper1024`):
# batch, minibatch-std group, channel base, learning rate, R1 gamma, EMA half-life in kimg.
PAPER = {
    256: (64, 8, 16384, 0.0025, 1.0, 20.0),
    512: (64, 8, 32768, 0.0025, 0.5, 20.0),
    1024: (32, 4, 32768, 0.002, 2.0, 10.0),
}


def get_config(arg=None) -> ConfigDict:
    a = common.parse_arg(arg, quick=False, res=0, paper256=False, paper512=False, paper1024=False)
    config = ConfigDict()
    config.seed = 0
    config.data = common.data_section()
    config.sample = common.sample_section()
    config.method = dict(
        name='stylegan2',
        loss='non_saturating',
        r1_gamma='auto',
        r1_interval=16,
        path_weight=0.0,
        path_interval=4,
        path_shrink=2,
        path_decay=0.99,
        mixing=0.0,
        w_decay=0.995,
        ema_kimg=2.0,
        ema_rampup=0.05,
        augment=dict(name='none', transforms='', p=0.0, target=0.6, adjust_kimg=500.0),
    )
    config.model = dict(
        z_dim=64,
        w_dim=128,
        mapping_layers=2,
        label_layers=1,
        channel_base=512,
        channel_max=64,
        stddev_group=4,
        bf16_levels=0,
    )
    adam = dict(
        name='adam',
        learning_rate=0.0025,
        b1=0.0,
        b2=0.99,
        eps=1e-8,
        weight_decay=0.0,
        clip=0.0,
        schedule='constant',
        warmup=0.0,
    )
    config.optim = dict(generator=dict(adam), discriminator=dict(adam))
    config.train = dict(
        batch_size=32,
        accumulate=1,
        duration='100kimg',
        log_every='1kimg',
        sample_every='5kimg',
        checkpoint_every='10kimg',
        keep=2,
        grid_columns=8,
        grid_rows=16,
    )
    return config
