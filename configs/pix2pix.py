"""pix2pix: translates pictures, learned from pairs of input and target.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017.

  python launch.py --config=configs/pix2pix.py               mask -> photo on the catalog, 64 x 64; two CPU cores
  python launch.py --config=configs/pix2pix.py:quick         the same in two minutes
  python launch.py --config=configs/pix2pix.py:sketch        line drawing -> photo; also :sketch,quick
  python launch.py --config=configs/pix2pix.py:studio        photo -> the product on white; also :studio,quick
  python launch.py --config=configs/pix2pix.py:res=256       networks of the paper for any resolution, for one GPU
  python launch.py --config=configs/pix2pix.py:paper         all settings of the paper, 256 x 256

Pairs of your own: --config.data.source=pairs:PATH --config.data.input= --config.data.target= (docs/translation.md has
the layouts). Then

  python launch.py --mode=translate --workdir=RUN --input=PICTURES --output=OUT
  python launch.py --mode=eval --workdir=RUN

`paper` has the settings of the authors' code: batches of one picture, Adam with a rate of 0.0002 that falls to 0 in the
second half of 200 epochs, pictures enlarged to 286 pixels and cropped to 256, mirrored; no averaged weights.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, sketch, studio, res=N, paper."""
    chosen = common.parse_arg(arg, quick=False, sketch=False, studio=False, res='', paper=False)
    config = ConfigDict()
    config.data = {'resolution': '64', 'labels': 'none', 'input': 'mask', 'target': 'image'}
    config.method = {'name': 'pix2pix'}
    config.model = {'width': 16, 'discriminator_width': 16, 'discriminator_layers': 2}
    config.optim = common.networks('generator', 'discriminator', learning_rate=4e-4, b1=0.5)
    config.train = {'batch_size': 4, 'duration': '60kimg', 'grid_rows': 4}
    if chosen.sketch:
        config.data.input = 'sketch'
    if chosen.studio:
        config.data.update(input='image', target='studio')
    if chosen.quick:
        common.shorten(config, '4kimg', '1kimg')
    if chosen.res or chosen.paper:
        common.published_translation(config, chosen.res or '256')
    if chosen.paper:
        common.as_published(config, '200epochs', hold=0.5)
    return config
