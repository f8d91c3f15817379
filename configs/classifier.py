"""A classifier of product pictures, whose features measure what generators make.

  configs/classifier.py            32 x 32, a residual network: for two CPU cores, about ten minutes
  configs/classifier.py:quick      the same, two minutes
  configs/classifier.py:simclr     features learnt without labels, by contrast; also simclr,quick

The workdir of either serves as `--config.eval.features=WORKDIR` of `--mode=eval`. Augmentations are zoom, shift,
brightness, contrast and saturation: none that turns one product into another.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Chen et al., "A Simple Framework for Contrastive
Learning of Visual Representations", ICML 2020 (SimCLR).
"""

from ml_collections import ConfigDict

from configs import common

VIEWS = 'scale,xfrac,brightness,contrast,saturation'


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, simclr."""
    chosen = common.parse_arg(arg, quick=False, simclr=False)
    config = ConfigDict()
    config.seed = 0
    config.data = common.data_section(resolution='32')
    shared = {'ema_kimg': 5.0, 'ema_rampup': 0.05}
    optimizer = common.optimizer(1e-3, name='adamw', weight_decay=0.05, schedule='cosine', warmup=0.05, clip=1.0)
    if chosen.simclr:
        augment = {'name': 'ada', 'transforms': f'{VIEWS},hue', 'p': '0.8', 'target': 0.0, 'adjust_kimg': 500.0}
        config.method = {'name': 'simclr', 'temperature': 0.2, 'projection': 64, **shared, 'augment': augment}
        config.optim = {'encoder': optimizer}
        batch_size = 128
    else:
        augment = {'name': 'ada', 'transforms': VIEWS, 'p': '0.5', 'target': 0.0, 'adjust_kimg': 500.0}
        config.method = {'name': 'classifier', 'label_smoothing': 0.1, **shared, 'augment': augment}
        config.optim = {'classifier': optimizer}
        batch_size = 64
    config.model = {'width': 24, 'blocks': '1,1,1', 'dropout': 0.0}
    config.train = common.train_section(
        batch_size=batch_size, duration='120kimg', sample_every='25kimg', checkpoint_every='25kimg',
        validate_every='25kimg',
    )  # fmt: skip
    config.sample = common.sample_section()
    config.eval = common.eval_section()
    if chosen.quick:
        common.shorten(config, '24kimg', '8kimg')
        config.train.validate_every = '8kimg'
    return config
