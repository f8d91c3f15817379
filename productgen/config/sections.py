"""The typed sections that every config has, whatever its method: `train`, `sample` and `eval`."""

from __future__ import annotations

import dataclasses

from productgen.config import UserError, choose
from productgen.config.durations import parse_duration
from productgen.config.ranges import parse_ranges

OUTPUTS = ('grid', 'png', 'mix', 'walk')
FORMATS = ('gif', 'mp4')
COMBINATIONS = ('mixture', 'average')
REFERENCES = ('train', 'held_out')
TRUNKS = ('', 'alex', 'vgg', 'squeeze')
MAX_SEED = 2**31 - 1  # seeds are int32 on the device
MAX_SIDE = 8192  # pixels
MAX_BATCH = 100_000  # pictures
MAX_SHEET = 10_000  # pictures


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The `train` section. Every amount is a duration: '200kimg', '5000steps', '3epochs', '10min'.

    Attributes:
      batch_size: images per update, over all devices.
      accumulate: split each batch into this many equal parts and add up their gradients: less memory. On CPUs 2 to 4
        parts are also faster for images of 32 x 32 or larger, as a part then fits the caches.
      duration: length of the training.
      log_every: interval of the log, metrics and TensorBoard points.
      sample_every: interval of sample grids.
      checkpoint_every: interval of checkpoints.
      keep: number of checkpoints to keep, the newest ones; at least 2.
      grid_columns: pictures per row of a sample grid.
      grid_rows: rows of a sample grid; with labels each row shows one value of the first attribute.
      init_from: start from the weights of another run, WORKDIR or WORKDIR:STEP; see `productgen.train.finetune`. Empty
        for a random start.
      init_nets: networks to take from that run, comma separated, or `all`.
      validate_every: interval of comparisons with held-out pictures, see `productgen.train.validate`; empty for never.
      validate_items: largest number of held-out pictures, and of samples, to compare.
      stop_on: figure to minimise (`swd`, `frechet_distance`, or one of the method's, such as `loss`): the checkpoint
        with the smallest is kept, and training stops when it no longer improves. Empty for neither.
      patience: number of validations in a row without improvement of `stop_on` before training stops.
      shard_state: shard weights, averages and optimiser state over the devices instead of replicating them; see
        `productgen.core.sharding`.

    Raises:
      UserError: a number or duration that is not above 0 or too large, or `stop_on` without `validate_every`.
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
        for field in ('duration', 'log_every', 'sample_every', 'checkpoint_every', 'validate_every'):
            text = getattr(self, field)
            if (text or field != 'validate_every') and not parse_duration(text, f'train.{field}').value:
                never = ', or leave it empty for never' if field == 'validate_every' else ''
                raise UserError(f'train.{field}', f'{text!r} is nothing', f'give more than 0{never}')
        _check_batch('train', self.batch_size)
        if self.grid_columns * self.grid_rows > MAX_SHEET:
            sheet = f'{self.grid_columns} x {self.grid_rows} (train.grid_columns x train.grid_rows)'
            raise UserError('train.grid_rows', f'a sheet of {sheet} pictures is too large, the most are {MAX_SHEET:,}')
        if self.stop_on and not self.validate_every:
            raise UserError(
                'train.stop_on', f'{self.stop_on!r} is measured by validation', 'set train.validate_every too'
            )


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """The `sample` section, read by `--mode=sample`.

    Attributes:
      seeds: numbers and ranges, `0-63` or `3,5,10-19`; one picture per seed.
      labels: which labels to generate, `mug` or `label=mug,colour=red`; several are separated by `;`. `grid` and `png`
        make every one of them for every seed, `mix` and `walk` assign them to the seeds in turn. Attributes that are
        not stated, and all of them if this is empty, are those of training pictures drawn by the seed. As in CSV files,
        a name that has `,`, `;` or `=` in it or begins with a quote is put in double quotes, in which `""` is a quote:
        `"shoes, women";"12"" plate"`. Without them `12" plate` is a name too, as is `shoes, women` where it is the
        whole request, or all between two `;`.
      truncation: psi, from 0 (the average picture) to 1 (full variety); up to 2 exaggerates. It scales the distance of
        the latent from its mean; for VAEs and autoregressive priors it is the temperature. Diffusion does not use it.
      guidance: scale of classifier-free guidance, for diffusion trained with labels; 1 for none.
      denoising_steps: steps of a diffusion sampler per picture; each evaluates the network once, with guidance twice.
      noise: effect of the dropout with which a method translates pictures at random, 0 (none) to 1 (as in training).
      reverse: translate from target to input, for methods that do both; evaluation measures both anyway.
      output: `grid`, `png` (one file per picture), `mix` (style mixing: the first half of the seeds in rows, the second
        in columns) or `walk` (an animation from seed to seed and back to the first).
      columns: pictures per row of a grid.
      batch_size: pictures per batch.
      mix_layers: layers that `mix` takes from the columns, such as `0-3` for shape or `4-` for colour.
      frames: frames from one seed to the next in `walk`.
      fps: frames per second; a GIF allows at most 50, and rounds the time between frames to hundredths of a second.
      format: `gif` or `mp4`, for `walk`.
      out: output folder; empty for `generated` in the workdir.
      step: checkpoint to use; 0 for the newest readable one, -1 for the best one by `train.stop_on`.
      also: further generators, comma separated: `runs/b`, `runs/b:40000` (a step of it) or `:30000` (another step of
        this run); see `combine`.
      combine: `mixture`, where generator i of n makes the pictures of the seeds with seed mod n = i, or `average`, one
        generator with the mean of all weights.

    Raises:
      UserError: an unknown name, a number out of range, or more than 50 frames per second in a GIF.
    """

    seeds: str = '0-63'
    labels: str = ''
    truncation: float = 1.0
    guidance: float = 1.0
    denoising_steps: int = 50
    noise: float = 1.0
    reverse: bool = False
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
        _check_batch('sample', self.batch_size)
        if self.frames > MAX_SHEET:
            raise UserError('sample.frames', f'{self.frames:,} frames between two seeds are more than {MAX_SHEET:,}')
        if not 0 <= self.truncation <= 2:
            raise UserError('sample.truncation', f'{self.truncation} is not from 0 to 2')
        if self.guidance < 0:
            raise UserError('sample.guidance', f'{self.guidance} is negative', '1 is no guidance')
        if self.step < -1:
            raise UserError('sample.step', f'{self.step} is not a step', '0 is the newest checkpoint, -1 the best')
        if self.output == 'walk' and self.format == 'gif' and self.fps > 50:
            raise UserError(
                'sample.fps', f'a GIF has at most 50 frames a second, not {self.fps}', 'use sample.format=mp4'
            )

    def seed_list(self) -> list[int]:
        """`seeds` as numbers, in the order of the text."""
        return parse_ranges(self.seeds, 'sample.seeds', MAX_SEED)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """The `eval` section, read by `--mode=eval`; validation during training reads `features` and `reference` too.

    Attributes:
      features: the feature network, see docs/features.md: WORKDIR or WORKDIR:STEP of a run of configs/classifier.py;
        `small`, which is part of the project; or one with published weights: `efficientnet`, `vgg` (both in
        requirements-weights.txt), or `inception`, whose Frechet distance is FID; `NAME:FILE` reads a file of the
        user's. `auto` takes the first of `efficientnet`, `vgg` and `small` whose file is there, and never downloads.
        Empty for what needs no features: sliced Wasserstein distance, diversity, figures of products and copies by
        pixels.
      images: a folder of pictures to measure; empty to measure pictures generated by the run in the workdir.
      originals: a folder with the original of each picture in `images`, under the same file name: the report compares
        each pair. Empty for none.
      reference: real pictures to compare with, `train` or `held_out`.
      count: largest number of pictures in each set; Frechet distances are comparable at equal counts only.
      floor: also measure real pictures that are not in the reference, as many as of the measured set: the figures of a
        perfect generator. Where there are few of these, the measured set is as small; False to use `count` pictures, or
        where no pictures are held out.
      truncation: psi of the generated pictures, as `sample.truncation`; figures are usually reported at 1.
      truncations: further values of psi to measure, comma separated, for a plot of quality against diversity; empty for
        none.
      path_pairs: number of pairs of pictures for the perceptual path length, some thousands; 0 to skip it.
      lpips: trunk of LPIPS with its published weights, `alex`, `vgg` or `squeeze`: also measures pairs of pictures by
        it, and path lengths by it instead of `features`. Empty for neither.
      recognition: length of training of a classifier on generated pictures, such as `20kimg`, whose accuracy on real
        pictures is the classification accuracy score; empty to skip it.
      batch_size: pictures per batch.
      against: an earlier report (`report.json`) of the same protocol to show next to this one.
      out: output folder; empty for `eval` in the workdir.

    Raises:
      UserError: an unknown name, a number out of range, or settings that do not go together.
    """

    features: str = 'auto'
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
        for field, least in (('count', 1), ('batch_size', 1), ('path_pairs', 0)):
            if getattr(self, field) < least:
                raise UserError(f'eval.{field}', f'must be at least {least}')
        _check_batch('eval', self.batch_size)
        for field, values in (('truncation', [self.truncation]), ('truncations', self.truncation_list())):
            for value in values:
                if not 0 <= value <= 2:
                    raise UserError(f'eval.{field}', f'{value} is not from 0 to 2')
        if self.originals and not self.images:
            raise UserError('eval.originals', 'of which pictures? Set eval.images to the folder to measure')
        if self.recognition and parse_duration(self.recognition, 'eval.recognition').seconds is not None:
            raise UserError(
                'eval.recognition', 'give it in images, steps or epochs, the same for generated and real pictures'
            )

    def truncation_list(self) -> list[float]:
        """`truncations` as numbers, sorted, without repetition.

        Raises:
          UserError: one of them is not a number.
        """
        try:
            return sorted({float(part) for part in filter(str.strip, self.truncations.split(','))})
        except ValueError:
            raise UserError(
                'eval.truncations', f"expected numbers such as '0.5,0.7,1', got {self.truncations!r}"
            ) from None


def _check_batch(section: str, size: int) -> None:
    """Raises a UserError where a batch would not fit anywhere."""
    if size > MAX_BATCH:
        raise UserError(f'{section}.batch_size', f'{size:,} is more than {MAX_BATCH:,}, the largest value')
