"""CUT and FastCUT: translate pictures, learned from two sets of pictures without pairs, with one generator.

Park et al., "Contrastive Learning for Unpaired Image-to-Image Translation", ECCV 2020.

  python launch.py --config=configs/cut.py             photo -> product on white, 64 x 64; two CPU cores
  python launch.py --config=configs/cut.py:quick       the same at 32 x 32, two minutes
  python launch.py --config=configs/cut.py:fast        FastCUT: a larger weight, no identity term; also :fast,quick
  python launch.py --config=configs/cut.py:res=256     networks of the paper for any resolution, for one GPU
  python launch.py --config=configs/cut.py:paper       all settings of the paper, 256 x 256; also :fast,paper

Two folders of your own: --config.data.source=folder:PHOTOS --config.data.target=folder:WANTED. Then

  python launch.py --mode=translate --workdir=RUN --input=PICTURES --output=OUT
  python launch.py --mode=eval --workdir=RUN

`paper` has the settings of the authors' code: batches of one picture, Adam with a rate of 0.0002 that falls to 0 in the
second half of 400 epochs (FastCUT: in the last quarter of 200), pictures enlarged to 286 pixels and cropped to 256,
mirrored, small initial weights; no averaged weights.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, fast, res=N, paper."""
    chosen = common.parse_arg(arg, quick=False, fast=False, res='', paper=False)
    config = ConfigDict()
    config.data = {'resolution': '64', 'labels': 'none', 'target': 'catalog:studio'}
    config.method = {'name': 'cut'}
    config.model = {
        'width': 16,
        'blocks': 4,
        'antialias': False,
        'init': 'normal',
        'features': 64,
        'discriminator_width': 16,
        'discriminator_layers': 2,
    }
    config.optim = common.networks('generator', 'projector', 'discriminator', learning_rate=4e-4, b1=0.5)
    config.train = {'batch_size': 4, 'duration': '40kimg', 'sample_every': '4kimg', 'grid_rows': 4}
    if chosen.fast:
        config.method.update(nce=10.0, keep=False, flip=True)
    if chosen.quick:
        del config.data.resolution  # 32
        common.shorten(config, '3kimg', '1kimg')
    if chosen.res or chosen.paper:
        common.published_translation(config, chosen.res or '256')
    if chosen.paper:
        common.as_published(config, '200epochs' if chosen.fast else '400epochs', hold=0.75 if chosen.fast else 0.5)
    return config
