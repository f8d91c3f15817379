"""A classifier of product pictures, whose features measure generated pictures.

  python launch.py --config=configs/classifier.py            32 x 32, a residual network; about ten minutes on two CPU
                                                             cores
  python launch.py --config=configs/classifier.py:quick      the same, two minutes
  python launch.py --config=configs/classifier.py:simclr     features learned by contrast, without labels; also
                                                             simclr,quick

The workdir of either is what `--config.eval.features=WORKDIR` of `--mode=eval` takes. Augmentations are zoom, shift,
brightness, contrast and saturation, none of which turns one product into another.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Chen et al., "A Simple Framework for Contrastive
Learning of Visual Representations", ICML 2020 (SimCLR).

Accuracy on held-out pictures of the catalog (5,000 pictures): 0.44 for 14 categories, 0.89 for the colour, 0.96 for the
backdrop (docs/metrics.md).
"""

from ml_collections import ConfigDict

from configs import common

VIEWS = 'scale,xfrac,brightness,contrast,saturation'


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, simclr."""
    chosen = common.parse_arg(arg, quick=False, simclr=False)
    config = ConfigDict()
    augment = {'name': 'ada', 'transforms': VIEWS, 'p': '0.5', 'target': 0.0}
    optimizer = {'name': 'adamw', 'weight_decay': 0.05, 'schedule': 'cosine', 'warmup': 0.05, 'clip': 1.0}
    if chosen.simclr:
        config.method = {'name': 'simclr', 'augment': {**augment, 'transforms': f'{VIEWS},hue', 'p': '0.8'}}
        config.optim = {'encoder': optimizer}
        config.train = {'batch_size': 128}
    else:
        config.method = {'name': 'classifier', 'augment': augment}
        config.optim = {'classifier': optimizer}
        config.train = {'batch_size': 64}
    every = '8kimg' if chosen.quick else '25kimg'
    config.train.update(duration='24kimg' if chosen.quick else '120kimg', validate_every=every)
    config.train.update(sample_every=every, checkpoint_every=every)
    return config
