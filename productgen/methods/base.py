"""The interface between methods and everything that runs them.

A method is a frozen dataclass of Linen modules and optax transforms. Every method has the members of `Method`. The
protocols below say what else a method can do; each is checked by `isinstance` where it is used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from productgen.config import UserError
from productgen.core.optim import OptimConfig
from productgen.core.state import PyTree, State

Batch = dict[str, jax.Array]
Shapes = dict[str, jax.ShapeDtypeStruct]


class Metric(NamedTuple):
    """A value of one update and its weight in a mean over updates; weight 0 says that it was not due.

    Both are float32 scalars. The value must be finite even where the weight is 0.
    """

    value: jax.Array
    weight: jax.Array


Metrics = dict[str, Metric]


def weighted(metrics: Mapping[str, jax.Array], weight: jax.Array | float = 1.0) -> Metrics:
    """Metrics of one weight, from their values."""
    weight = jnp.asarray(weight, jnp.float32)
    return {name: Metric(jnp.asarray(value, jnp.float32), weight) for name, value in metrics.items()}


@dataclasses.dataclass(frozen=True)
class Knob:
    """A setting of a request that a method understands, such as truncation.

    Attributes:
      name: as in the config sections of the tasks, `truncation`.
      default: the value at which it has no effect, or its usual one.
      low: smallest value.
      high: largest value.
      static: part of the program instead of one of its arguments, as the number of steps of a sampler is: another value
        is another compilation.
      remedy: what to do where a value is out of range.
    """

    name: str
    default: float
    low: float
    high: float
    static: bool = False
    remedy: str = ''

    def check(self, value: float, field: str) -> None:
        """Raises a UserError that names `field` where a value is out of range."""
        if not self.low <= value <= self.high:
            raise UserError(field, f'{value} is not from {self.low:g} to {self.high:g}', self.remedy)


# Values of knobs by name: Python numbers where they are part of the program (static ones, and any at its default),
# otherwise arrays [B], one value a row.
Knobs = Mapping[str, Any]


def knob_values(knobs: Iterable[Knob], section: Any) -> dict[str, float]:
    """The values that a typed section such as `sample` gives to knobs, by name."""
    return {knob.name: getattr(section, knob.name) for knob in knobs}


def scaled(x: jax.Array, value: jax.Array | float) -> jax.Array:
    """x [B, ...] times a knob: a number, or one value a row."""
    return x * (value if isinstance(value, float | int) else value.reshape(-1, *[1] * (x.ndim - 1)))


@dataclasses.dataclass(frozen=True)
class Problem:
    """What a method is built for, besides its own config sections.

    Attributes:
      resolution: (H, W) of the images.
      labels: number of values of each attribute to condition on; empty where unconditional.
      batch_size: images an update, over all devices.
      accumulate: equal parts the batch is taken in.
      steps: updates in the whole training; None where it is bounded by time.
      devices: devices the batch is divided over.
      columns: shape (H, W, C) of what the data set has for each picture, by name: `image`, `mask`, `input`, `target`;
        empty where it has an RGB `image` only.
      float32: compute in float32 whatever the config says, as where differences of pictures are measured.
      images_before: images trained on less the steps times the batch size: not 0 where the batch size was another one
        at earlier steps. It stays the same until the batch size changes again.
    """

    resolution: tuple[int, int]
    labels: tuple[int, ...]
    batch_size: int
    accumulate: int = 1
    steps: int | None = None
    devices: int = 1
    columns: Mapping[str, tuple[int, int, int]] = dataclasses.field(default_factory=dict)
    float32: bool = False
    images_before: int = 0

    def images(self, step: int) -> int:
        """Images trained on after so many updates."""
        return step * self.batch_size + self.images_before

    def shape(self, name: str) -> jax.ShapeDtypeStruct:
        """uint8 [B, H, W, C] of what the data set has under a name.

        Raises:
          UserError: it has nothing under this name.
        """
        columns = self.columns or {'image': (*self.resolution, 3)}
        if name not in columns:
            raise UserError(
                f'data.{name}' if name in ('input', 'target') else 'data.source',
                f'the method needs {name!r} for every picture, and the data set has {", ".join(columns)}',
                'choose another data set, or set data.input and data.target to what it has',
            )
        return jax.ShapeDtypeStruct((self.batch_size, *columns[name]), np.uint8)

    @property
    def label(self) -> jax.ShapeDtypeStruct:
        """int32 [B, A], one column an attribute; -1 where unknown."""
        return jax.ShapeDtypeStruct((self.batch_size, len(self.labels)), np.int32)


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Weights that are only read, such as those of a published network.

    Attributes:
      shapes: pytree of their shapes and dtypes, known without their file.
      load: returns them, arrays on the host; raises a UserError where a file is missing or not what it should be.
      training_only: a trained model is used without them.
    """

    shapes: PyTree
    load: Callable[[], PyTree]
    training_only: bool = False


@dataclasses.dataclass(frozen=True)
class Stage:
    """The first of two stages of a training.

    Attributes:
      steps: its updates; 0 where there is one stage only.
      field: the setting that decides it.
    """

    steps: int = 0
    field: str = ''


