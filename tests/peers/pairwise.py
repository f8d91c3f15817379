"""Writes pairwise.json: reference values of other libraries for tests/metrics/test_pairwise.py.

    pip install numpy==2.4.6 scikit-image==0.26.0 torch==2.13.0
    pip install --no-deps piq==0.8.0 pytorch-msssim==1.0.0
    python tests/peers/pairwise.py

Importing piq needs torchvision, but its GMSD does not: an empty package replaces piq's `__init__`.
"""

import importlib.util
import json
import pathlib
import sys
import types

import numpy as np

SHAPE = (192, 176)  # halves to 12 x 11, the smallest of five levels


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Blocks with a ramp, uint8 [4, H, W, 3], and copies degraded by noise, blur, a colour cast and low contrast."""
    draw = np.random.RandomState(0)  # its stream is the same in all versions of NumPy
    height, width = SHAPE
    blocks = draw.uniform(30, 225, (4, height // 8, width // 8, 3))
    ramp = np.linspace(-25, 25, width)[:, None]
    clean = np.kron(blocks, np.ones((1, 8, 8, 1))) + ramp
    degraded = clean + 0.0
    degraded[0] += draw.normal(0, 20, degraded[0].shape)
    degraded[1] = np.mean([np.roll(degraded[1], (i, j), (0, 1)) for i in range(-2, 3) for j in range(-2, 3)], 0)
    degraded[2] += (20, -10, 5)
    degraded[3] = 120 + 0.5 * (degraded[3] - 120)
    return tuple(np.rint(np.clip(x, 0, 255)).astype(np.uint8) for x in (clean, degraded))


def main():
    folders = importlib.util.find_spec('piq').submodule_search_locations
    sys.modules['piq'] = types.ModuleType('piq')
    sys.modules['piq'].__path__ = folders
    import pytorch_msssim
    import torch
    from piq.gmsd import gmsd
    from skimage import color, metrics

    a, b = pictures()
    tensors = [torch.tensor(x.astype(np.float64)).permute(0, 3, 1, 2) for x in (a, b)]
    options = {'data_range': 255, 'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False}
    lab = [color.rgb2lab(x) for x in (a, b)]
    found = {
        'psnr': [metrics.peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(a, b, strict=True)],
        'ssim': [metrics.structural_similarity(x, y, channel_axis=2, **options) for x, y in zip(a, b, strict=True)],
        'ms_ssim': pytorch_msssim.ms_ssim(*tensors, data_range=255, size_average=False).tolist(),
        'delta_e': color.deltaE_ciede2000(*lab).mean((1, 2)).tolist(),
        'gmsd': gmsd(*tensors, data_range=255, reduction='none').tolist(),
        'lab': color.rgb2lab(a[0, ::24, ::22] / 255).round(6).tolist(),
    }
    path = pathlib.Path(__file__).with_suffix('.json')
    path.write_text(json.dumps(found, indent=1) + '\n')


if __name__ == '__main__':
    main()
