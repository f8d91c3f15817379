"""Restoration of photos, trained on your own.

  python launch.py --config=configs/restore.py:task=sr2 --config.data.source=folder:PATH
  python launch.py --config=configs/restore.py:task=denoise,quick
  python launch.py --config=configs/restore.py:task=sr2,gan --config.train.init_from=RUN

Tasks are `denoise`, `deblur`, `sr2`, `sr4`, `jpeg` and `inpaint`. Photos are not resized: every update takes crops at
native resolution and degrades them (`method.degrade`). An hour on two CPU cores; `quick` is two minutes. `gan` goes on
from a run of the same task against a discriminator and a perceptual distance (Real-ESRGAN), for pictures that please
more and are less faithful; it needs the weights of requirements-weights.txt.

The networks are small, those that come with the project. Published ones, for a GPU: `--config.model.name=nafnet` with
`--config.model.width=32 --config.model.encoder=2,2,4,8 --config.model.middle=12 --config.model.decoder=2,2,2,2
--config.model.fold=1 --config.model.attention=true --config.data.resolution=256`, or `--config.model.name=edsr`, `rrdb`
or `espcn`.
"""

from ml_collections import ConfigDict

from configs import common
from productgen.config import choose

# NAFNet without attention, so that photos can be restored in tiles, at half the size.
NAFNET = {'name': 'nafnet', 'width': 24, 'encoder': '1,2', 'decoder': '2,1', 'middle': 2, 'fold': 2, 'attention': False}
COMPACT = {'name': 'compact', 'features': 32, 'layers': 8}
# Of each task: crop, network, thousands of crops in about an hour on two cores.
TASKS = {
    'denoise': (64, NAFNET, 120),
    'deblur': (64, NAFNET, 120),
    'sr2': (64, COMPACT, 180),
    'sr4': (96, {**COMPACT, 'layers': 10}, 250),
    'jpeg': (64, NAFNET, 120),
    'inpaint': (128, {**NAFNET, 'width': 16, 'encoder': '1,1,1', 'decoder': '1,1,1'}, 60),
}


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: task, gan, quick."""
    chosen = common.parse_arg(arg, task='denoise', gan=False, quick=False)
    choose(TASKS, chosen.task, f'config argument {arg!r}')
    crop, model, kimg = TASKS[chosen.task]
    config = ConfigDict()
    config.data = {'resolution': str(crop), 'fit': 'native', 'labels': 'none'}
    config.method = {'name': 'restoration', 'task': chosen.task}
    if chosen.task == 'inpaint':
        config.method.pixel = 'mse'  # what is missing is not known: the mean of what it could be
    config.model = dict(model)
    config.optim = {'restorer': {'b2': 0.99, 'schedule': 'cosine', 'end': 0.01, 'warmup': 0.01}}
    config.train = {'batch_size': 16, 'duration': f'{kimg}kimg', 'sample_every': '20kimg', 'validate_every': '20kimg'}
    config.train.update(validate_items=128, grid_columns=4, grid_rows=6)
    config.eval = {'features': ''}
    if chosen.gan:
        config.method.update(name='restoration_gan', critic_width=32)
        rates = {'learning_rate': 1e-4, 'b2': 0.99}
        config.optim = {'restorer': rates, 'discriminator': dict(rates)}
        config.train.duration = '40kimg'
    if chosen.quick:
        common.shorten(config, '4kimg', '2kimg')
        config.train.validate_every = '2kimg'
    return config
