"""Variational autoencoders: VAE, beta-VAE and conditional VAE by their settings.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014; Higgins et al., "beta-VAE: Learning Basic Visual
Concepts with a Constrained Variational Framework", ICLR 2017 (`beta`); Sohn et al., "Learning Structured Output
Representation using Deep Conditional Generative Models", NeurIPS 2015 (with labels); free bits of Kingma et al.,
"Improving Variational Inference with Inverse Autoregressive Flow", NeurIPS 2016; learned scale of Rybkin et al.,
"Simple and Effective VAE Training with Calibrated Decoders", ICML 2021; warm-up of Bowman et al. 2016 and Sonderby et
al. 2016.

Encoder and decoder are convolutional. They share one optimiser, since one bound trains both; their weights are its
subtrees `encoder` and `decoder`, so that `optim.vae.freeze` can freeze either. The prior is N(0, I) for every label, a
simplification named by Sohn et al. themselves: with a conditional decoder it loses no generality, and a z then means
the same for every label.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from productgen.config import UserError, choose
from productgen.core.optim import make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import normal, sample_keys, stream, streams
from productgen.core.schedule import Annealed, parse_annealed
from productgen.core.state import PyTree, State, create_net
from productgen.losses.elbo import LIKELIHOODS, Likelihood, bits_per_dim, by_group, free_bits, gaussian_kl
from productgen.losses.pixel import mse
from productgen.methods.base import Batch, Family, Knob, Knobs, Method, Metrics, Problem, Sections, scaled, weighted
from productgen.methods.models.vae import VAEModel
from productgen.methods.parts.averaging import check_not_negative, keyed, step_averaged
from productgen.nets import vae as nets
from productgen.nets.layers import one_hot_labels


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """The `method` section.

    Attributes:
      name: `vae`.
      likelihood: of a picture given its latent: `gaussian`, `discretized_logistic` or `bernoulli`.
      scale: standard deviation, or the logistic's scale, of pixel values in [-1, 1], where the likelihood has one.
      learn_scale: learn one scale for all pixels, starting at `scale`.
      beta: weight of the divergence; 1 is the evidence lower bound.
      kl_weight: a further weight, constant or annealed: `0->1` is warm-up.
      anneal: fraction of the training over which it moves.
      free_bits: nats below which the divergence of a latent dimension, or of a latent map's channel, is not penalised;
        the divergence is a mean over the pictures of a forward pass.
      ema_kimg: half-life of the averaged weights, thousands of images.
      ema_rampup: the half-life is at most this fraction of the images seen; 0 for no limit.
    """

    name: str = 'vae'
    likelihood: str = 'gaussian'
    scale: float = 0.2
    learn_scale: bool = True
    beta: float = 1.0
    kl_weight: float | str = '1'
    anneal: float = 0.2
    free_bits: float = 0.0
    ema_kimg: float = 5.0
    ema_rampup: float = 0.05

    def __post_init__(self):
        if self.scale <= 0:
            raise UserError('method.scale', f'{self.scale} is not above 0')
        check_not_negative(self, 'beta', 'free_bits', 'ema_kimg', 'ema_rampup')
        if self.learn_scale and not choose(LIKELIHOODS, self.likelihood, 'method.likelihood').scaled:
            raise UserError('method.learn_scale', f'{self.likelihood} has no scale', 'set it to False')


@dataclasses.dataclass(frozen=True)
class VAE(Method):
    """See the module; built by `make`. `latent` is the shape of one latent, (Z,) or (h, w, c)."""

    config: VAEConfig
    problem: Problem
    encoder: nets.Encoder
    decoder: nets.Decoder
    latent: tuple[int, ...]
    likelihood: Likelihood
    kl_weight: Annealed
    tx: optax.GradientTransformation

    # Forward passes.

    def _one_hot(self, label: jax.Array) -> jax.Array | None:
        return one_hot_labels(label, self.problem.labels)

    def _encode(self, params: Any, batch: Batch, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Mean and log-variance of the posterior, [B, *latent] each."""
        label = self._one_hot(batch['label'])
        return self.encoder.apply({'params': params['encoder']}, batch['image'], label, batch['key'], train=train)

    def _decode(self, params: Any, z: jax.Array, batch: Batch, train: bool = False) -> jax.Array:
        """Location of the likelihood, [B, H, W, 3]."""
        label = self._one_hot(batch['label'])
        return self.decoder.apply({'params': params['decoder']}, z, label, batch.get('key'), train=train)

    def _log_scale(self, params: Any) -> jax.Array | float:
        return params.get('log_scale', math.log(self.config.scale))

    def _bound(self, params: Any, batch: Batch, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Locations [B, H, W, 3] of one latent drawn for each picture, and divergences by group [B, G].

        `batch` has `image` in [-1, 1], `label` and `key`.
        """
        mean, log_variance = self._encode(params, batch, train)
        # The reparameterised sample, equation 10.
        z = mean + jnp.exp(0.5 * log_variance) * normal(streams(batch['key'], 'posterior'), self.latent)
        return self._decode(params, z, batch, train), by_group(gaussian_kl(mean, log_variance))

    # The method.

    def conventions(self) -> dict[str, dict[str, Any]]:
        """The likelihood, which says what the decoder's output is."""
        return {'vae': {'likelihood': self.config.likelihood}}

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
        """State at step 0; of `batch` only shapes matter."""
        image, label = to_float(batch['image'][:1]), self._one_hot(batch['label'][:1])
        params = {
            'encoder': self.encoder.init(stream(rng, 'encoder'), image, label)['params'],
            'decoder': self.decoder.init(stream(rng, 'decoder'), jnp.zeros((1, *self.latent)), label)['params'],
        }
        if self.config.learn_scale:
            params['log_scale'] = jnp.asarray(math.log(self.config.scale), jnp.float32)
        net = create_net(params, self.tx, ema=True)
        return State(step=jnp.zeros((), jnp.int32), nets={'vae': net}, extra={}, frozen=frozen)

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        """One iteration."""
        c, problem = self.config, self.problem
        weight = c.beta * self.kl_weight(state.step)
        batch = keyed(batch, rng, jnp.arange(problem.batch_size))

        def loss(params, stats, batch):
            location, kl = self._bound(params, batch, train=True)
            log_prob = self.likelihood.log_prob(batch['image'], location, self._log_scale(params))
            value = weight * free_bits(kl, c.free_bits) - jnp.mean(log_prob)
            metrics = {
                'loss': value,
                'reconstruction': -jnp.mean(log_prob),
                'kl': jnp.mean(jnp.sum(kl, 1)),
                'mse': jnp.mean(mse(batch['image'], self.likelihood.mean(location))),
            }
            return value, (stats, metrics)

        net, metrics = step_averaged(
            state.nets['vae'], self.tx, loss, batch, problem=problem, section=c, step=state.step
        )
        metrics['beta'] = jnp.asarray(weight, jnp.float32)
        if c.learn_scale:
            metrics['scale'] = jnp.exp(net.params['log_scale'])
        return state.replace(step=state.step + 1, nets={'vae': net}), weighted(metrics)

    # From the averaged weights.

    knobs = (Knob('truncation', 1.0, 0.0, 2.0),)

    def _picture(self, params: Any, z: jax.Array, batch: Batch) -> jax.Array:
        return jnp.clip(self.likelihood.mean(self._decode(params, z, batch)), -1, 1)

    def generate(self, state: State, batch: Batch, rng: jax.Array, knobs: Knobs) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1], the likelihood's mean, of `seed` int32 [B] and `label` int32 [B, A].

        `truncation` is the temperature of z, its standard deviation.
        """
        z = normal(streams(sample_keys(rng, batch['seed']), 'z'), self.latent)
        return self._picture(state.nets['vae'].ema, scaled(z, knobs.get('truncation', 1.0)), batch)

    def evaluate(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """Figures of each picture, [B], from one latent each.

        `loss`: the negative evidence lower bound in nats, without beta and free bits; its parts, `reconstruction` and
        `kl`; `mse` of the likelihood's mean; `bits_per_dim`, an upper bound, where the likelihood gives 8-bit values a
        probability.
        """
        params, batch = state.nets['vae'].ema, keyed(batch, rng, batch['seed'])
        image, (location, kl) = batch['image'], self._bound(params, batch)
        kl, log_scale, model = jnp.sum(kl, 1), self._log_scale(params), self.likelihood
        reconstruction = -model.log_prob(image, location, log_scale)
        figures = {'loss': reconstruction + kl, 'reconstruction': reconstruction, 'kl': kl}
        figures['mse'] = mse(image, model.mean(location))
        if model.log_mass:
            figures['bits_per_dim'] = bits_per_dim(model.log_mass(image, location, log_scale) - kl, image[0].size)
        return figures

    def reconstruct(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1], decoded from the posterior means of `image` uint8 [B, H, W, 3] and `label`
        int32 [B, A]; deterministic."""
        params = state.nets['vae'].ema
        batch = batch | {'image': to_float(batch['image']), 'key': None}
        return self._picture(params, self._encode(params, batch)[0], batch)


def make(sections: Sections, problem: Problem) -> VAE:
    """Builds the method.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    c = sections.method
    likelihood = choose(LIKELIHOODS, c.likelihood, 'method.likelihood')
    kl_weight = parse_annealed(c.kl_weight, 'method.kl_weight', problem.steps, c.anneal)
    if min(kl_weight.start, kl_weight.end) < 0:
        raise UserError('method.kl_weight', f'{c.kl_weight!r} is negative, which rewards divergence', '0 leaves it out')
    encoder, decoder, latent = sections.model.nets(problem.resolution)
    return VAE(
        config=c,
        problem=problem,
        encoder=encoder,
        decoder=decoder,
        latent=latent,
        likelihood=likelihood,
        kl_weight=kl_weight,
        tx=make_optimizer(sections.optim['vae'], problem.steps),
    )


FAMILY = Family(method=VAEConfig, model=VAEModel, networks=('vae',), make=make)
