"""Latent diffusion: a variational autoencoder encodes images, and diffusion learns the distribution of the codes.

  python launch.py --config=configs/latent_diffusion.py            32 x 32, both trained at the same time; about ten
                                                                   minutes on two CPU cores
  python launch.py --config=configs/latent_diffusion.py:quick      the same, two minutes
  python launch.py --config=configs/latent_diffusion.py:staged     the autoencoder in the first half of the training,
                                                                   the diffusion on it in the second; also staged,quick
  python launch.py --config=configs/latent_diffusion.py:res=256    of the paper's size, for one GPU; also res=192x256;
                                                                   both sides are multiples of 32

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022. `res=N` has the sizes of the
paper's LDM-4 for CelebA-HQ and its rates, from the supplement (a U-Net of 224 channels, multipliers 1, 2, 3, 4 and
attention at the three coarser levels; codes of 3 channels at a quarter of the side; 1000 steps of a linear schedule;
learning rate 9.6e-5; 410,000 updates with a batch of 48), after a first stage that trains the autoencoder. Three things
differ: the schedule is DDPM's, attention has 7 heads at every level, and the autoencoder is a plain one, see
`productgen.methods.latent_diffusion`.

An autoencoder that was trained with `configs/vae.py:map` can be used by `--config.train.init_from=WORKDIR
--config.train.init_nets=vae --config.method.autoencoder_share=-1`.

After 40,000 images of the catalog: Frechet distance 3.7, SWD 159 (docs/families.md). After the default's 72,000,
teapots, shoes, trousers and lamps are recognisable, though soft, as they are decoded from 8 x 8 codes.
"""

from ml_collections import ConfigDict

from configs import common, ddpm
from productgen.config import UserError


def get_config(arg=None) -> ConfigDict:
    """See the module; arguments: quick, staged, res=N."""
    chosen = common.parse_arg(arg, quick=False, staged=False, res='')
    if chosen.res and (chosen.quick or chosen.staged):
        raise UserError(f'config argument {arg!r}', 'res=N cannot be combined with others')
    config = ConfigDict()
    # A small beta: a code has to stand out of its own noise, or diffusion has nothing to learn.
    config.method = {'name': 'latent_diffusion', 'vae': {'scale': 0.3, 'beta': 0.01}}
    config.optim = {'unet': ddpm.small_optimizer(), 'vae': {'schedule': 'cosine', 'end': 0.05}}
    config.train = {'duration': '72kimg', 'sample_every': '20kimg'}
    config.sample = {'denoising_steps': 25}
    if chosen.staged:
        config.method.autoencoder_share = 0.5
    if chosen.res:
        published(config, chosen.res)
    elif chosen.quick:
        common.shorten(config, '12kimg', '6kimg')
    return config


def published(config: ConfigDict, res: str) -> None:
    """Sizes and rates of the paper's LDM-4 for CelebA-HQ."""
    config.data = {'resolution': res, 'workers': 8}
    config.method.update(schedule='linear', prediction='epsilon', autoencoder_share=0.3, ema_kimg=333.0, ema_rampup=0.0)
    config.model = {
        'unet': {'channels': 224, 'multipliers': '1,2,3,4', 'blocks': 2, 'attention': '1,2,3', 'heads': 7},
        'vae': {'z_dim': 3, 'channels': 128, 'channel_max': 512, 'blocks': 2, 'groups': 32},
    }
    config.optim = {'unet': {'learning_rate': 9.6e-5}, 'vae': {'learning_rate': 2e-4}}
    config.train = {
        'batch_size': 48,
        'duration': '28100kimg',
        'log_every': '5kimg',
        'sample_every': '500kimg',
        'checkpoint_every': '500kimg',
    }
    config.sample.denoising_steps = 200