class Method(Protocol):
    """What every method has; to be subclassed for the members that have a default.

    Attributes:
      problem: what it was built for.
      knobs: the settings of a request that it understands.
    """

    problem: Problem
    knobs: tuple[Knob, ...] = ()

    def inputs(self) -> Shapes:
        """What a batch of training holds, by name, with shapes [B, ...] and dtypes: by default `image` and `label`.

        The data pipeline loads what is named here: `image`, `input`, `target`, `mask` (uint8 [B, H, W, C]) and `label`
        (int32 [B, A]).
        """
        return {'image': self.problem.shape('image'), 'label': self.problem.label}

    def frozen(self) -> dict[str, Frozen]:
        """Weights that are only read, such as published features.

        They are loaded outside `jit` and are arguments of `init` and `update` (`State.frozen`). They are not written
        into checkpoints; a run records their digest.
        """
        return {}

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
        """State at step 0; of `batch` only shapes matter."""
        ...

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        """One iteration; `rng` is this step's key."""
        ...

    @property
    def first_stage(self) -> Stage:
        """The first stage of a method that trains in two; its pictures say nothing of the finished model."""
        return Stage()

    @property
    def untrained(self) -> tuple[str, ...]:
        """Networks that are never trained: they have to come whole from another run."""
        return ()

    def conventions(self) -> dict[str, dict[str, Any]]:
        """What the outputs of a network mean where no shape shows it, by network: {'vae': {'likelihood': ...}}."""
        return {}

    def in_one_part(self) -> Method:
        """The same method with each batch taken in one part and one step, whose program has no loop over parts."""
        return dataclasses.replace(self, problem=dataclasses.replace(self.problem, accumulate=1))


@runtime_checkable
class Generates(Protocol):
    """A method that makes pictures from seeds."""

    knobs: tuple[Knob, ...]

    def generate(self, state: State, batch: Batch, rng: jax.Array, knobs: Knobs) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1] of `seed` int32 [B] and `label` int32 [B, A], from the averaged weights.

        Image i depends only on its own row of the batch and of the knobs. Missing knobs have their default.
        """
        ...


@runtime_checkable
class Translates(Protocol):
    """A method that makes a picture from a picture."""

    knobs: tuple[Knob, ...]

    def translate(self, state: State, batch: Batch, rng: jax.Array, knobs: Knobs) -> jax.Array:
        """Images [B, H', W', C] in [-1, 1] of `input` uint8 [B, H, W, C'], from the averaged weights."""
        ...


@runtime_checkable
class Restores(Protocol):
    """A method that restores what it has degraded, and `Translates` degraded pictures of any size.

    Attributes:
      scale: sides of a restored picture, as multiples of those of the input.
      stride: tiles of a picture begin at multiples of so many pixels.
      reach: how far away pixels of the input can change the output.
    """

    scale: int
    stride: int
    reach: int

    def degrade(self, state: State, batch: Batch, rng: jax.Array) -> Batch:
        """What `translate` is given, uint8 [B, h, w, C] by name, of a batch of `inputs()` with `seed` int32 [B].

        The original picture is `image`. Row i depends only on its own row of the batch.
        """
        ...


@runtime_checkable
class HasLatents(Protocol):
    """A method whose pictures come from an intermediate latent, one vector a layer: it can mix, walk and truncate."""

    num_latents: int

    def draw(self, keys: jax.Array) -> jax.Array:
        """One z a key, [B, Z]."""
        ...

    def latents(self, state: State, z: jax.Array, label: jax.Array, truncation: jax.Array | float) -> jax.Array:
        """z [B, Z], label int32 [B, A], truncation psi [B] or a number -> latents [B, L, W], averaged weights."""
        ...

    def synthesize(self, state: State, ws: jax.Array, keys: jax.Array) -> jax.Array:
        """Latents [B, L, W] and noise keys [B] -> images [B, H, W, 3] in [-1, 1]."""
        ...


LARGER = ('psnr', 'ssim')  # figures that are larger where better


@runtime_checkable
class Evaluable(Protocol):
    """A method with figures of its own on held-out pictures."""

    def evaluate(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """Figures of each picture of a batch of `inputs()` with `seed` int32 [B], [B] each, from the averaged weights.

        `loss` and others; smaller is better, except for those of `LARGER`. Figure i depends only on its own row.
        """
        ...


@runtime_checkable
class Represents(Protocol):
    """A method whose features describe what a picture shows."""

    def represent(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """`image` uint8 [B, H, W, 3] -> features [B, D], averaged weights; row i depends only on picture i."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """A method that predicts the value of every attribute of `Problem.labels`."""

    def classify(self, state: State, batch: Batch, rng: jax.Array) -> list[jax.Array]:
        """`image` uint8 [B, H, W, 3] -> logits [B, n] of each attribute, averaged weights."""
        ...


@runtime_checkable
class Reconstructs(Protocol):
    """A method that encodes a picture and decodes it again."""

    def reconstruct(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """A batch of `inputs()` with `seed` int32 [B] -> images [B, H, W, 3] in [-1, 1], averaged weights."""
        ...


@dataclasses.dataclass(frozen=True)
class Sections:
    """The typed sections of a config that a method is built from.

    Attributes:
      method: the `method` section.
      model: the `model` section.
      optim: the `optim` section, by network.
    """

    method: Any
    model: Any
    optim: Mapping[str, OptimConfig]


@dataclasses.dataclass(frozen=True)
class Family:
    """An entry of `METHODS`: the sections that a method reads, and how it is built.

    Attributes:
      method: dataclass of the `method` section.
      model: dataclass of the `model` section, or one for each `model.name`.
      networks: the networks that are trained, each with a section in `optim`.
      make: (sections, problem) -> method; raises UserError where a value cannot be used, by itself or with the others.
    """

    method: type
    model: type | Mapping[str, type]
    networks: tuple[str, ...]
    make: Callable[[Sections, Problem], Method]


def parameter_counts(state: PyTree) -> dict[str, int]:
    """Trainable parameters of each network of a (possibly abstract) state."""
    return {name: sum(x.size for x in jax.tree.leaves(net.params)) for name, net in state.nets.items()}
