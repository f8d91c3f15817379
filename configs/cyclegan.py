"""CycleGAN: translates pictures in both directions, learned from two sets of pictures without pairs.

Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", ICCV 2017.

  python launch.py --config=configs/cyclegan.py             photo <-> product on white, 64 x 64; two CPU cores
  python launch.py --config=configs/cyclegan.py:quick       the same at 32 x 32, two minutes
  python launch.py --config=configs/cyclegan.py:res=256     networks of the paper for any resolution, for one GPU
  python launch.py --config=configs/cyclegan.py:paper       all settings of the paper, 256 x 256

Two folders of your own: --config.data.source=folder:PHOTOS --config.data.target=folder:WANTED. Then

  python launch.py --mode=translate --workdir=RUN --input=PICTURES --output=OUT
  python launch.py --mode=translate --workdir=RUN --input=PICTURES --output=OUT --config.translate.reverse=True
  python launch.py --mode=eval --workdir=RUN

`paper` has the settings of the authors' code: batches of one picture, Adam with a rate of 0.0002 that falls to 0 in the
second half of 200 epochs, nine residual blocks, pictures enlarged to 286 pixels and cropped to 256, mirrored; no
averaged weights. The rate of the generators and discriminators is the same.
"""

from ml_collections import ConfigDict

from configs import common

NETWORKS = ('forward', 'backward', 'discriminator_target', 'discriminator_input')


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, res=N, paper."""
    chosen = common.parse_arg(arg, quick=False, res='', paper=False)
    config = ConfigDict()
    config.data = {'resolution': '64', 'labels': 'none', 'target': 'catalog:studio'}
    config.method = {'name': 'cyclegan'}
    config.model = {'width': 16, 'blocks': 4, 'discriminator_width': 16, 'discriminator_layers': 2}
    config.optim = common.networks(*NETWORKS, learning_rate=4e-4, b1=0.5)
    config.train = {'batch_size': 4, 'duration': '40kimg', 'sample_every': '4kimg', 'grid_rows': 4}
    if chosen.quick:
        del config.data.resolution  # 32
        common.shorten(config, '3kimg', '1kimg')
    if chosen.res or chosen.paper:
        common.published_translation(config, chosen.res or '256')
    if chosen.paper:
        common.as_published(config, '200epochs', hold=0.5)
    return config
