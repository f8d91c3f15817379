"""VAE-GAN: a variational autoencoder that compares pictures by a discriminator's features.

Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", ICML 2016. With the posterior sample z,
the prior sample z_p and the features Dis_l of one layer of the discriminator,

  L_prior = KL(q(z|x) || N(0, I))                                                   equation 6
  L_llike = -log N(Dis_l(x) | Dis_l(Dec(z)), I), up to a constant                   equations 7 and 8
  L_GAN   = log Dis(x) + log(1 - Dis(Dec(z))) + log(1 - Dis(Dec(z_p)))              section 2.4

the encoder descends L_prior + L_llike, the decoder gamma L_llike - L_GAN, the discriminator -L_GAN (algorithm 1). All
three gradients are taken at the same weights and the same random numbers, as there, so that XLA computes the forward
passes they share once, unless the batch is taken in parts. Deviations:

- The decoder's part of the game is the non-saturating one (Goodfellow et al. 2014), which has the same fixed point and
  does not vanish while the discriminator wins. Each loss of the game is a mean over what it judges.
- Group instead of batch normalisation, so that pictures do not depend on each other; 4x4 convolutions for 5x5.
- Features are summed as published, and halved by the Gaussian's own factor.
- Encoder, decoder and discriminator are given the labels where there are any, as in their section 4.2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from productgen.config import UserError, build, choose
from productgen.core.optim import OptimConfig, make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import normal, sample_keys, stream, streams
from productgen.core.state import State, create_net
from productgen.core.step import average, ema_decay, step_net
from productgen.losses.adversarial import ADVERSARIAL
from productgen.losses.elbo import gaussian_kl
from productgen.losses.pixel import mse
from productgen.methods.base import Batch, Problem
from productgen.methods.models.vae import VAEModel
from productgen.nets import vae as nets
from productgen.nets.layers import one_hot_labels

NETS = ('encoder', 'decoder', 'discriminator')


@dataclasses.dataclass(frozen=True)
class VAEGANConfig:
    """The `method` section.

    Attributes:
      name: `vaegan`.
      gamma: weight of the learned similarity against the game, for the decoder. It is a sum over features, some
        thousands, hence small.
      similarity: the features are those after so many halvings, 1 or more.
      ema_kimg: half-life of the averaged weights of encoder and decoder, thousands of images.
      ema_rampup: the half-life is at most this share of the images seen; 0 for no limit.
    """

    name: str = 'vaegan'
    gamma: float = 0.0005
    similarity: int = 2
    ema_kimg: float = 5.0
    ema_rampup: float = 0.05

    def __post_init__(self):
        for field in ('gamma', 'ema_kimg', 'ema_rampup'):
            if getattr(self, field) < 0:
                raise UserError(f'method.{field}', 'must not be negative')


@dataclasses.dataclass(frozen=True)
class VAEGAN:
    """See the module; built by `make`."""

    config: VAEGANConfig
    problem: Problem
    encoder: nets.Encoder
    decoder: nets.Decoder
    discriminator: nets.Discriminator
    latent: tuple[int, ...]  # shape of one
    tx: Mapping[str, optax.GradientTransformation]

    # Forward passes.

    def _encode(self, params: Any, batch: Batch, train: bool = False) -> tuple[jax.Array, jax.Array]:
        label = one_hot_labels(batch['label'], self.problem.labels)
        return self.encoder.apply({'params': params}, batch['image'], label, batch['key'], train=train)

    def _decode(self, params: Any, z: jax.Array, batch: Batch, train: bool = False) -> jax.Array:
        """Images in [-1, 1]."""
        label = one_hot_labels(batch['label'], self.problem.labels)
        return jnp.tanh(self.decoder.apply({'params': params}, z, label, batch.get('key'), train=train))

    def _judge(self, params: Any, image: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Logits [B] and features [B, h, w, C]."""
        return self.discriminator.apply({'params': params}, image, one_hot_labels(batch['label'], self.problem.labels))

    def _terms(self, params: Mapping[str, Any], batch: Batch) -> dict[str, jax.Array]:
        """Everything the three losses are made of, one value a picture, [B], from the weights of all nets.

        `batch` has `image` in [-1, 1], `label` and `key`.
        """
        keys = batch['key']
        mean, log_variance = self._encode(params['encoder'], batch, train=True)
        posterior = mean + jnp.exp(0.5 * log_variance) * normal(streams(keys, 'posterior'), self.latent)
        prior = normal(streams(keys, 'prior'), self.latent)
        rebuilt = self._decode(params['decoder'], posterior, batch, train=True)
        drawn = self._decode(params['decoder'], prior, batch | {'key': streams(keys, 'drawn')}, train=True)
        real, features = self._judge(params['discriminator'], batch['image'], batch)
        fake, similar = self._judge(params['discriminator'], rebuilt, batch)
        other, _ = self._judge(params['discriminator'], drawn, batch)
        per_picture = lambda x: jnp.sum(x.reshape(x.shape[0], -1), 1)
        return {
            'kl': per_picture(gaussian_kl(mean, log_variance)),
            'similarity': per_picture(0.5 * jnp.square(features - similar)),
            'mse': mse(batch['image'], rebuilt),
            'real': real,
            'rebuilt': fake,
            'drawn': other,
        }

    def _loss(self, name: str, terms: dict[str, jax.Array]) -> jax.Array:
        """What the net of that name minimises, [B]: algorithm 1."""
        if name == 'encoder':
            return terms['kl'] + terms['similarity']
        game = [ADVERSARIAL['non_saturating'](terms['real'], terms[fake]) for fake in ('rebuilt', 'drawn')]
        player = NETS.index(name) - 1  # 0 makes pictures, 1 judges them
        value = 0.5 * (game[0][player] + game[1][player])
        return value + self.config.gamma * terms['similarity'] if name == 'decoder' else value

    # The method.

    def init(self, rng: jax.Array, batch: Batch) -> State:
        """State at step 0; of `batch` only shapes matter."""
        image, label = to_float(batch['image'][:1]), one_hot_labels(batch['label'][:1], self.problem.labels)
        inputs = {'encoder': image, 'decoder': jnp.zeros((1, *self.latent)), 'discriminator': image}
        made = {}
        for name, x in inputs.items():
            params = getattr(self, name).init(stream(rng, name), x, label)['params']
            made[name] = create_net(params, self.tx[name], ema=name != 'discriminator')
        return State(step=jnp.zeros((), jnp.int32), nets=made, extra={}, frozen={})

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        """One iteration: a step of each net, all from the weights before it."""
        c, problem = self.config, self.problem
        batch = {
            'image': to_float(batch['image']),
            'label': batch['label'],
            'key': sample_keys(rng, jnp.arange(problem.batch_size)),
        }
        old = {name: state.nets[name].params for name in NETS}
        decay = ema_decay(state.step, problem.batch_size, c.ema_kimg, c.ema_rampup)
        new, metrics = {}, {}
        for name in NETS:

            def loss(params, stats, batch, name=name):
                terms = self._terms({**old, name: params}, batch)
                value = jnp.mean(self._loss(name, terms))
                return value, (stats, {'loss': value} | {key: jnp.mean(x) for key, x in terms.items()})

            net, terms = step_net(
                state.nets[name],
                self.tx[name],
                loss,
                batch,
                accumulate=problem.accumulate,
                devices=problem.devices,
            )
            new[name] = net if net.ema is None else average(net, decay)
            metrics |= {f'{key}/{name}': terms.pop(key) for key in ('loss', 'grad_norm')}
        for key in ('real', 'rebuilt', 'drawn'):
            metrics[f'logits/{key}'] = terms.pop(key)
        return State(state.step + 1, new, state.extra, state.frozen), metrics | terms

    # From the averaged weights.

    def sample(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """`image` [B, H, W, 3] of `seed` [B], `label` [B, A] and, optionally, `truncation` [B]: the temperature of z, 1
        without."""
        z = normal(streams(sample_keys(rng, batch['seed']), 'z'), self.latent)
        if 'truncation' in batch:
            z = z * batch['truncation'].reshape(-1, *(1 for _ in self.latent))
        return {'image': self._decode(state.nets['decoder'].ema, z, batch)}

    def reconstruct(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """Pictures [B, H, W, 3] of the posterior means of `image` uint8 [B, H, W, 3] of `label`; nothing is random."""
        batch = batch | {'image': to_float(batch['image']), 'key': None}
        mean, _ = self._encode(state.nets['encoder'].ema, batch)
        return self._decode(state.nets['decoder'].ema, mean, batch)


def make(config: Mapping[str, Any], problem: Problem) -> VAEGAN:
    """Builds the method from the sections `method`, `model` and `optim` of a config.

    Raises:
      UserError: a value that cannot be used, alone or with the others.
    """
    c = build(VAEGANConfig, config['method'], 'method')
    m = build(VAEModel, config['model'], 'model')
    encoder, decoder, latent = m.nets(problem.resolution)
    if not 1 <= c.similarity <= encoder.levels:
        raise UserError(
            'method.similarity',
            f'the discriminator halves {encoder.levels} times, so there are no features after {c.similarity}',
            f'choose 1 to {encoder.levels}',
        )
    optim = {name: build(OptimConfig, choose(config['optim'], name, 'optim'), f'optim.{name}') for name in NETS}
    return VAEGAN(
        config=c,
        problem=problem,
        encoder=encoder,
        decoder=decoder,
        discriminator=nets.Discriminator(encoder.levels, c.similarity, m.channels, m.channel_max, m.groups),
        latent=latent,
        tx={name: make_optimizer(optim[name], problem.steps) for name in NETS},
    )
