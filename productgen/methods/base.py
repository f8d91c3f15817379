"""The seam between the one training loop and every method."""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

import jax

from productgen.core.state import PyTree, State

Batch = dict[str, jax.Array]


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
    """

    resolution: tuple[int, int]
    labels: tuple[int, ...]
    batch_size: int
    accumulate: int = 1
    steps: int | None = None
    devices: int = 1


class Method(Protocol):
    """A frozen dataclass holding Linen modules and optax transforms.

    One that trains in stages may tell in `first_stage` the updates of the first, whose pictures say nothing of the
    finished model; one with networks that are never trained names them in `untrained`: they come from another run.

    Batches: `image` uint8 [B, H, W, 3], `label` int32 [B, A], one column an attribute of `Problem.labels`, -1 where
    unknown; for sampling `seed` int32 [B] instead of `image`.
    """

    def init(self, rng: jax.Array, batch: Batch) -> State:
        """State at step 0."""
        ...

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        """One iteration; `rng` is this step's key. Returns the new state and scalar metrics."""
        ...


@runtime_checkable
class Sampling(Protocol):
    """A method that makes pictures."""

    def sample(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """Named images [B, H, W, 3] in [-1, 1] from the averaged weights; sample i depends on `seed[i]` alone."""
        ...


@runtime_checkable
class StyleMethod(Protocol):
    """A method whose pictures come from an intermediate latent, one vector a layer: it can mix, walk and truncate."""

    num_latents: int

    def latents(self, state: State, z: jax.Array, label: jax.Array, truncation: jax.Array) -> jax.Array:
        """z [B, Z], label int32 [B, A], truncation psi [B] -> averaged-weight latents [B, L, W]."""
        ...

    def draw(self, keys: jax.Array) -> jax.Array:
        """One z a key, [B, Z]."""
        ...

    def synthesize(self, state: State, ws: jax.Array, keys: jax.Array) -> jax.Array:
        """Latents [B, L, W] and noise keys [B] -> images [B, H, W, 3] in [-1, 1]."""
        ...


@runtime_checkable
class Evaluable(Protocol):
    """A method that can be measured on pictures it was not trained on."""

    def evaluate(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """Figures of each picture of a batch such as `update` takes, [B] each, from the averaged weights: `loss` and
        others, smaller is better. Picture i depends on its own row of the batch and `batch['seed'][i]` alone."""
        ...


@runtime_checkable
class Representing(Protocol):
    """A method whose features tell what a picture shows."""

    def represent(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """`image` uint8 [B, H, W, 3] -> features [B, D], averaged weights; row i depends on picture i alone."""
        ...


@runtime_checkable
class Reconstructing(Protocol):
    """A method that can bring a picture to codes and back."""

    def reconstruct(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """A batch such as `update` takes, with `seed` int32 [B] -> images [B, H, W, 3] in [-1, 1], averaged weights."""
        ...


def parameter_counts(state: PyTree) -> dict[str, int]:
    """Trainable parameters of each network of a (possibly abstract) state."""
    return {name: sum(x.size for x in jax.tree.leaves(net.params)) for name, net in state.nets.items()}
