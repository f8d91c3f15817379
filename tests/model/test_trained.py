"""A trained model on arrays: results are those of its method, knobs share a program, errors name the setting."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import open_run, train
from toy import FAMILY, Toy, make, toy_config

from productgen.config import UserError
from productgen.core.pixels import to_float, to_uint8
from productgen.core.rng import sample_keys, stream
from productgen.methods import METHODS, Classifies, Generates, HasLatents, Reconstructs, Represents, Translates
from productgen.methods.base import Knob, scaled
from productgen.model.config import resolve
from productgen.model.ensemble import open_ensemble
from productgen.model.trained import Trained

TRACED = []  # the knobs of each trace of `Able.generate`


@dataclasses.dataclass(frozen=True)
class Able(Toy):
    """A toy with every capability but style latents, and a static knob."""

    knobs = (Knob('truncation', 1.0, 0.0, 1.5, remedy='lower it'), Knob('denoising_steps', 50, 1, 1000, static=True))

    def generate(self, state, batch, rng, knobs):
        TRACED.append(dict(knobs))
        return super().generate(state, batch, rng, knobs) * (1 - 1 / (1 + knobs.get('denoising_steps', 50)))

    def translate(self, state, batch, rng, knobs):
        """The negative, with noise of the seed."""
        noise = jax.vmap(lambda key: jax.random.normal(key, ()))(sample_keys(rng, batch['seed']))
        noise = scaled(noise[:, None, None, None] / 20, knobs.get('truncation', 1.0))
        return noise - to_float(batch['input']) / 2

    def represent(self, state, batch, rng):
        return jnp.mean(to_float(batch['image']), (1, 2)) + jnp.mean(state.nets['painter'].ema['canvas'])

    def classify(self, state, batch, rng):
        means = jnp.mean(to_float(batch['image']), (1, 2, 3))
        return [means[:, None] * state.nets['painter'].ema['embed'].sum(1)]


@pytest.fixture(scope='module', autouse=True)
def families():
    able = lambda sections, problem: Able(**vars(make(sections, problem)))
    METHODS['toy'] = dataclasses.replace(FAMILY, make=able)
    yield
    del METHODS['toy']


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """Of a run of the toy as it is, which has the same weights."""
    folder = tmp_path_factory.mktemp('trained') / 'run'
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, 'toy', FAMILY)
        train(toy_config(), folder)
    return folder


@pytest.fixture(scope='module')
def trained(workdir):
    return Trained.open(workdir, batch_size=4)


@pytest.fixture(scope='module')
def pictures():
    """Six real pictures and their labels."""
    run = open_run(toy_config())
    batch = run.batches().load(run.held_out[:6])
    return batch['image'], batch['label']


def key(trained):
    return stream(jax.random.key(trained.model.config.seed), 'sample')


def close(a, b):
    """Another size of a batch may round otherwise, by a grey level."""
    assert a.dtype == np.uint8
    np.testing.assert_allclose(a.astype(int), np.asarray(b).astype(int), atol=1)


def test_the_newest_checkpoint_is_opened_or_that_of_a_step(trained, workdir):
    assert trained.step == 6 and Trained.open(workdir, 3).step == 3
    assert trained.weights == Trained.open(workdir, 6).weights != Trained.open(workdir, 3).weights
    assert trained.state.nets['painter'].params is None  # only what pictures are made from is in memory


def test_images_are_those_of_generate(trained):
    seeds, label = np.array([5, 0, 9, 2, 7, 1]), np.arange(6, dtype=np.int32)[:, None]
    images = trained.generate(seeds, label, truncation=0.5)
    batch = {'seed': jnp.asarray(seeds, jnp.int32), 'label': jnp.asarray(label)}
    expected = trained.model.method.generate(trained.state, batch, key(trained), {'truncation': 0.5})
    assert images.shape == (6, 16, 16, 3) and len(np.unique(images, axis=0)) == 6
    close(images, to_uint8(expected))
    assert np.array_equal(np.stack(list(trained.iterate(seeds, label, truncation=0.5))), images)


def test_without_labels_they_are_drawn_from_the_training_set(trained):
    label = trained.model.facts.labels.draw(range(5))
    assert np.array_equal(trained.generate(range(5)), trained.generate(range(5), label))


def test_other_results_are_those_of_the_method_too(trained, pictures):
    images, label = pictures
    method, rows = trained.model.method, {'image': jnp.asarray(images), 'label': jnp.asarray(label)}
    close(trained.reconstruct(images, label), to_uint8(method.reconstruct(trained.state, rows, key(trained))))
    unknown = rows | {'label': jnp.full_like(rows['label'], -1)}
    close(trained.reconstruct(images), to_uint8(method.reconstruct(trained.state, unknown, key(trained))))
    features = trained.represent(images)
    assert features.shape == (6, 3)
    np.testing.assert_allclose(features, method.represent(trained.state, rows, key(trained)), rtol=1e-5)
    probabilities = trained.classify(images)
    (logits,) = method.classify(trained.state, rows, key(trained))
    assert list(probabilities) == ['label'] and probabilities['label'].shape == (6, 14)
    np.testing.assert_allclose(probabilities['label'], jax.nn.softmax(logits), rtol=1e-5)
    np.testing.assert_allclose(probabilities['label'].sum(1), 1, rtol=1e-5)


def test_images_are_translated_one_seed_a_row(trained):
    images = np.random.default_rng(0).integers(0, 256, (6, 5, 7, 1), np.uint8)
    made = trained.translate(images, truncation=0.5)
    batch = {'input': jnp.asarray(images), 'seed': jnp.arange(6)}
    expected = trained.model.method.translate(trained.state, batch, key(trained), {'truncation': 0.5})
    assert made.shape == (6, 5, 7, 1)
    close(made, to_uint8(expected))


def test_one_program_serves_all_values_of_a_knob(workdir):
    trained = Trained.open(workdir, batch_size=4)
    label = np.zeros((3, 1), np.int32)
    TRACED.clear()
    images = {psi: trained.generate(range(3), label, truncation=psi) for psi in (0.5, 0.0, 1.5)}
    assert len(TRACED) == 1 and isinstance(TRACED[0]['truncation'], jax.Array)
    assert not np.array_equal(images[0.5], images[1.5])
    mixed = trained.generate(range(3), label, truncation=np.array([1.5, 0.0, 0.5]))
    assert len(TRACED) == 1
    for row, psi in enumerate((1.5, 0.0, 0.5)):
        assert np.array_equal(mixed[row], images[psi][row])
    # The default is a constant of another program, which has nothing to multiply.
    default = trained.generate(range(3), label)
    assert len(TRACED) == 2 and TRACED[1]['truncation'] == 1.0 and isinstance(TRACED[1]['truncation'], float)
    assert np.array_equal(trained.generate(range(3), label, truncation=1.0), default) and len(TRACED) == 2
    close(trained.generate(range(3), label, truncation=np.ones(3)), default)


def test_a_static_knob_is_part_of_the_program(workdir):
    trained = Trained.open(workdir, batch_size=4)
    label = np.zeros((3, 1), np.int32)
    TRACED.clear()
    few, many = (trained.generate(range(3), label, denoising_steps=steps) for steps in (1, 9))
    assert [knobs['denoising_steps'] for knobs in TRACED] == [1, 9] and few.std() < many.std()
    trained.generate(range(3), label, denoising_steps=1)
    assert len(TRACED) == 2


def test_a_knob_out_of_range_is_an_error_of_its_setting(trained, workdir):
    trained.check_knobs({'truncation': 1.5, 'guidance': -1.0}, 'sample')  # it has no guidance
    for psi in (-0.1, 1.6, float('nan')):
        with pytest.raises(UserError, match=r'^sample\.truncation: .* is not from 0 to 1\.5; lower it$'):
            trained.check_knobs({'truncation': psi}, 'sample')
    sample = dataclasses.replace(resolve(toy_config()).sample, truncation=1.75)  # within the range of the section
    with pytest.raises(UserError, match=r'^sample\.truncation: 1\.75 is not from 0 to 1\.5; lower it$'):
        open_ensemble(workdir, sample)
    with pytest.raises(UserError, match=r'^sample\.truncation: 1\.75 is not from 0 to 1\.5; lower it$'):
        open_run(toy_config(sample__truncation=1.75))


@dataclasses.dataclass(frozen=True)
class Unable:
    """Only what every method has, of a toy."""

    toy: Toy

    def __getattr__(self, name):
        if name in ('init', 'update', 'inputs', 'frozen', 'problem', 'knobs'):
            return getattr(self.toy, name)
        raise AttributeError(name)


@pytest.fixture
def unable(monkeypatch):
    family = dataclasses.replace(FAMILY, make=lambda sections, problem: Unable(make(sections, problem)))
    monkeypatch.setitem(METHODS, 'toy', family)


NEEDS = {
    Generates: ('generate', [0], 'generates no pictures'),
    Translates: ('translate', np.zeros((1, 16, 16, 3), np.uint8), 'translates no pictures'),
    Reconstructs: ('reconstruct', np.zeros((1, 16, 16, 3), np.uint8), 'reconstructs no pictures'),
    Represents: ('represent', np.zeros((1, 16, 16, 3), np.uint8), 'has no features'),
    Classifies: ('classify', np.zeros((1, 16, 16, 3), np.uint8), 'classifies no pictures'),
}


@pytest.mark.parametrize('protocol', NEEDS)
def test_a_missing_capability_is_an_error_of_the_setting_that_named_the_run(workdir, unable, protocol):
    name, rows, reason = NEEDS[protocol]
    with pytest.raises(UserError) as error:
        Trained.open(workdir, field='edit.run', can=protocol, remedy='take another run')
    assert str(error.value) == f"edit.run: its method, 'toy', {reason}; take another run"
    with pytest.raises(UserError) as error:
        Trained.open(workdir, can=protocol)
    assert error.value.field == f'--workdir={workdir}'
    with pytest.raises(UserError, match=f"^--workdir=.*: its method, 'toy', {reason}$"):
        getattr(Trained.open(workdir), name)(rows)


def test_only_methods_with_style_latents_blend_them(trained, workdir):
    with pytest.raises(UserError, match='has no style latents'):
        trained.blend(None, {}, first=np.arange(2))
    with pytest.raises(UserError, match=r'^edit\.run: .* has no style latents'):
        Trained.open(workdir, field='edit.run', can=HasLatents)


def test_a_setting_that_names_no_run_is_the_field_of_the_error(tmp_path):
    with pytest.raises(UserError, match=r'^edit\.run: there is no run in it'):
        Trained.open(tmp_path / 'none', field='edit.run')
    with pytest.raises(UserError, match=r'^--workdir=.*none: there is no run in it'):
        Trained.open(tmp_path / 'none')
