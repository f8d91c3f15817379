"""The typed sections of a config that every method has: `train`, `sample` and `eval`."""

from __future__ import annotations

import dataclasses

from productgen.config import UserError, choose
from productgen.config.durations import parse_duration
from productgen.config.ranges import parse_ranges
from productgen.metrics.memorisation import LEAST

OUTPUTS = ('grid', 'png', 'mix', 'walk')
FORMATS = ('gif', 'mp4')
COMBINATIONS = ('mixture', 'average')
REFERENCES = ('train', 'held_out')
TRUNKS = ('', 'alex', 'vgg', 'squeeze')
MAX_SEED = 2**31 - 1  # seeds are int32 on the device


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The `train` section. Every amount is a duration: '200kimg', '5000steps', '3epochs', '10min'.

    Attributes:
      batch_size: images an update, over all devices.
      accumulate: equal parts each batch is taken in, to save memory; on CPUs 2 to 4 are also faster, where images are
        32 x 32 or larger and their share of the batch then fits the caches.
      duration: length of the training.
      log_every: between lines of the log, metrics and TensorBoard points.
      sample_every: between sample grids.
      checkpoint_every: between checkpoints.
      keep: newest checkpoints kept, at least 2.
      grid_columns: pictures a row of the sample grid.
      grid_rows: rows; with labels each row is one value of the first attribute.
      init_from: workdir of a run whose weights training starts from, or WORKDIR:STEP; see
        `productgen.train.finetune`. Empty starts afresh.
      init_nets: the networks that start from it, comma separated, or `all`.
      validate_every: between comparisons with held-out pictures, see `productgen.validate`; empty for never.
      validate_items: held-out pictures, and samples, that are compared at most.
      stop_on: the figure (`swd`, `frechet_distance`, or one of the method's such as `loss`) whose best checkpoint is
        kept and which ends the training when it no longer falls; empty for neither.
      patience: validations in a row without a new best `stop_on` that end the training.
      shard_state: divide weights, averages and optimiser state over the devices instead of having all on each; see
        `productgen.core.sharding`.
    """

    batch_size: int = 32
    accumulate: int = 1
    duration: str = '100kimg'
    log_every: str = '1kimg'
    sample_every: str = '5kimg'
    checkpoint_every: str = '10kimg'
    keep: int = 2
    grid_columns: int = 8
    grid_rows: int = 16
    init_from: str = ''
    init_nets: str = 'all'
    validate_every: str = ''
    validate_items: int = 1000
    stop_on: str = ''
    patience: int = 5
    shard_state: bool = False

    def __post_init__(self):
        for field in ('batch_size', 'accumulate', 'grid_columns', 'grid_rows', 'validate_items', 'patience'):
            if getattr(self, field) < 1:
                raise UserError(f'train.{field}', 'must be at least 1')
        if self.stop_on and not self.validate_every:
            raise UserError(
                'train.stop_on', f'{self.stop_on!r} is measured by validation', 'set train.validate_every too'
            )


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """The `sample` section, read by `--mode=sample`.

    Attributes:
      seeds: numbers and ranges, `0-63` or `3,5,10-19`; a seed is a picture.
      labels: what to make, `mug` or `label=mug,colour=red`; several kinds are separated by `;`. `grid` and `png` make
        every kind of every seed, `mix` and `walk` take them in turn. Attributes that are not mentioned, and all where
        this is empty, are those of training pictures, drawn by the seed.
      truncation: psi, 0 (the average picture) to 1 (everything the model knows); up to 2 it exaggerates. It scales the
        latent's distance from its mean, and is the temperature of a VAE's z and of autoregressive priors; diffusion
        has none.
      guidance: scale of classifier-free guidance, for diffusion trained with labels; 1 is none.
      denoising_steps: for diffusion; network evaluations a picture, twice as many where `guidance` is not 1.
      output: `grid`, `png` (single files), `mix` (style mixing: the first half of the seeds in rows, the second in
        columns) or `walk` (an animation from seed to seed and back to the first).
      columns: pictures a row of a grid.
      batch_size: pictures made at a time.
      mix_layers: layers that `mix` takes from the columns, such as `0-3` for shape or `4-` for colour.
      frames: frames from one seed to the next in `walk`.
      fps: frames a second; a GIF rounds them to a whole number of hundredths of a second and has at most 50.
      format: `gif` or `mp4`, for `walk`.
      out: where to write; empty is `generated` in the workdir.
      step: checkpoint to use; 0 is the newest that can be read, -1 the best one by `train.stop_on`.
      also: further generators, comma separated: `runs/b`, `runs/b:40000` (that step of it) or `:30000` (another step of
        this run); see `combine`.
      combine: `mixture`, where picture i is made by generator (seed i modulo their number), or `average`, one generator
        with the mean of the weights of all.
    """

    seeds: str = '0-63'
    labels: str = ''
    truncation: float = 1.0
    guidance: float = 1.0
    denoising_steps: int = 50
    output: str = 'grid'
    columns: int = 8
    batch_size: int = 32
    mix_layers: str = '0-3'
    frames: int = 24
    fps: int = 24
    format: str = 'gif'
    out: str = ''
    step: int = 0
    also: str = ''
    combine: str = 'mixture'

    def __post_init__(self):
        parse_ranges(self.seeds, 'sample.seeds', MAX_SEED)
        for field, names in (('output', OUTPUTS), ('format', FORMATS), ('combine', COMBINATIONS)):
            choose(dict.fromkeys(names), getattr(self, field), f'sample.{field}')
        for field in ('columns', 'batch_size', 'frames', 'fps', 'denoising_steps'):
            if getattr(self, field) < 1:
                raise UserError(f'sample.{field}', 'must be at least 1')
        if not 0 <= self.truncation <= 2:
            raise UserError('sample.truncation', f'{self.truncation} is not from 0 to 2')
        if self.guidance < 0:
            raise UserError('sample.guidance', f'{self.guidance} is negative', '1 is no guidance')
        if self.step < -1:
            raise UserError('sample.step', f'{self.step} is no step', '0 is the newest checkpoint, -1 the best')
        if self.output == 'walk' and self.format == 'gif' and self.fps > 50:
            raise UserError(
                'sample.fps', f'a GIF has at most 50 frames a second, not {self.fps}', 'use sample.format=mp4'
            )

    def seed_list(self) -> list[int]:
        """The seeds, in their order."""
        return parse_ranges(self.seeds, 'sample.seeds', MAX_SEED)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """The `eval` section, read by `--mode=eval`; `features` and `reference` also by validation while training.

    Attributes:
      features: what measures: workdir of a run of configs/classifier.py, or WORKDIR:STEP; or `inception`, or
        `inception:FILE`, with the published weights, whose Frechet distance is FID.
      images: a folder of pictures to measure; empty measures what the run in the workdir generates.
      originals: a folder with the true picture of each of `images`, of the same file name: the report compares each
        pair. Empty for none.
      reference: real pictures that generated ones are compared with, `train` or `held_out`.
      count: pictures of each set at most; Frechet distances can be compared at one count only.
      floor: also measure as many real pictures that are not in the reference, what a perfect generator would come to.
        There may be few of these; False measures `count` pictures whatever there are.
      truncation: psi of the generated pictures, as in `sample.truncation`; 1 is what figures are usually given for.
      truncations: further psi to measure, comma separated, for a plot of quality against diversity; empty for none.
      path_pairs: pairs of pictures that the perceptual path length is taken of, some thousands; 0 for none.
      lpips: trunk of LPIPS, `alex`, `vgg` or `squeeze`, with its published weights: pairs of pictures are also measured
        by it, and path lengths by it instead of by `features`. Empty for neither.
      recognition: length of the training of a classifier on generated pictures, such as `20kimg`, whose accuracy on
        real ones is the classification accuracy score; empty for none.
      batch_size: pictures at a time.
      against: an earlier report (`report.json`) of the same protocol to stand beside this one.
      out: where to write; empty is `eval` in the workdir.
    """

    features: str = ''
    images: str = ''
    originals: str = ''
    reference: str = 'train'
    count: int = 2000
    floor: bool = True
    truncation: float = 1.0
    truncations: str = ''
    path_pairs: int = 0
    lpips: str = ''
    recognition: str = ''
    batch_size: int = 64
    against: str = ''
    out: str = ''

    def __post_init__(self):
        choose(dict.fromkeys(REFERENCES), self.reference, 'eval.reference')
        choose(dict.fromkeys(TRUNKS), self.lpips, 'eval.lpips')
        if self.path_pairs == 1:
            raise UserError('eval.path_pairs', 'one pair is too few', 'give some thousands, or 0 for none')
        for field, least in (('count', LEAST + 1), ('batch_size', 1), ('path_pairs', 0)):
            if getattr(self, field) < least:
                raise UserError(f'eval.{field}', f'must be at least {least}')
        for field, values in (('truncation', [self.truncation]), ('truncations', self.truncation_list())):
            for value in values:
                if not 0 <= value <= 2:
                    raise UserError(f'eval.{field}', f'{value} is not from 0 to 2')
        if self.originals and not self.images:
            raise UserError('eval.originals', 'of which pictures? Set eval.images to the folder of those to measure')
        if self.recognition and parse_duration(self.recognition, 'eval.recognition').seconds is not None:
            raise UserError('eval.recognition', 'give it in images, steps or epochs: generated and real pictures alike')

    def truncation_list(self) -> list[float]:
        """`truncations` in rising order.

        Raises:
          UserError: one of them is no number.
        """
        try:
            return sorted({float(part) for part in filter(str.strip, self.truncations.split(','))})
        except ValueError:
            raise UserError(
                'eval.truncations', f"expected numbers such as '0.5,0.7,1', got {self.truncations!r}"
            ) from None
