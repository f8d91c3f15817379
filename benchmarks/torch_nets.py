"""Networks and training steps of the configs dcgan, vae and ddpm in plain PyTorch, for speed comparisons.

Idiomatic PyTorch: NCHW, `nn.Conv2d` and `nn.ConvTranspose2d` of stride 2, nearest-neighbour upsampling before a
convolution, `scaled_dot_product_attention`, fused Adam, weight averaging by `_foreach_lerp_`. Numbers of channels,
blocks and groups, losses, order of steps and averaged weights are those of the default configs without labels; the
parameter counts are equal, which `steps.py` checks. Nothing of this project is imported.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import nn

Wrap = Callable[[Callable], Callable]  # torch.compile, or the identity


def to_float(image: torch.Tensor) -> torch.Tensor:
    """Converts uint8 images to float32 in [-1, 1]."""
    return image.float() / 127.5 - 1


def ema_decay(step: int, batch: int, half_life_kimg: float = 5.0, rampup: float = 0.05) -> float:
    """Decay of an average whose half-life is limited to a fraction `rampup` of the images seen."""
    half_life = min(half_life_kimg * 1000, (step + 1) * batch * rampup)
    return 0.5 ** (batch / max(half_life, 1e-8))


def move_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Updates average <- decay average + (1 - decay) net."""
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)


def adam(parameters: Iterable[nn.Parameter], rate: float, b1: float = 0.9, b2: float = 0.999) -> torch.optim.Adam:
    """Fused Adam, PyTorch's fastest on CPUs and GPUs."""
    return torch.optim.Adam(parameters, lr=rate, betas=(b1, b2), eps=1e-8, fused=True)


