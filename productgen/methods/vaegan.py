"""VAE-GAN: a variational autoencoder that compares pictures by a discriminator's features.

Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", ICML 2016. With the posterior sample z,
the prior sample z_p and the features Dis_l of one layer of the discriminator,

  L_prior = KL(q(z|x) || N(0, I))                                                   equation 6
  L_llike = -log N(Dis_l(x) | Dis_l(Dec(z)), I), up to a constant                   equations 7 and 8
  L_GAN   = log Dis(x) + log(1 - Dis(Dec(z))) + log(1 - Dis(Dec(z_p)))              section 2.4

the encoder descends L_prior + L_llike, the decoder gamma L_llike - L_GAN, the discriminator -L_GAN (algorithm 1). All
three gradients are taken at the same weights and the same random numbers, as there, so that XLA computes the forward
passes they share once, unless the batch is taken in parts. Deviations:

- The decoder's part of the game is by default the non-saturating one (Goodfellow et al. 2014), which has the same fixed
  point and does not vanish while the discriminator wins. Each loss of the game is a mean over the images it judges.
- Group instead of batch normalisation, so that pictures do not depend on each other; 4x4 convolutions for 5x5.
- Features are summed as published, with the Gaussian's factor of one half.
- Encoder, decoder and discriminator are given the labels where there are any, as in their section 4.2.
- The game can have another loss, a penalty and augmentation (`methods.parts.critic`). A penalty takes the pictures of
  z_p for fake ones. A picture and its reconstruction are augmented alike, so that their features remain comparable.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from flax import struct

from productgen.config import UserError
from productgen.core.optim import make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import normal, sample_keys, stream, streams
from productgen.core.sharding import replicate
from productgen.core.state import Net, PyTree, State, create_net
from productgen.core.step import average, ema_decay, step_net
from productgen.losses.elbo import gaussian_kl
from productgen.losses.pixel import mse
from productgen.methods.base import Batch, Family, Knob, Knobs, Method, Metrics, Problem, Sections, scaled, weighted
from productgen.methods.models.vae import VAEModel
from productgen.methods.parts.averaging import check_not_negative
from productgen.methods.parts.critic import Context, Critic, CriticConfig, Phase, Pictures, make_critic
from productgen.nets import vae as nets
from productgen.nets.conditioning import Judgement
from productgen.nets.layers import one_hot_labels

NETS = ('encoder', 'decoder', 'discriminator')


@dataclasses.dataclass(frozen=True)
class VAEGANConfig(CriticConfig):
    """The `method` section: that of the critic (`CriticConfig`) and these.

    Attributes:
      name: `vaegan`.
      gamma: weight of the learned similarity relative to the game, in the decoder's loss. The similarity is a sum over
        thousands of features, hence the small value.
      similarity: number of halvings, 1 or more, after which the discriminator's features are compared.
      ema_kimg: half-life of the averaged weights of encoder and decoder, thousands of images.
      ema_rampup: the half-life is at most this fraction of the images seen; 0 for no limit.
    """

    name: str = 'vaegan'
    gamma: float = 0.0005
    similarity: int = 2
    ema_kimg: float = 5.0
    ema_rampup: float = 0.05

    def __post_init__(self):
        super().__post_init__()
        check_not_negative(self, 'gamma', 'ema_kimg', 'ema_rampup')


@struct.dataclass
class FeatureJudgement(Judgement):
    """A judgement with the features [B, h, w, C] in which pictures are compared."""

    features: jax.Array | None = None


class Discriminator(nets.Discriminator):
    """The discriminator with the signature of a critic's network."""

    def __call__(
        self, image: jax.Array, label: jax.Array | None, keys: jax.Array | None = None, train: bool = False
    ) -> FeatureJudgement:
        """[B, H, W, 3] and one-hot labels [B, N] -> judgement; nothing depends on `keys` and `train`."""
        logit, features = super().__call__(image, label)
        return FeatureJudgement(logit, features=features)


