"""VQ-VAE: pictures as grids of discrete codes, and a prior over the grids to draw from.

van den Oord et al., "Neural Discrete Representation Learning", NeurIPS 2017. The codebook follows the encoder as a
running mean (appendix A.1), so the loss is the first and third term of equation 3. As published, training has two
stages: the autoencoder alone, then the prior over its codes, alone.

What differs: the prior is a Transformer, not a PixelCNN, and knows the label; it models the codes of the averaged
encoder, since the averaged decoder makes the pictures; codes out of use are revived; the two stages may run side by
side. With a batch in parts the codebook still moves once an iteration, by all of the batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from productgen.config import UserError, build, choose
from productgen.core.optim import OptimConfig, make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream
from productgen.core.sharding import whole
from productgen.core.state import Net, State, create_net
from productgen.core.step import apply_gradients, average, ema_decay, gradients, step_net
from productgen.losses.pixel import Distance, mse, weighted
from productgen.methods.base import Batch, Problem
from productgen.nets.layers import one_hot_labels
from productgen.nets.transformer import Transformer, generate
from productgen.nets.vq import (
    Decoder,
    Encoder,
    create_codebook,
    move,
    perplexity,
    quantize,
    revive,
    tally,
)

AUTOENCODER = ('encoder', 'decoder')
METRICS = (
    'loss/autoencoder',
    'loss/prior',
    'grad_norm/encoder',
    'grad_norm/decoder',
    'grad_norm/prior',
    'mse',
    'commitment',
    'codes/perplexity',  # of the batch, at most the number of codes
    'codes/revived',
    'prior_bits_per_code',
)


@dataclasses.dataclass(frozen=True)
class VQVAEConfig:
    """The `method` section.

    Attributes:
      name: `vqvae`.
      reconstruction: weights of the distances that make up the reconstruction loss, by name (`losses.pixel`).
      commitment: weight beta of the commitment term (0.25 in the paper).
      decay: share of the old value in the running means of the codebook (0.99).
      revive: codes used less than this share of even use get new vectors; 0 leaves them (the paper).
      prior_start: share of the training after which the autoencoder stops and the prior begins; 0: both all along.
      ema_kimg: half-life of the averaged weights, thousands of images.
      ema_rampup: the half-life is at most this share of the images seen; 0 for no limit.
    """

    name: str = 'vqvae'
    reconstruction: dict = dataclasses.field(default_factory=lambda: {'mse': 4.0, 'l1': 0.0, 'charbonnier': 0.0, 'ssim': 0.0, 'laplacian': 0.0})
    commitment: float = 0.25
    decay: float = 0.99
    revive: float = 0.1
    prior_start: float = 0.35
    ema_kimg: float = 2.0
    ema_rampup: float = 0.05

    def __post_init__(self):
        for field in ('commitment', 'ema_kimg', 'ema_rampup'):
            if getattr(self, field) < 0:
                raise UserError(f'method.{field}', 'must not be negative')
        for field in ('decay', 'revive', 'prior_start'):
            if not 0 <= getattr(self, field) < 1:
                raise UserError(f'method.{field}', f'{getattr(self, field)} is not a share, 0 to below 1')


@dataclasses.dataclass(frozen=True)
class PriorModel:
    """The `model.prior` section.

    Attributes:
      width: channels.
      layers: blocks.
      heads: attention heads, dividing `width`.
      dropout: share of values dropped in training.
    """

    width: int = 128
    layers: int = 3
    heads: int = 4
    dropout: float = 0.0

    def __post_init__(self):
        for field in ('width', 'layers', 'heads'):
            if getattr(self, field) < 1:
                raise UserError(f'model.prior.{field}', 'must be at least 1')
        if self.width % self.heads:
            raise UserError('model.prior.heads', f'{self.heads} does not divide model.prior.width={self.width}')
        if not 0 <= self.dropout < 1:
            raise UserError('model.prior.dropout', f'{self.dropout} is not a share, 0 to below 1')


@dataclasses.dataclass(frozen=True)
class VQVAEModel:
    """The `model` section.

    Attributes:
      levels: halvings of the image's size down to the grid of codes.
      width: channels of encoder and decoder.
      blocks: residual blocks of each (2 in the paper).
      residual_width: channels inside them.
      codes: size K of the codebook.
      code_width: width D of a code vector.
      prior: the Transformer.
    """

    levels: int = 2
    width: int = 64
    blocks: int = 2
    residual_width: int = 32
    codes: int = 256
    code_width: int = 32
    prior: PriorModel = dataclasses.field(default_factory=PriorModel)

    def __post_init__(self):
        for field, least in (('levels', 1), ('width', 2), ('blocks', 0), ('residual_width', 1), ('codes', 2)):
            if getattr(self, field) < least:
                raise UserError(f'model.{field}', f'must be at least {least}')
        if self.code_width < 1:
            raise UserError('model.code_width', 'must be at least 1')


@dataclasses.dataclass(frozen=True)
class VQVAE:
    """See the module; built by `make`. `start` is the update from which the prior is trained; 0: both all along."""

    config: VQVAEConfig
    problem: Problem
    codes: int
    encoder: Encoder
    decoder: Decoder
    prior: Transformer
    tx: dict[str, optax.GradientTransformation]
    distance: Distance
    start: int

    @property
    def first_stage(self) -> int:
        """Updates of the autoencoder alone."""
        return self.start

    # Forward passes.

    def _encode(self, params: Any, image: jax.Array) -> jax.Array:
        """[B, H, W, 3] -> [B, h, w, D]."""
        return self.encoder.apply({'params': params}, image)

    def _decode(self, params: Any, vectors: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, H, W, 3]."""
        return self.decoder.apply({'params': params}, vectors)

    def _bits(self, params: Any, codes: jax.Array, label: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Mean bits the prior needs for a code of each grid [B, h, w], [B]."""
        codes = codes.reshape(len(codes), -1)  # [B, T]
        logits = self.prior.apply({'params': params}, codes, one_hot_labels(label, self.problem.labels), keys)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, codes), -1) / np.log(2)

    # The method.

    def init(self, rng: jax.Array, batch: Batch) -> State:
        """State at step 0; of `batch` only shapes matter."""
        image, label = to_float(batch['image'][:1]), one_hot_labels(batch['label'][:1], self.problem.labels)
        width = self.encoder.features
        grid = jnp.zeros((1, *self.prior.shape))
        inputs = {
            'encoder': (self.encoder, image),
            'decoder': (self.decoder, jnp.zeros((*grid.shape, width))),
            'prior': (self.prior, grid.astype(jnp.int32).reshape(1, -1), label),
        }
        nets = {
            name: create_net(net.init(stream(rng, name), *args)['params'], self.tx[name], ema=True)
            for name, (net, *args) in inputs.items()
        }
        # With the decoder, whose input it is, so that who takes over the one takes the other.
        codebook = create_codebook(stream(rng, 'codebook'), self.codes, width)
        nets['decoder'] = nets['decoder'].replace(stats={'codebook': codebook})
        extra = {'metrics': dict.fromkeys(METRICS, jnp.zeros(()))}  # the last of each stage, for the log
        return State(jnp.zeros((), jnp.int32), nets, extra, frozen={})

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        """One iteration; figures of a stage that does not run are its last, 0 before it has begun."""
        index = jnp.arange(self.problem.batch_size)
        rows = {'image': to_float(batch['image']), 'label': batch['label'], 'index': index}
        rows['key'] = sample_keys(stream(rng, 'prior'), index)
        autoencoder = lambda state: self._autoencoder_step(state, rows, stream(rng, 'revive'))
        prior = lambda state: self._prior_step(state, rows)
        if not self.start:
            state = prior(autoencoder(state))
        else:
            state = jax.lax.cond(state.step < self.start, autoencoder, prior, state)
        return state.replace(step=state.step + 1), state.extra['metrics']

    def _averaged(self, net: Net, done: jax.Array) -> Net:
        """The net with its average moved, after `done` earlier steps."""
        c = self.config
        return average(net, ema_decay(done, self.problem.batch_size, c.ema_kimg, c.ema_rampup))

    def _autoencoder_step(self, state: State, batch: Batch, key: jax.Array) -> State:
        """Encoder, decoder and codebook."""
        c, problem, positions = self.config, self.problem, int(np.prod(self.prior.shape))
        codebook, all_codes = state.nets['decoder'].stats['codebook'], jnp.arange(self.codes)
        vectors = codebook.vectors
        # For each code the vector of the batch that it gets should it be dead, as a number over all of them.
        count = problem.batch_size * positions
        picks = jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(sample_keys(key, all_codes))

        def loss(params, stats, batch):
            z = self._encode(params['encoder'], batch['image'])
            codes, quantized, commitment = quantize(z, vectors)
            output = self._decode(params['decoder'], quantized)
            value = jnp.mean(self.distance(output, batch['image']) + c.commitment * commitment)
            share, total = tally(z, codes[..., None] == all_codes)
            # A vector lies in one part of a batch, and is 0 in the others: the mean over the parts is its share.
            here = batch['index'][:, None] == picks // positions  # [B, K]
            vector = z.reshape(len(z), positions, -1)[jnp.argmax(here, 0), picks % positions]  # [K, D]
            picked = jnp.where(jnp.any(here, 0)[:, None], vector, 0) / (len(z) * positions)
            metrics = {
                'loss/autoencoder': value,
                'mse': jnp.mean(mse(output, batch['image'])),
                'commitment': jnp.mean(commitment),
                'tally': (share, total, picked),
            }
            return value, (stats, metrics)

        params = {name: state.nets[name].params for name in AUTOENCODER}
        grads, _, metrics = gradients(loss, params, {}, batch, problem.accumulate, problem.devices)
        nets = dict(state.nets)
        for name in AUTOENCODER:
            net = apply_gradients(nets[name], self.tx[name], grads[name])
            nets[name] = self._averaged(net, state.step)
            metrics[f'grad_norm/{name}'] = optax.tree.norm(grads[name])

        share, total, picked = metrics.pop('tally')
        codebook, dead = revive(move(codebook, share, total, c.decay), picked * count, c.revive)
        metrics |= {'codes/perplexity': perplexity(share), 'codes/revived': jnp.sum(dead).astype(jnp.float32)}
        nets['decoder'] = nets['decoder'].replace(stats={'codebook': codebook})
        return state.replace(nets=nets, extra={'metrics': state.extra['metrics'] | metrics})

    def _prior_step(self, state: State, batch: Batch) -> State:
        """The prior, on codes of the averaged encoder."""
        encoder = whole(state.nets['encoder'].ema)
        vectors = whole(state.nets['decoder'].stats['codebook'].vectors)

        def loss(params, stats, batch):
            codes, _, _ = quantize(self._encode(encoder, batch['image']), vectors)
            bits = jnp.mean(self._bits(params, codes, batch['label'], batch['key']))
            value = bits * np.log(2)
            return value, (stats, {'loss/prior': value, 'prior_bits_per_code': bits})

        problem = self.problem
        net, metrics = step_net(
            state.nets['prior'],
            self.tx['prior'],
            loss,
            batch,
            accumulate=problem.accumulate,
            devices=problem.devices,
        )
        metrics['grad_norm/prior'] = metrics.pop('grad_norm')
        nets = state.nets | {'prior': self._averaged(net, state.step - self.start)}
        return state.replace(nets=nets, extra={'metrics': state.extra['metrics'] | metrics})

    # From the averaged weights.

    def sample(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """`image` [B, H, W, 3] of `seed` [B], `label` [B, A] and, optionally, `truncation` [B]: the temperature."""
        keys = sample_keys(rng, batch['seed'])
        temperature = batch.get('truncation', jnp.ones(keys.shape))
        label = one_hot_labels(batch['label'], self.problem.labels)
        codes = generate(self.prior, state.nets['prior'].ema, keys, label, temperature)
        vectors = state.nets['decoder'].stats['codebook'].vectors[codes.reshape(-1, *self.prior.shape)]  # [B, h, w, D]
        return {'image': jnp.clip(self._decode(state.nets['decoder'].ema, vectors), -1, 1)}

    def reconstruct(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """Images [B, H, W, 3] by way of their codes; nothing about it is random."""
        return jnp.clip(self._through_codes(state, to_float(batch['image']))[0], -1, 1)

    def evaluate(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """[B] each: `loss` in nats a code, of the prior alone where it is trained alone, of both otherwise;
        `autoencoder_loss`, its parts `mse` and `commitment`, and `prior_bits_per_code`."""
        image = to_float(batch['image'])
        output, codes, commitment = self._through_codes(state, image)
        autoencoder = self.distance(output, image) + self.config.commitment * commitment
        bits = self._bits(state.nets['prior'].ema, codes, batch['label'], None)
        return {
            'loss': bits * np.log(2) + (0 if self.start else autoencoder),
            'autoencoder_loss': autoencoder,
            'mse': mse(output, image),
            'commitment': commitment,
            'prior_bits_per_code': bits,
        }

    def _through_codes(self, state: State, image: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Reconstructions [B, H, W, 3], codes [B, h, w] and commitment terms [B] of images."""
        z = self._encode(state.nets['encoder'].ema, image)
        codes, quantized, commitment = quantize(z, state.nets['decoder'].stats['codebook'].vectors)
        return self._decode(state.nets['decoder'].ema, quantized), codes, commitment


def make(config: Mapping[str, Any], problem: Problem) -> VQVAE:
    """Builds the method from the sections `method`, `model` and `optim` of a config.

    Raises:
      UserError: a value that cannot be used, alone or with the others.
    """
    c = build(VQVAEConfig, config['method'], 'method')
    m = build(VQVAEModel, config['model'], 'model')
    height, width = problem.resolution
    unit = 2**m.levels
    if height % unit or width % unit:
        near = [max(round(side / unit), 1) * unit for side in (width, height)]
        raise UserError(
            'data.resolution',
            f'{width}x{height} cannot be halved {m.levels} times (model.levels)',
            f'the nearest that can is {near[0]}x{near[1]}',
        )
    try:
        distance = weighted(c.reconstruction)
    except (TypeError, ValueError) as error:
        raise UserError('method.reconstruction', f'{error}') from None
    start = _start(c, problem)
    share = {name: start or problem.steps for name in AUTOENCODER}  # the updates that each net takes
    share['prior'] = problem.steps - start if start else problem.steps
    optim = {name: build(OptimConfig, choose(config['optim'], name, 'optim'), f'optim.{name}') for name in share}
    p = m.prior
    return VQVAE(
        config=c,
        problem=problem,
        codes=m.codes,
        encoder=Encoder(m.levels, m.width, m.blocks, m.residual_width, m.code_width),
        decoder=Decoder(m.levels, m.width, m.blocks, m.residual_width),
        prior=Transformer(m.codes, (height // unit, width // unit), p.width, p.layers, p.heads, p.dropout),
        tx={name: make_optimizer(optim[name], share[name]) for name in share},
        distance=distance,
        start=start,
    )


def _start(c: VQVAEConfig, problem: Problem) -> int:
    """The update from which on the prior is trained."""
    if not c.prior_start:
        return 0
    if problem.steps is None:
        raise UserError(
            'method.prior_start',
            ('give train.duration in images, steps or epochs, not in time, or 0 here to train the prior all along'),
        )
    return min(max(round(c.prior_start * problem.steps), 1), problem.steps - 1)