def cosine(optimizer: torch.optim.Optimizer, steps: int, end: float, warmup: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up, then cosine decay to a fraction `end`."""

    def factor(step):
        if step < warmup:
            return step / warmup
        fraction = min((step - warmup) / (steps - warmup), 1)
        return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * fraction))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


# DCGAN.


def gan_generator(size: int, z_dim: int = 64, width: int = 32, most: int = 256, running: bool = False) -> nn.Sequential:
    """z [B, Z] -> images; with `running` its norms keep running statistics, which are used for sampling."""
    depth = int(math.log2(size // 4))
    widths = [min(width << i, most) for i in range(depth)][::-1]
    norm = lambda c: nn.BatchNorm2d(c, track_running_stats=running)
    layers = [nn.Linear(z_dim, 16 * widths[0], bias=False), nn.Unflatten(1, (widths[0], 4, 4)), norm(widths[0])]
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), norm(after)]
    return nn.Sequential(*layers, nn.ReLU(), nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1), nn.Tanh())


def gan_discriminator(size: int, width: int = 32, most: int = 256) -> nn.Sequential:
    """Images -> logits [B, 1]; its norms always use the statistics of the batch."""
    depth = int(math.log2(size // 4))
    widths = [min(width << i, most) for i in range(depth)]
    layers = [nn.Conv2d(3, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
    for before, after in zip(widths, widths[1:], strict=False):
        norm = nn.BatchNorm2d(after, track_running_stats=False)
        layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), norm, nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * widths[-1], 1))


class DCGAN:
    """Generator step, update of the average and its statistics, discriminator step on new fakes."""

    def __init__(self, size: int, batch: int, steps: int, wrap: Wrap):
        self.batch, self.z_dim, self.count = batch, 64, 0
        self.g, self.d = gan_generator(size), gan_discriminator(size)
        self.average = gan_generator(size, running=True).requires_grad_(False)
        self.average.load_state_dict(self.g.state_dict(), strict=False)
        self.nets = {'generator': self.g, 'discriminator': self.d}
        self.g_adam, self.d_adam = (adam(net.parameters(), 5e-4, b1=0.5) for net in (self.g, self.d))
        self.generate, self.judge, self.update_stats = wrap(self.g), wrap(self.d), wrap(self.average)

    def draw(self) -> torch.Tensor:
        """Samples z [B, Z]."""
        return torch.randn(self.batch, self.z_dim)

    def step(self, image: torch.Tensor) -> None:
        """One iteration on images uint8 [B, 3, H, W]."""
        real = to_float(image)
        self.d.requires_grad_(False)
        self.g_adam.zero_grad(set_to_none=True)
        F.softplus(-self.judge(self.generate(self.draw()))).mean().backward()
        self.g_adam.step()
        move_average(self.average, self.g, ema_decay(self.count, self.batch))
        with torch.no_grad():
            self.update_stats(self.draw())
            fake = self.generate(self.draw())
        self.d.requires_grad_(True)
        self.d_adam.zero_grad(set_to_none=True)
        (F.softplus(-self.judge(real)) + F.softplus(self.judge(fake))).mean().backward()
        self.d_adam.step()
        self.count += 1


# VAE.


def vae_widths(size: int, channels: int = 32, most: int = 128) -> list[int]:
    """Channels at full, half, ... resolution."""
    return [min(channels << level, most) for level in range(int(math.log2(size // 4)) + 1)]


def activate(channels: int) -> list[nn.Module]:
    """Group normalisation and SiLU."""
    return [nn.GroupNorm(8, channels, eps=1e-6), nn.SiLU()]


def vae_encoder(size: int, latent: int) -> nn.Sequential:
    """Images -> concatenated mean and log-variance, [B, 2Z]."""
    widths = vae_widths(size)
    layers = [nn.Conv2d(3, widths[0], 3, padding=1)]
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [*activate(before), nn.Conv2d(before, after, 4, 2, 1)]
    return nn.Sequential(*layers, *activate(widths[-1]), nn.Flatten(), nn.Linear(16 * widths[-1], 2 * latent))


def vae_decoder(size: int, latent: int) -> nn.Sequential:
    """z [B, Z] -> images."""
    widths = vae_widths(size)[::-1]
    layers = [nn.Linear(latent, 16 * widths[0]), nn.Unflatten(1, (widths[0], 4, 4))]
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [*activate(before), nn.ConvTranspose2d(before, after, 4, 2, 1)]
    return nn.Sequential(*layers, *activate(widths[-1]), nn.Conv2d(widths[-1], 3, 3, padding=1))


class Bound(nn.Module):
    """Images -> negative evidence lower bound, with a Gaussian likelihood of learned scale."""

    def __init__(self, size: int, latent: int = 64):
        super().__init__()
        self.encoder, self.decoder = vae_encoder(size, latent), vae_decoder(size, latent)
        self.log_scale = nn.Parameter(torch.tensor(math.log(0.2)))

    def forward(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        mean, log_variance = self.encoder(image).chunk(2, 1)
        log_variance = log_variance.clamp(-30, 20)
        location = self.decoder(mean + torch.exp(0.5 * log_variance) * noise)
        deviation = (image - location) * torch.exp(-self.log_scale)
        cost = (0.5 * (deviation.square() + math.log(2 * math.pi)) + self.log_scale).sum((1, 2, 3)).mean()
        return cost + 0.5 * (torch.expm1(log_variance) - log_variance + mean.square()).sum(1).mean()


class VAE:
    """Gradient step on the evidence lower bound."""

    def __init__(self, size: int, batch: int, steps: int, wrap: Wrap):
        self.batch, self.count, self.net = batch, 0, Bound(size)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.nets = {'vae': self.net}
        self.adam = adam(self.net.parameters(), 2e-3)
        self.schedule = cosine(self.adam, steps, end=0.05, warmup=0)
        self.bound = wrap(self.net)

    def step(self, image: torch.Tensor) -> None:
        """One iteration on images uint8 [B, 3, H, W]."""
        self.adam.zero_grad(set_to_none=True)
        self.bound(to_float(image), torch.randn(self.batch, 64)).backward()
        self.adam.step()
        self.schedule.step()
        move_average(self.average, self.net, ema_decay(self.count, self.batch))
        self.count += 1


# Diffusion.


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with 32 groups, or fewer with at least 4 channels each."""
    groups = math.gcd(32, channels)
    while groups > 1 and channels // groups < 4:
        groups //= 2
    return nn.GroupNorm(groups, channels, eps=1e-6)


class Block(nn.Module):
    """Residual block with an embedding of the time."""

    def __init__(self, before: int, after: int, embedding: int):
        super().__init__()
        self.norm0, self.norm1 = group_norm(before), group_norm(after)
        self.conv0, self.conv1 = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
        self.embedding = nn.Linear(embedding, after)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        y = self.conv0(F.silu(self.norm0(x))) + self.embedding(F.silu(embedding))[:, :, None, None]
        return self.skip(x) + self.conv1(F.silu(self.norm1(y)))


class Attention(nn.Module):
    """Self-attention over all pixels, with one head."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm, self.into, self.out = (
            group_norm(channels),
            nn.Linear(channels, 3 * channels),
            nn.Linear(channels, channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        parts = self.into(self.norm(x).flatten(2).transpose(1, 2)).chunk(3, -1)  # 3 x [B, HW, C]
        y = F.scaled_dot_product_attention(*(part[:, None] for part in parts))[:, 0]
        return x + self.out(y).transpose(1, 2).reshape(b, c, h, w)


class UNet(nn.Module):
    """U-Net on blocks of 2x2 pixels: two levels with a block each, attention at the second."""

    def __init__(self, channels: int = 32, patch: int = 2):
        super().__init__()
        c, wide, e = channels, 2 * channels, 4 * channels
        self.channels, self.patch = channels, patch
        self.time0, self.time1 = nn.Linear(c, e), nn.Linear(e, e)
        self.into = nn.Conv2d(3 * patch**2, c, 3, padding=1)
        self.down0, self.halve = Block(c, c, e), nn.Conv2d(c, c, 3, stride=2)
        self.down1, self.attend1 = Block(c, wide, e), Attention(wide)
        self.middle0, self.attend, self.middle1 = Block(wide, wide, e), Attention(wide), Block(wide, wide, e)
        self.up1 = nn.ModuleList([Block(2 * wide, wide, e), Block(wide + c, wide, e)])
        self.attends = nn.ModuleList([Attention(wide), Attention(wide)])
        self.enlarge = nn.Conv2d(wide, wide, 3, padding=1)
        self.up0 = nn.ModuleList([Block(wide + c, c, e), Block(2 * c, c, e)])
        self.norm, self.out = group_norm(c), nn.Conv2d(c, 3 * patch**2, 3, padding=1)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        half = self.channels // 2
        frequency = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, device=x.device))
        angle = time.float()[:, None] * frequency
        e = self.time1(F.silu(self.time0(torch.cat([angle.sin(), angle.cos()], 1))))
        x0 = self.into(F.pixel_unshuffle(x, self.patch))
        x1 = self.down0(x0, e)
        x2 = self.halve(F.pad(x1, (0, 1, 0, 1)))
        x3 = self.attend1(self.down1(x2, e))
        x = self.middle1(self.attend(self.middle0(x3, e)), e)
        for block, attend, skip in zip(self.up1, self.attends, (x3, x2), strict=True):
            x = attend(block(torch.cat([x, skip], 1), e))
        x = self.enlarge(F.interpolate(x, scale_factor=2, mode='nearest'))
        for block, skip in zip(self.up0, (x1, x0), strict=True):
            x = block(torch.cat([x, skip], 1), e)
        return F.pixel_shuffle(self.out(F.silu(self.norm(x))), self.patch)


class Diffusion:
    """Gradient step on the error of v, with clipping and a cosine noise schedule."""

    def __init__(self, size: int, batch: int, steps: int, wrap: Wrap):
        self.batch, self.count, self.net = batch, 0, UNet()
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.nets = {'unet': self.net}
        self.adam = adam(self.net.parameters(), 2e-3, b2=0.99)
        self.schedule = cosine(self.adam, steps, end=0.0, warmup=round(0.02 * steps))
        self.predict, s = wrap(self.net), 0.008
        f = torch.cos((torch.arange(1001) / 1000 + s) / (1 + s) * math.pi / 2).square()
        bar = torch.cumprod(torch.cat([torch.ones(1), (f[1:] / f[:-1]).clamp(min=0.001)]), 0)[:, None, None, None]
        self.signal, self.noise = bar.sqrt(), (1 - bar).sqrt()

    def step(self, image: torch.Tensor) -> None:
        """One iteration on images uint8 [B, 3, H, W]."""
        image = to_float(image)
        time, epsilon = torch.randint(1, 1001, (self.batch,)), torch.randn_like(image)
        signal, noise = self.signal[time], self.noise[time]
        self.adam.zero_grad(set_to_none=True)
        output = self.predict(signal * image + noise * epsilon, time)
        F.mse_loss(output, signal * epsilon - noise * image).backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.adam.step()
        self.schedule.step()
        move_average(self.average, self.net, ema_decay(self.count, self.batch))
        self.count += 1


METHODS = {'dcgan': DCGAN, 'vae': VAE, 'ddpm': Diffusion}