@dataclasses.dataclass(frozen=True)
class VAEGAN(Method):
    """See the module; built by `make`.

    Attributes:
      config: the `method` section.
      problem: what it is built for.
      encoder: of pictures.
      decoder: of latents.
      latent: shape of one latent, (Z,) or (h, w, c).
      tx: optimisers of encoder and decoder.
      critic: judges pictures given their labels.
    """

    config: VAEGANConfig
    problem: Problem
    encoder: nets.Encoder
    decoder: nets.Decoder
    latent: tuple[int, ...]
    tx: Mapping[str, optax.GradientTransformation]
    critic: Critic

    # Forward passes.

    def _one_hot(self, label: jax.Array) -> jax.Array | None:
        return one_hot_labels(label, self.problem.labels)

    def _encode(self, params: PyTree, batch: Batch, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Mean and log-variance of the posterior, [B, *latent] each."""
        label = self._one_hot(batch['label'])
        return self.encoder.apply({'params': params}, batch['image'], label, batch['key'], train=train)

    def _decode(self, params: PyTree, z: jax.Array, batch: Batch, train: bool = False) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1]."""
        label = self._one_hot(batch['label'])
        return jnp.tanh(self.decoder.apply({'params': params}, z, label, batch.get('key'), train=train))

    def _drawn(self, params: PyTree, batch: Batch) -> jax.Array:
        """Images of latents from the prior, in training."""
        return self._decode(params, normal(streams(batch['key'], 'prior'), self.latent), self._apart(batch), train=True)

    def _apart(self, batch: Batch) -> Batch:
        """The rows with the keys of the images from the prior, which are independent of those of their pictures."""
        return batch | {'key': streams(batch['key'], 'drawn')}

    def _context(self, batch: Batch) -> Context:
        return Context(batch['key'], self._one_hot(batch['label']))

    def _terms(self, params: Mapping[str, PyTree], batch: Batch, phase: Phase) -> dict[str, jax.Array]:
        """The terms of the three losses, one value per picture, [B].

        Args:
          params: weights of all networks.
          batch: `image` in [-1, 1], `label` and `key`.
          phase: what the critic is given.
        """
        mean, log_variance = self._encode(params['encoder'], batch, train=True)
        posterior = mean + jnp.exp(0.5 * log_variance) * normal(streams(batch['key'], 'posterior'), self.latent)
        rebuilt = self._decode(params['decoder'], posterior, batch, train=True)
        drawn = self._drawn(params['decoder'], batch)

        def judge(image, rows):
            return self.critic.judge(params['discriminator'], {}, image, self._context(rows), phase)[0]

        real, fake, other = judge(batch['image'], batch), judge(rebuilt, batch), judge(drawn, self._apart(batch))
        per_picture = lambda x: jnp.sum(x.reshape(x.shape[0], -1), 1)
        return {
            'kl': per_picture(gaussian_kl(mean, log_variance)),
            'similarity': per_picture(0.5 * jnp.square(real.features - fake.features)),
            'mse': mse(batch['image'], rebuilt),
            'real': real.logit,
            'rebuilt': fake.logit,
            'drawn': other.logit,
        }

    def _loss(self, name: str, terms: dict[str, jax.Array]) -> jax.Array:
        """What the network of that name minimises, [B]: algorithm 1."""
        if name == 'encoder':
            return terms['kl'] + terms['similarity']
        player = self.critic.loss.generator if name == 'decoder' else self.critic.loss.discriminator
        value = 0.5 * (player(terms['real'], terms['rebuilt']) + player(terms['real'], terms['drawn']))
        return value + self.config.gamma * terms['similarity'] if name == 'decoder' else value

    # The method.

    def _optimizer(self, name: str) -> optax.GradientTransformation:
        return self.critic.tx if name == 'discriminator' else self.tx[name]

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
        """State at step 0; of `batch` only shapes matter."""
        image, label = to_float(batch['image'][:1]), self._one_hot(batch['label'][:1])
        networks = {
            'encoder': (self.encoder, image),
            'decoder': (self.decoder, jnp.zeros((1, *self.latent))),
            'discriminator': (self.critic.network, image),
        }
        made = {}
        for name, (network, x) in networks.items():
            params = network.init(stream(rng, name), x, label)['params']
            made[name] = create_net(params, self._optimizer(name), ema=name != 'discriminator')
        return State(step=jnp.zeros((), jnp.int32), nets=made, extra=self.critic.initial(), frozen=frozen)

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        """One iteration: a step of each network, all from the weights before it, and the penalty's where it has one."""
        c, problem, critic, step = self.config, self.problem, self.critic, state.step
        phase = critic.phase(state)
        rows = {'image': to_float(batch['image']), 'label': batch['label']}
        keyed = lambda rng: rows | {'key': sample_keys(rng, jnp.arange(problem.batch_size))}
        decay = ema_decay(step, problem.batch_size, c.ema_kimg, c.ema_rampup, problem.images_before)
        new, metrics = {}, {}
        for name in NETS:
            net, terms = self._step(name, state.nets, keyed(rng), phase)
            new[name] = average(net, decay) if name != 'discriminator' else critic.clipped(net)
            metrics |= {f'{key}/{name}': terms.pop(key) for key in ('loss', 'grad_norm')}
        extra = state.extra | critic.adapted(state.extra, terms.get('sign/real'), step, problem.batch_size)
        for key in ('real', 'rebuilt', 'drawn'):
            metrics[f'logits/{key}'] = terms.pop(key)
        metrics |= terms | critic.logged(phase)

        weights = {name: replicate(net.params) for name, net in new.items()}
        show = lambda batch: self._show(weights, batch)
        new['discriminator'], penalty = critic.lazy_penalty(
            new['discriminator'], keyed(stream(rng, 'penalty')), show, phase, problem
        )
        return state.replace(step=step + 1, nets=new, extra=extra), weighted(metrics) | penalty

    def _step(
        self, name: str, networks: Mapping[str, Net], batch: Batch, phase: Phase
    ) -> tuple[Net, dict[str, jax.Array]]:
        """A step of one network from the weights of all before the update; returns the values of metrics too."""
        old, problem = {key: net.params for key, net in networks.items()}, self.problem

        def loss(params, stats, batch):
            weights = {**old, name: params}
            terms = self._terms(weights, batch, phase)
            total = jnp.mean(self._loss(name, terms))
            metrics = {'loss': total} | {key: jnp.mean(x) for key, x in terms.items()}
            if name == 'discriminator':
                metrics |= {'sign/real': jnp.mean(jnp.sign(terms['real']))} if self.critic.adaptive else {}
                pictures = self._show(weights, batch)
                total, penalty = self.critic.with_penalty(total, params, stats, pictures, phase)
                metrics |= penalty
            return total, (stats, metrics)

        tx, parts = self._optimizer(name), {'accumulate': problem.accumulate, 'devices': problem.devices}
        return step_net(networks[name], tx, loss, batch, **parts)

    def _show(self, params: Mapping[str, PyTree], batch: Batch) -> Pictures:
        """The pictures at which a penalty is taken."""
        return Pictures(batch['image'], self._drawn(params['decoder'], batch), self._context(batch))

    # From the averaged weights.

    knobs = (Knob('truncation', 1.0, 0.0, 2.0),)

    def generate(self, state: State, batch: Batch, rng: jax.Array, knobs: Knobs) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1] of `seed` int32 [B] and `label` int32 [B, A].

        `truncation` is the temperature of z, its standard deviation.
        """
        z = normal(streams(sample_keys(rng, batch['seed']), 'z'), self.latent)
        return self._decode(state.nets['decoder'].ema, scaled(z, knobs.get('truncation', 1.0)), batch)

    def reconstruct(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1], decoded from the posterior means of `image` uint8 [B, H, W, 3] and `label`
        int32 [B, A]; deterministic."""
        batch = batch | {'image': to_float(batch['image']), 'key': None}
        mean, _ = self._encode(state.nets['encoder'].ema, batch)
        return self._decode(state.nets['decoder'].ema, mean, batch)


def make(sections: Sections, problem: Problem) -> VAEGAN:
    """Builds the method.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    c, m = sections.method, sections.model
    encoder, decoder, latent = m.nets(problem.resolution)
    if not 1 <= c.similarity <= encoder.levels:
        raise UserError(
            'method.similarity',
            f'the discriminator halves {encoder.levels} times, so there are no features after {c.similarity} halvings',
            f'choose 1 to {encoder.levels}',
        )
    discriminator = Discriminator(encoder.levels, c.similarity, m.channels, m.channel_max, m.groups)
    return VAEGAN(
        config=c,
        problem=problem,
        encoder=encoder,
        decoder=decoder,
        latent=latent,
        tx={name: make_optimizer(sections.optim[name], problem.steps) for name in ('encoder', 'decoder')},
        critic=make_critic(c, discriminator, sections.optim['discriminator'], problem),
    )


FAMILY = Family(method=VAEGANConfig, model=VAEModel, networks=NETS, make=make)
