"""The critic of an adversarial method: a discriminator with all that its training needs.

It judges images together with a context, which may be labels or an image. What makes an adversarial method is chosen by
name: the loss (`losses.adversarial`), the penalty on the discriminator's gradient (`losses.penalties`), and the
augmentation of images before they are judged (`augment`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from productgen.augment import AugmentConfig, follow_sign, make_augment
from productgen.config import UserError, choose
from productgen.core.optim import OptimConfig, make_optimizer
from productgen.core.rng import streams
from productgen.core.schedule import Annealed, parse_annealed
from productgen.core.state import Net, PyTree, State
from productgen.core.step import step_net
from productgen.losses.adversarial import ADVERSARIAL, AdversarialLoss, Game
from productgen.losses.classification import cross_entropy
from productgen.losses.penalties import PENALTIES, Penalty
from productgen.methods.base import Batch, Frozen, Metrics, Problem, weighted
from productgen.methods.parts.averaging import check_not_negative
from productgen.nets.conditioning import Judgement
from productgen.published.backbone import Backbone

BACKBONE = 'backbone'  # its entry in `State.frozen`


@dataclasses.dataclass(frozen=True)
class CriticConfig:
    """The fields of a `method` section that describe the critic.

    Attributes:
      name: the method.
      loss: adversarial loss, by name (`losses.adversarial`).
      penalty: `none` or a penalty on the discriminator, by name (`losses.penalties`).
      penalty_weight: its weight, constant or annealed, `A->B`; `auto` is StyleGAN2-ADA's rule for R1, 0.0002 x pixels /
        batch size.
      penalty_interval: 1 makes the penalty part of every discriminator step; k > 1 gives it a step of its own every k
        iterations, with k times the weight (lazy regularisation, Karras et al. 2020).
      clip_weights: largest absolute value of a discriminator's weight (WGAN, Arjovsky et al. 2017: 0.01); 0 for no
        limit.
      anneal: fraction of the training over which values given as `A->B` move.
      augment: augmentation of real and fake images before the discriminator.
    """

    name: str
    loss: str = 'non_saturating'
    penalty: str = 'none'
    penalty_weight: float | str = '0'
    penalty_interval: int = 1
    clip_weights: float = 0.0
    anneal: float = 1.0
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)

    def __post_init__(self):
        choose({'none': None, **PENALTIES}, self.penalty, 'method.penalty')
        signed = choose(ADVERSARIAL, self.loss, 'method.loss').signed
        if self.penalty_interval < 1:
            raise UserError('method.penalty_interval', f'{self.penalty_interval} is less than 1')
        check_not_negative(self, 'clip_weights')
        if not 0 < self.anneal <= 1:
            raise UserError('method.anneal', f'{self.anneal} is not a fraction of the training, above 0 and at most 1')
        if self.penalty_weight == 'auto' and self.penalty not in ('none', 'r1'):
            raise UserError(
                'method.penalty_weight', f"'auto' is a rule for 'r1', not for {self.penalty!r}", 'give a number'
            )
        if self.augment.adaptive and not signed:
            raise UserError(
                'method.augment.target',
                f'adapts p to the sign of the logits, which has no meaning with {self.loss!r}',
                'set it to 0 and method.augment.p to a fixed probability',
            )


class Context(NamedTuple):
    """What the critic knows of each image besides its pixels.

    Attributes:
      keys: the samples' own, [B].
      condition: what the network is given with the image: one-hot labels [B, N], an image [B, H, W, C], or None.
      label: int [B, A], what a classifying network should predict, -1 where unknown; None for other networks.
    """

    keys: jax.Array
    condition: jax.Array | None = None
    label: jax.Array | None = None

    def of_real(self) -> Context:
        """The context of the real images, which are augmented independently of the fake ones."""
        return self._replace(keys=streams(self.keys, 'real'))


class Pictures(NamedTuple):
    """Images to judge: real and fake, [B, H, W, C] each, row by row in the same context."""

    real: jax.Array
    fake: jax.Array
    context: Context


class Phase(NamedTuple):
    """What the critic is given in an update.

    Attributes:
      step: updates before this one, int scalar.
      p: probability of an augmentation.
      label_weight: weight of the conditional part of the game, 0 to 1; the unconditional part, that of a network with a
        plain head, has weight 1.
      backbone: variables of the backbone; None without one.
    """

    step: jax.Array
    p: jax.Array | float
    label_weight: jax.Array | float = 1.0
    backbone: PyTree = None


@dataclasses.dataclass(frozen=True)
class Critic:
    """A discriminator, its objective and its optimiser; built by `make_critic`.

    Attributes:
      network: (image, condition, keys, train) -> `Judgement`; its running statistics are in the collection `stats`.
      loss: the adversarial loss of both players.
      tx: optimiser.
      penalty: penalty on the gradient of the logits; None for none.
      penalty_weight: its weight by step.
      penalty_interval: iterations between its own steps; 1 makes it part of every step.
      clip_weights: largest absolute value of a weight; 0 for no limit.
      classification: weight of the class terms of a classifying network.
      augment: (images [B, H, W, C], p, keys [B]) -> images.
      augment_p: p by step where it does not adapt, and its initial value where it does.
      augment_config: how p adapts.
      backbone: an untrained network whose maps of an image the discriminator is given instead of the image; or None.
    """

    network: nn.Module
    loss: AdversarialLoss
    tx: optax.GradientTransformation
    penalty: Penalty | None
    penalty_weight: Annealed
    penalty_interval: int
    clip_weights: float
    classification: float
    augment: Callable[[jax.Array, jax.Array | float, jax.Array], jax.Array]
    augment_p: Annealed
    augment_config: AugmentConfig
    backbone: Backbone | None = None

    # The probability of an augmentation, and its state where it adapts to the discriminator (ADA).

    @property
    def adaptive(self) -> bool:
        """Whether p adapts to how far the discriminator overfits."""
        return self.augment_config.adaptive

    def initial(self) -> dict[str, jax.Array]:
        """Entries of `State.extra` at step 0: p, and the sum of the signs of the real logits since p last moved."""
        if not self.adaptive:
            return {}
        return {'augment_p': jnp.asarray(self.augment_p.start, jnp.float32), 'sign_sum': jnp.zeros(())}

    def phase(self, state: State, label_weight: jax.Array | float = 1.0) -> Phase:
        """The values of the next update of a state."""
        p = state.extra['augment_p'] if self.adaptive else self.augment_p(state.step)
        return Phase(state.step, p, label_weight, state.frozen.get(BACKBONE))

    def frozen(self) -> dict[str, Frozen]:
        """Entry of `Method.frozen`: the backbone's variables."""
        if not self.backbone:
            return {}
        source = self.backbone.source
        return {BACKBONE: Frozen(source.shapes(), lambda: source.load()[0], training_only=True)}

    def adapted(
        self, extra: Mapping[str, jax.Array], sign: jax.Array | None, step: jax.Array, batch_size: int
    ) -> dict[str, jax.Array]:
        """The entries of `initial` after an update of `batch_size` images whose real logits had this mean sign."""
        return follow_sign(self.augment_config, extra, sign, step, batch_size) if self.adaptive else {}

    def logged(self, phase: Phase) -> dict[str, jax.Array]:
        """Metrics of an update besides those of its steps."""
        return {'augment_p': jnp.asarray(phase.p, jnp.float32)} if self.augment_config.name == 'ada' else {}

    # The game.

    def seen(self, backbone: PyTree, image: jax.Array) -> PyTree:
        """What the discriminator is given of images [B, H, W, C]: these, or their maps."""
        return self.backbone(backbone, image) if self.backbone else image

    def judge(
        self, params: PyTree, stats: PyTree, image: jax.Array, context: Context, phase: Phase
    ) -> tuple[Judgement, PyTree]:
        """Judges images [B, H, W, C] after augmentation, in training; returns the new statistics too.

        A condition that is an image goes through the same augmentation, with the same random numbers.
        """
        keys, condition = streams(context.keys, 'augment'), context.condition
        image = self.seen(phase.backbone, self.augment(image, phase.p, keys))
        if condition is not None and condition.ndim == 4:
            condition = self.augment(condition, phase.p, keys)
        variables, keys = {'params': params, 'stats': stats}, streams(context.keys, 'judge')
        judgement, new = self.network.apply(variables, image, condition, keys, train=True, mutable=['stats'])
        return judgement, new.get('stats', stats)

    def generator_loss(self, net: Net, pictures: Pictures, phase: Phase) -> tuple[jax.Array, jax.Array]:
        """What the generator of the fake images minimises, class terms included, and its adversarial part."""
        context = pictures.context
        fake, _ = self.judge(net.params, net.stats, pictures.fake, context, phase)
        real = fake
        if self.loss.paired:
            real, _ = self.judge(net.params, net.stats, pictures.real, context.of_real(), phase)
        value = _objective(self.loss.generator, real, fake, phase.label_weight)
        return value + self._class_loss([fake], context, phase), value

    def _class_loss(self, judgements: list[Judgement], context: Context, phase: Phase) -> jax.Array:
        """The weighted class terms (AC-GAN), 0 for a network that does not classify."""
        terms = [jnp.mean(cross_entropy(j.classes, context.label)) for j in judgements if j.classes]
        return self.classification * phase.label_weight * sum(terms, jnp.zeros(()))

    # The discriminator's steps. `show` maps rows of the batch to the pictures to judge.

    def step(
        self, net: Net, batch: Batch, show: Callable[[Batch], Pictures], phase: Phase, problem: Problem
    ) -> tuple[Net, dict[str, jax.Array]]:
        """One step of the discriminator; returns the values of its metrics too.

        Args:
          net: the discriminator.
          batch: arrays [B, ...].
          show: the pictures of rows of the batch.
          phase: the values of this update.
          problem: number of parts and of devices.
        """

        def loss(params, stats, batch):
            pictures = show(batch)
            fake, stats = self.judge(params, stats, pictures.fake, pictures.context, phase)
            real, stats = self.judge(params, stats, pictures.real, pictures.context.of_real(), phase)
            total = _objective(self.loss.discriminator, real, fake, phase.label_weight)
            metrics = {'loss': total}
            for name, judgement in (('real', real), ('fake', fake)):
                logit = judgement.logit if judgement.plain is None else judgement.plain
                metrics[f'logits/{name}'] = jnp.mean(logit)
                if self.loss.signed:
                    metrics[f'sign/{name}'] = jnp.mean(jnp.sign(logit))
            if real.classes:
                metrics['loss/classes'] = self._class_loss([real, fake], pictures.context, phase)
                total += metrics['loss/classes']
            total, penalty = self.with_penalty(total, params, stats, pictures, phase)
            return total, (stats, metrics | penalty)

        return self._step(net, loss, batch, problem)

    def turn(
        self, net: Net, batch: Batch, show: Callable[[Batch], Pictures], phase: Phase, problem: Problem, state: State
    ) -> tuple[Net, dict[str, jax.Array], Metrics]:
        """The discriminator's part of an iteration, `step`, `lazy_penalty` and what adapts, of `state` before it.

        Returns the discriminator, `State.extra` after the update, and metrics. Other arguments are those of `step`.
        """
        net, values = self.step(net, batch, show, phase, problem)
        net, penalty = self.lazy_penalty(net, batch, show, phase, problem)
        extra = state.extra | self.adapted(state.extra, values.get('sign/real'), phase.step, problem.batch_size)
        named = {f'{name}/discriminator': values.pop(name) for name in ('loss', 'grad_norm')}
        return net, extra, weighted(named | values | self.logged(phase)) | penalty

    def with_penalty(
        self, total: jax.Array, params: PyTree, stats: PyTree, pictures: Pictures, phase: Phase
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Adds the penalty to the discriminator's loss where it is part of every step; returns its metric too."""
        if not self.penalty or self.penalty_interval > 1:
            return total, {}
        value = self.penalty_value(params, stats, pictures, phase)
        return total + self.penalty_weight(phase.step) * value, {'loss/penalty': value}

    def penalty_value(self, params: PyTree, stats: PyTree, pictures: Pictures, phase: Phase) -> jax.Array:
        """The mean penalty; the gradient is that with respect to images before augmentation (as in StyleGAN2-ADA)."""
        context = pictures.context

        def logits(image):
            judgement, _ = self.judge(params, stats, image, context, phase)
            logit = judgement.logit
            if judgement.plain is not None:
                logit = judgement.plain + phase.label_weight * logit
            return jnp.mean(logit, tuple(range(1, logit.ndim)))  # [B]

        return jnp.mean(self.penalty(logits, pictures.real, pictures.fake, streams(context.keys, 'penalty')))

    def lazy_penalty(
        self, net: Net, batch: Batch, show: Callable[[Batch], Pictures], phase: Phase, problem: Problem
    ) -> tuple[Net, Metrics]:
        """The penalty's own step where it has one and it is due; arguments are those of `step`."""
        if not self.penalty or self.penalty_interval == 1:
            return net, {}
        due = phase.step % self.penalty_interval == 0
        step = lambda: self.penalty_step(net, batch, show, phase, problem)
        net, value = jax.lax.cond(due, step, lambda: (net, jnp.zeros(())))
        return net, weighted({'loss/penalty': value}, due)

    def penalty_step(
        self, net: Net, batch: Batch, show: Callable[[Batch], Pictures], phase: Phase, problem: Problem
    ) -> tuple[Net, jax.Array]:
        """A discriminator step on the penalty only, with `penalty_interval` times its weight; returns its value too."""

        def loss(params, stats, batch):
            value = self.penalty_value(params, stats, show(batch), phase)
            return self.penalty_weight(phase.step) * self.penalty_interval * value, (stats, {'loss': value})

        net, metrics = self._step(net, loss, batch, problem)
        return net, metrics['loss']

    def _step(self, net: Net, loss: Callable, batch: Batch, problem: Problem) -> tuple[Net, dict[str, jax.Array]]:
        net, metrics = step_net(net, self.tx, loss, batch, accumulate=problem.accumulate, devices=problem.devices)
        return self.clipped(net), metrics

    def clipped(self, net: Net) -> Net:
        """The discriminator with its weights clipped to the limit."""
        c = self.clip_weights
        return net.replace(params=jax.tree.map(lambda x: jnp.clip(x, -c, c), net.params)) if c else net


def _objective(player: Game, real: Judgement, fake: Judgement, label_weight: jax.Array | float) -> jax.Array:
    """The adversarial objective of a player, conditional and, where the network has a plain head, unconditional."""
    mean = lambda real, fake: jnp.mean(player(real.reshape(-1), fake.reshape(-1)))
    value = mean(real.logit, fake.logit)
    return value if real.plain is None else mean(real.plain, fake.plain) + label_weight * value


def make_critic(
    config: CriticConfig,
    network: nn.Module,
    optim: OptimConfig,
    problem: Problem,
    *,
    steps: int = 1,
    classification: float = 1.0,
    couples_images: bool = False,
    backbone: Backbone | None = None,
) -> Critic:
    """Builds a critic.

    Args:
      config: the `method` section.
      network: the discriminator.
      optim: its section of `optim`.
      problem: what the method is built for.
      steps: discriminator steps per iteration.
      classification: weight of the class terms of a classifying network.
      couples_images: the network normalises over the batch.
      backbone: see `Critic`.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    penalty = PENALTIES.get(config.penalty)
    if penalty and couples_images:
        raise UserError(
            'method.penalty',
            f'{config.penalty!r} is on the gradient of each image by itself, but the discriminator normalises over the '
            'batch (Gulrajani et al. 2017, section 4)',
            'set model.norm=layer, or method.penalty=none',
        )
    height, width = problem.resolution
    automatic = 0.0002 * height * width / problem.batch_size
    weight = automatic if config.penalty_weight == 'auto' else config.penalty_weight
    weight = parse_annealed(weight, 'method.penalty_weight', problem.steps, config.anneal)
    if penalty and (min(weight.start, weight.end) < 0 or weight.start == weight.end == 0):
        raise UserError(
            'method.penalty_weight', f'{config.penalty!r} needs a positive one, not {config.penalty_weight}'
        )
    if config.clip_weights and optim.freeze:
        raise UserError('method.clip_weights', "would change weights that the optimiser's freeze keeps", 'set it to 0')
    # In discriminator steps, as the optimiser counts.
    lazy_interval = config.penalty_interval * steps if penalty and config.penalty_interval > 1 else None
    return Critic(
        network=network,
        loss=ADVERSARIAL[config.loss],
        tx=make_optimizer(optim, problem.steps and problem.steps * steps, lazy_interval),
        penalty=penalty,
        penalty_weight=weight,
        penalty_interval=config.penalty_interval,
        clip_weights=config.clip_weights,
        classification=classification,
        augment=make_augment(config.augment),
        augment_p=parse_annealed(config.augment.p, 'method.augment.p', problem.steps, config.anneal),
        augment_config=config.augment,
        backbone=backbone,
    )
