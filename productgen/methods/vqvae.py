"""VQ-VAE: pictures as grids of discrete codes, and a prior over the grids to draw from.

van den Oord et al., "Neural Discrete Representation Learning", NeurIPS 2017. The codebook follows the encoder as a
running mean (appendix A.1), so the loss is the first and third term of equation 3. As published, training has two
stages: first the autoencoder, then the prior over its codes.

Deviations: the prior is a Transformer instead of a PixelCNN, and is conditioned on the label; it models the codes of
the averaged encoder, since the averaged decoder makes the pictures; unused codes are revived; both stages can be
trained together. With `train.accumulate` the codebook still moves once an iteration, by all vectors of the
batch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from productgen.config import UserError
from productgen.core.optim import make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream
from productgen.core.sharding import replicate
from productgen.core.state import Net, PyTree, State, create_net
from productgen.core.step import apply_gradients, average, ema_decay, gradients
from productgen.losses import pixel
from productgen.methods.base import Batch, Family, Knob, Knobs, Method, Metrics, Problem, Sections, Stage, weighted
from productgen.methods.models.vqvae import VQVAEModel
from productgen.methods.parts.averaging import check_not_negative, keyed, step_averaged
from productgen.methods.parts.stages import first_stage_steps, of_own_stage, when
from productgen.nets import transformer
from productgen.nets.layers import one_hot_labels
from productgen.nets.vq import Decoder, Encoder, create_codebook, move, perplexity, quantize, revive, tally

AUTOENCODER = ('encoder', 'decoder')


@dataclasses.dataclass(frozen=True)
class VQVAEConfig:
    """The `method` section.

    Attributes:
      name: `vqvae`.
      reconstruction: weights of the distances that make up the reconstruction loss, by name (`losses.pixel`);
        those that are missing are 0.
      commitment: weight beta of the commitment term (0.25 in the paper).
      decay: weight of the old value in the running means of the codebook (0.99).
      revive: codes used less than this fraction of even use get new vectors; 0 leaves them (the paper).
      prior_start: fraction of the training after which the autoencoder stops and the prior begins; 0 trains both from
        beginning to end.
      ema_kimg: half-life of the averaged weights, thousands of images.
      ema_rampup: the half-life is at most this fraction of the images seen; 0 for no limit.
    """

    name: str = 'vqvae'
    reconstruction: dict = dataclasses.field(
        default_factory=lambda: dict.fromkeys(pixel.RECONSTRUCTION, 0.0) | {'mse': 4.0}
    )
    commitment: float = 0.25
    decay: float = 0.99
    revive: float = 0.1
    prior_start: float = 0.35
    ema_kimg: float = 2.0
    ema_rampup: float = 0.05

    def __post_init__(self):
        check_not_negative(self, 'commitment', 'ema_kimg', 'ema_rampup')
        try:
            pixel.weighted(self.reconstruction)
        except (TypeError, ValueError) as error:
            raise UserError('method.reconstruction', f'{error}') from None
        # All names, so that a section equals one that leaves out weights of 0.
        missing = {name: 0.0 for name in pixel.RECONSTRUCTION if name not in self.reconstruction}
        object.__setattr__(self, 'reconstruction', self.reconstruction | missing)
        for field in ('decay', 'revive', 'prior_start'):
            if not 0 <= getattr(self, field) < 1:
                raise UserError(f'method.{field}', f'{getattr(self, field)} is not a fraction, 0 to below 1')


@dataclasses.dataclass(frozen=True)
class VQVAE(Method):
    """See the module; built by `make`.

    `start` is the update at which the prior takes the autoencoder's place; 0 where both are trained together.
    """

    config: VQVAEConfig
    problem: Problem
    codes: int
    encoder: Encoder
    decoder: Decoder
    prior: transformer.Transformer
    tx: dict[str, optax.GradientTransformation]
    distance: pixel.Distance
    start: int

    @property
    def first_stage(self) -> Stage:
        """The updates in which only the autoencoder is trained."""
        return Stage(self.start, 'method.prior_start')

    # Forward passes.

    def _encode(self, params: Any, image: jax.Array) -> jax.Array:
        """[B, H, W, 3] -> [B, h, w, D]."""
        return self.encoder.apply({'params': params}, image)

    def _decode(self, params: Any, vectors: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, H, W, 3]."""
        return self.decoder.apply({'params': params}, vectors)

    def _bits(self, params: Any, codes: jax.Array, label: jax.Array, keys: jax.Array | None) -> jax.Array:
        """The prior's mean code length in bits for the codes of each grid [B, h, w], [B]."""
        codes = codes.reshape(len(codes), -1)  # [B, T]
        logits = self.prior.apply({'params': params}, codes, one_hot_labels(label, self.problem.labels), keys)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, codes), -1) / np.log(2)

    # The method.

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
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
        # The codebook belongs to the decoder, whose input it is, so that fine-tuning takes over both or neither.
        codebook = create_codebook(stream(rng, 'codebook'), self.codes, width)
        nets['decoder'] = nets['decoder'].replace(stats={'codebook': codebook})
        return State(jnp.zeros((), jnp.int32), nets, {}, frozen)

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        """One iteration: a step of the autoencoder and one of the prior, those that are due."""
        index = jnp.arange(self.problem.batch_size)
        rows = keyed(batch, stream(rng, 'prior'), index) | {'index': index}
        first, second = (state.step < self.start, state.step >= self.start) if self.start else (True, True)
        learn = lambda: self._autoencoder_step(state, rows, stream(rng, 'revive'))
        nets, metrics = when(first, learn, {name: state.nets[name] for name in AUTOENCODER})
        predict = lambda: self._prior_step(state, nets, rows)
        prior, prior_metrics = when(second, predict, state.nets['prior'])
        return state.replace(step=state.step + 1, nets={**nets, 'prior': prior}), metrics | prior_metrics

    def _autoencoder_step(self, state: State, batch: Batch, key: jax.Array) -> tuple[dict[str, Net], Metrics]:
        """Encoder, decoder and codebook."""
        c, problem, positions = self.config, self.problem, int(np.prod(self.prior.shape))
        codebook, all_codes = state.nets['decoder'].stats['codebook'], jnp.arange(self.codes)
        vectors = codebook.vectors
        # The vector of the batch that replaces each code should it be unused, as a number over all of them.
        count = problem.batch_size * positions
        picks = jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(sample_keys(key, all_codes))

        def loss(params, stats, batch):
            z = self._encode(params['encoder'], batch['image'])
            codes, quantized, commitment = quantize(z, vectors)
            output = self._decode(params['decoder'], quantized)
            value = jnp.mean(self.distance(output, batch['image']) + c.commitment * commitment)
            usage, total = tally(z, codes[..., None] == all_codes)
            # A vector is in one part of a batch, and 0 in the others; divided by the vectors of a part, the mean over
            # the parts is the vector divided by those of the batch.
            here = batch['index'][:, None] == picks // positions  # [B, K]
            vector = z.reshape(len(z), positions, -1)[jnp.argmax(here, 0), picks % positions]  # [K, D]
            picked = jnp.where(jnp.any(here, 0)[:, None], vector, 0) / (len(z) * positions)
            metrics = {
                'loss/autoencoder': value,
                'mse': jnp.mean(pixel.mse(output, batch['image'])),
                'commitment': jnp.mean(commitment),
                'tally': (usage, total, picked),
            }
            return value, (stats, metrics)

        params = {name: state.nets[name].params for name in AUTOENCODER}
        grads, _, metrics = gradients(loss, params, {}, batch, problem.accumulate, problem.devices)
        nets = {}
        decay = ema_decay(state.step, problem.batch_size, c.ema_kimg, c.ema_rampup, problem.images_before)
        for name in AUTOENCODER:
            net = apply_gradients(state.nets[name], self.tx[name], grads[name])
            nets[name] = average(net, decay)
            metrics[f'grad_norm/{name}'] = optax.tree.norm(grads[name])

        usage, total, picked = metrics.pop('tally')
        codebook, dead = revive(move(codebook, usage, total, c.decay), picked * count, c.revive)
        # The perplexity is of the batch, at most the number of codes.
        metrics |= {'codes/perplexity': perplexity(usage), 'codes/revived': jnp.sum(dead)}
        nets['decoder'] = nets['decoder'].replace(stats={'codebook': codebook})
        return nets, weighted(metrics)

    def _prior_step(self, state: State, nets: dict[str, Net], batch: Batch) -> tuple[Net, Metrics]:
        """The prior, on codes of the averaged encoder."""
        encoder, vectors = replicate(nets['encoder'].ema), replicate(nets['decoder'].stats['codebook'].vectors)

        def loss(params, stats, batch):
            codes, _, _ = quantize(self._encode(encoder, batch['image']), vectors)
            bits = jnp.mean(self._bits(params, codes, batch['label'], batch['key']))
            value = bits * np.log(2)
            return value, (stats, {'loss/prior': value, 'prior_bits_per_code': bits})

        net, step = state.nets['prior'], state.step - self.start
        own = of_own_stage(self.problem, self.start)
        net, metrics = step_averaged(net, self.tx['prior'], loss, batch, problem=own, section=self.config, step=step)
        metrics['grad_norm/prior'] = metrics.pop('grad_norm')
        return net, weighted(metrics)

    # From the averaged weights.

    knobs = (Knob('truncation', 1.0, 0.0, 2.0),)

    def generate(self, state: State, batch: Batch, rng: jax.Array, knobs: Knobs) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1] of `seed` int32 [B] and `label` int32 [B, A].

        `truncation` is the temperature of the prior.
        """
        keys = sample_keys(rng, batch['seed'])
        temperature = jnp.broadcast_to(jnp.asarray(knobs.get('truncation', 1.0), jnp.float32), keys.shape)
        label = one_hot_labels(batch['label'], self.problem.labels)
        codes = transformer.generate(self.prior, state.nets['prior'].ema, keys, label, temperature)
        vectors = state.nets['decoder'].stats['codebook'].vectors[codes.reshape(-1, *self.prior.shape)]  # [B, h, w, D]
        return jnp.clip(self._decode(state.nets['decoder'].ema, vectors), -1, 1)

    def reconstruct(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1], decoded from the codes of `image` uint8 [B, H, W, 3]; deterministic."""
        return jnp.clip(self._through_codes(state, to_float(batch['image']))[0], -1, 1)

    def evaluate(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """Figures of each picture, [B].

        `loss` in nats a code: that of the prior where it is trained in a stage of its own, otherwise the sum of both;
        `autoencoder_loss`, its parts `mse` and `commitment`, and `prior_bits_per_code`.
        """
        image = to_float(batch['image'])
        output, codes, commitment = self._through_codes(state, image)
        autoencoder = self.distance(output, image) + self.config.commitment * commitment
        bits = self._bits(state.nets['prior'].ema, codes, batch['label'], None)
        return {
            'loss': bits * np.log(2) + (0 if self.start else autoencoder),
            'autoencoder_loss': autoencoder,
            'mse': pixel.mse(output, image),
            'commitment': commitment,
            'prior_bits_per_code': bits,
        }

    def _through_codes(self, state: State, image: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Reconstructions [B, H, W, 3], codes [B, h, w] and commitment terms [B] of images."""
        z = self._encode(state.nets['encoder'].ema, image)
        codes, quantized, commitment = quantize(z, state.nets['decoder'].stats['codebook'].vectors)
        return self._decode(state.nets['decoder'].ema, quantized), codes, commitment


def make(sections: Sections, problem: Problem) -> VQVAE:
    """Builds the method.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    c, m = sections.method, sections.model
    encoder, decoder, prior = m.nets(problem.resolution)
    start = first_stage_steps(c.prior_start, problem, 'method.prior_start')
    # Schedules run over the updates of the network's own stage.
    steps = {name: start or problem.steps for name in AUTOENCODER}
    steps['prior'] = problem.steps - start if start else problem.steps
    return VQVAE(
        config=c,
        problem=problem,
        codes=m.codes,
        encoder=encoder,
        decoder=decoder,
        prior=prior,
        tx={name: make_optimizer(sections.optim[name], count) for name, count in steps.items()},
        distance=pixel.weighted(c.reconstruction),
        start=start,
    )


FAMILY = Family(method=VQVAEConfig, model=VQVAEModel, networks=(*AUTOENCODER, 'prior'), make=make)
