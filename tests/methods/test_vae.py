"""The VAE method, tiny, in its variants."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from tiny import full, open_run
from typed import sections_of

from configs import beta_vae, cvae, vae
from productgen.config import UserError
from productgen.core.rng import sample_keys, stream, streams
from productgen.methods import Evaluable, Generates, Problem, Reconstructs
from productgen.methods.vae import FAMILY, make, normal

RESOLUTION, LABELS, BATCH = (8, 12), (3, 2), 4
KEY = jax.random.key(0)
# An epsilon this large makes Adam's step continuous in the gradient, so that steps can be compared.
ADAM = {'name': 'adam', 'learning_rate': 0.1, 'eps': 10.0}
CONFIG = {
    'method': {
        'name': 'vae',
        'likelihood': 'gaussian',
        'scale': 0.5,
        'learn_scale': True,
        'beta': 3.0,
        'kl_weight': '0->1',
        'anneal': 0.02,
        'free_bits': 0.5,
        'ema_kimg': 0.01,
        'ema_rampup': 0.0,
    },
    'model': {
        'latent': 'vector',
        'z_dim': 5,
        'downsampling': 0,
        'channels': 4,
        'channel_max': 4,
        'blocks': 0,
        'groups': 2,
        'dropout': 0.0,
    },
    'optim': {'vae': ADAM},
}


@functools.cache
def tiny(labels=LABELS, accumulate=1, resolution=RESOLUTION, steps=100, **changes):
    """The method, with fields such as method__beta changed."""
    config = copy.deepcopy(CONFIG)
    for field, value in changes.items():
        section, name = field.split('__')
        config[section][name] = dict(value) if isinstance(value, tuple) else value
    return make(sections_of(FAMILY, config), Problem(resolution, labels, BATCH, accumulate, steps))


def batch_of(seed=0, low=0, high=256):
    rng = np.random.default_rng(seed)
    label = np.stack([rng.integers(-1, n, BATCH) for n in LABELS], 1).astype(np.int32)
    image = rng.integers(low, high, (BATCH, *RESOLUTION, 3), np.uint8)
    return {'image': image, 'label': label, 'seed': np.arange(BATCH, dtype=np.int32)}


@functools.cache
def compiled(function, **changes):
    return jax.jit(getattr(tiny(**changes), function))


@functools.cache
def start(**changes):
    """The state before the first update; most settings of the method do not matter."""
    matter = {name: x for name, x in changes.items() if name in ('labels', 'method__learn_scale') or 'model' in name}
    return jax.device_get(compiled('init', **matter)(stream(KEY, 'init'), batch_of(), {}))


def trained(updates=3, **changes):
    state, rows = start(**changes), []
    for step in range(updates):
        state, metrics = compiled('update', **changes)(state, batch_of(step), jax.random.fold_in(KEY, step))
        rows.append(values(metrics))
    return state, rows


def values(metrics):
    """Those of an update; all are due in every one."""
    assert all(metric.weight == 1 for metric in metrics.values())
    return {name: metric.value for name, metric in metrics.items()}


def generate(state, rows, rng=KEY, knobs=None, **changes):
    return compiled('generate', **changes)(state, rows, rng, knobs or {})


def one_hot(batch):
    label = batch['label']
    return np.concatenate([np.eye(n + 1, dtype=np.float32)[label[:, a]][:, :n] for a, n in enumerate(LABELS)], 1)


@jax.jit
def through_nets(params, image, label, keys):
    """Means and log-variances, and what is decoded from a sample, or from the means where there are no keys."""
    mean, log_variance = tiny().encoder.apply({'params': params['encoder']}, image, label)
    z = mean if keys is None else mean + jnp.exp(log_variance / 2) * normal(streams(keys, 'posterior'), tiny().latent)
    return mean, log_variance, tiny().decoder.apply({'params': params['decoder']}, z, label)


def bound(params, batch, rng):
    """Reconstruction and divergences by element, [B, D] and [B, Z], from the nets and SciPy."""
    image = batch['image'] / 127.5 - 1
    mean, log_variance, location = jax.device_get(
        through_nets(params, np.float32(image), one_hot(batch), sample_keys(rng, np.arange(BATCH)))
    )
    log_prob = scipy.stats.norm(location, np.exp(params['log_scale'])).logpdf(image).reshape(BATCH, -1)
    return -log_prob, 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance)


def test_the_loss_is_the_bound_with_beta_warm_up_and_free_bits():
    state, _ = trained(2)
    batch, rng = batch_of(7), jax.random.key(3)
    _, metrics = compiled('update')(state, batch, rng)
    params = jax.device_get(state.nets['vae'].params)
    reconstruction, kl = bound(params, batch, rng)
    by_dimension = kl.mean(0)
    assert (by_dimension < 0.5).any() and (by_dimension > 0.5).any(), 'free bits would not show'
    expected = reconstruction.sum(1).mean() + 3.0 * np.maximum(by_dimension, 0.5).sum()
    metrics = values(metrics)
    np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-4)
    np.testing.assert_allclose(metrics['kl'], kl.sum(1).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics['reconstruction'], reconstruction.sum(1).mean(), rtol=1e-4)


def test_the_divergence_is_warmed_up_over_its_share_of_the_training():
    _, rows = trained(3)
    np.testing.assert_allclose([row['beta'] for row in rows], [0, 1.5, 3], atol=1e-6)


# Without free bits, which are of the mean over a part.
LOGISTIC = {'method__likelihood': 'discretized_logistic', 'method__learn_scale': True, 'method__free_bits': 0.0}


@pytest.mark.slow
def test_parts_of_a_batch_give_what_the_whole_gives():
    whole, parts = trained(3, **LOGISTIC)[0], trained(3, accumulate=2, **LOGISTIC)[0]
    for a, b in zip(*(jax.tree.leaves(s.nets['vae'].params) for s in (whole, parts)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_measures_are_the_bound_of_the_averaged_weights_without_beta():
    state, rng = trained(3)[0], jax.random.key(3)
    figures = compiled('evaluate')(state, batch_of(), rng)
    params = jax.device_get(state.nets['vae'].ema)
    reconstruction, kl = bound(params, batch_of(), rng)
    np.testing.assert_allclose(figures['kl'], kl.sum(1), rtol=1e-4)
    np.testing.assert_allclose(figures['reconstruction'], reconstruction.sum(1), rtol=1e-4)
    np.testing.assert_allclose(figures['loss'], (reconstruction.sum(1) + kl.sum(1)), rtol=1e-4)
    assert isinstance(tiny(), Evaluable) and isinstance(tiny(), Reconstructs)


def test_bits_are_the_nats_of_a_density_over_bins():
    """Away from black and white and for a scale of many grey levels, mass is density times the width of a bin."""
    batch = batch_of(low=20, high=236)
    figures = compiled('evaluate')(start(), batch, KEY)
    expected = figures['loss'] / (batch['image'][0].size * np.log(2)) + np.log2(127.5)
    np.testing.assert_allclose(figures['bits_per_dim'], expected, rtol=1e-3)


@pytest.mark.parametrize('likelihood', ['bernoulli', 'discretized_logistic'])
def test_other_likelihoods_train_and_are_measured(likelihood):
    changes = LOGISTIC | {'method__likelihood': likelihood, 'method__learn_scale': likelihood != 'bernoulli'}
    state, rows = trained(2, **changes)
    figures = compiled('evaluate', **changes)(state, batch_of(), KEY)
    assert ('bits_per_dim' in figures) == ('log_scale' in state.nets['vae'].params) == (likelihood != 'bernoulli')
    if likelihood != 'bernoulli':
        bits = figures['loss'] / (batch_of()['image'][0].size * np.log(2))
        np.testing.assert_allclose(figures['bits_per_dim'], bits, rtol=1e-5)
    assert all(np.isfinite(value) for value in rows[-1].values())


def test_a_picture_is_measured_by_itself():
    state, batch = trained(1)[0], batch_of()
    alone = compiled('evaluate')(state, batch, KEY)
    other = {name: np.concatenate([x[:1], x[2:], x[:1]]) for name, x in batch.items()}
    for name, value in compiled('evaluate')(state, other, KEY).items():
        np.testing.assert_allclose(value[:1], alone[name][:1], rtol=1e-5)
        np.testing.assert_allclose(value[3], value[0], rtol=1e-5)


def test_without_temperature_every_seed_is_the_same_picture_and_it_grows_with_it():
    state = trained(2)[0]
    rows = {'seed': np.arange(BATCH, dtype=np.int32), 'label': np.zeros((BATCH, 2), np.int32)}
    spread = [
        float(np.std(generate(state, rows, knobs={'truncation': np.full(BATCH, t, np.float32)}), 0).mean())
        for t in (0, 0.5, 1)
    ]
    assert spread[0] < 1e-6 < spread[1] < spread[2]
    full = generate(state, rows, knobs={'truncation': np.ones(BATCH, np.float32)})
    np.testing.assert_allclose(generate(state, rows), full, atol=1e-5)
    assert isinstance(tiny(), Generates)
    (knob,) = tiny().knobs
    assert (knob.name, knob.default, knob.low, knob.high, knob.static) == ('truncation', 1, 0, 2, False)


def test_the_temperature_of_each_picture_is_its_own_and_scales_its_latent():
    state = trained(2)[0]
    rows = {'seed': np.arange(BATCH, dtype=np.int32), 'label': np.zeros((BATCH, 2), np.int32)}
    temperature = np.float32([0.0, 0.5, 1.0, 1.5])

    @jax.jit
    def decoded(params):
        z = temperature[:, None] * normal(streams(sample_keys(KEY, rows['seed']), 'z'), (5,))
        return tiny().decoder.apply({'params': params}, z, np.float32([[1, 0, 0, 1, 0]] * BATCH))

    images = generate(state, rows, knobs={'truncation': temperature})
    np.testing.assert_allclose(images, np.clip(decoded(state.nets['vae'].ema['decoder']), -1, 1), atol=1e-5)


# Without labels, and with an optimiser that learns quickly.
LEARNING = {
    'labels': (),
    'optim__vae': (('name', 'adam'), ('learning_rate', 0.01)),
    'method__beta': 1.0,
    'method__kl_weight': '1',
    'method__free_bits': 0.0,
    'steps': 600,
}


@pytest.mark.parametrize('labels', [LABELS, ()])
def test_labels_matter_where_it_is_conditional(labels):
    changes = {'labels': labels} if labels else LEARNING
    state, batch = trained(1, **changes)[0], batch_of()
    other = batch | {'label': np.stack([(batch['label'][:, 0] + 1) % 3, batch['label'][:, 1]], 1)}
    for function, knobs in (('generate', [{}]), ('reconstruct', [])):
        a, b = (compiled(function, **changes)(state, x, KEY, *knobs) for x in (batch, other))
        assert np.array_equal(a, b) != bool(labels)


@pytest.mark.parametrize('config', [vae, beta_vae, cvae])
def test_grids_name_labels_only_where_the_networks_are_conditional(config):
    config = full(config.get_config(), data__catalog_items=64)
    run = open_run(config)
    conditional = 'label' in run.abstract()[0].nets['vae'].params['encoder']
    assert conditional == bool(run.labels) == (config['data']['labels'] == 'auto')


def test_reconstructions_need_no_chance():
    state, batch = trained(1)[0], batch_of()
    a, b = (compiled('reconstruct')(state, batch, jax.random.key(seed)) for seed in (0, 1))
    assert a.shape == (BATCH, *RESOLUTION, 3)
    np.testing.assert_array_equal(a, b)


def test_reconstructions_are_decoded_from_the_mean_code_by_the_averaged_weights():
    state, batch = trained(2)[0], batch_of()
    image = np.float32(batch['image'] / 127.5 - 1)
    for weights, same in ((state.nets['vae'].ema, True), (state.nets['vae'].params, False)):
        decoded = np.clip(through_nets(weights, image, one_hot(batch), None)[-1], -1, 1)
        close = np.allclose(compiled('reconstruct')(state, batch, KEY), decoded, atol=1e-5)
        assert close == same


MAP = {'model__latent': 'map', 'model__downsampling': 2, 'model__z_dim': 2, 'model__dropout': 0.5}


def test_activations_are_dropped_in_training_only():
    state, batch = trained(1, **MAP)[0], batch_of() | {'seed': np.arange(BATCH, dtype=np.int32)}
    state = state.replace(nets={'vae': state.nets['vae'].replace(ema=state.nets['vae'].params)})
    loss = values(compiled('update', **MAP)(state, batch, KEY)[1])['reconstruction']
    dropped = np.mean(compiled('evaluate', **MAP)(state, batch, KEY)['reconstruction'])
    kept = np.mean(compiled('evaluate', **MAP | {'model__dropout': 0.0})(state, batch, KEY)['reconstruction'])
    np.testing.assert_allclose(dropped, kept, rtol=1e-5)
    assert abs(loss / kept - 1) > 1e-3


def test_the_schedule_runs_over_the_training():
    linear = {'name': 'sgd', 'learning_rate': 1.0, 'b1': 0.0, 'schedule': 'linear'}
    tx = tiny(steps=4, optim__vae=tuple(linear.items())).tx
    opt, moved = tx.init(np.zeros(())), []
    for _ in range(5):
        step, opt = tx.update(np.ones(()), opt, np.zeros(()))
        moved.append(-float(step))
    np.testing.assert_allclose(moved, [1, 0.75, 0.5, 0.25, 0], atol=1e-6)


def test_the_likelihood_is_a_convention_of_the_network():
    assert tiny().conventions() == {'vae': {'likelihood': 'gaussian'}}


def test_frozen_weights_are_kept_in_the_state():
    frozen = {'net': {'w': np.ones(3, np.float32)}}
    state = jax.eval_shape(tiny().init, KEY, batch_of(), frozen)
    after, _ = jax.eval_shape(tiny().update, state, batch_of(), KEY)
    assert state.frozen['net']['w'].shape == after.frozen['net']['w'].shape == (3,)


def test_map_latents_have_a_size_and_give_samples():
    assert tiny(**MAP).latent == (4, 6, 2) and tiny(**MAP | {'model__downsampling': 4}).latent == (2, 3, 2)
    state, rows = trained(1, **MAP)
    assert jax.eval_shape(tiny(**MAP).generate, state, batch_of(), KEY, {}).shape == (BATCH, *RESOLUTION, 3)
    assert np.isfinite(rows[0]['loss'])


def test_it_learns_pictures_and_the_scale_of_its_errors():
    """Where a Gaussian's likelihood is highest, its variance is the mean square error."""
    batch, state, update, errors = batch_of(low=100, high=200), start(**LEARNING), compiled('update', **LEARNING), []
    for step in range(600):
        state, metrics = update(state, batch, jax.random.fold_in(KEY, step))
        errors.append(float(metrics['mse'].value))
    assert np.mean(errors[-50:]) < 0.1 * errors[0]
    np.testing.assert_allclose(metrics['scale'].value ** 2, np.mean(errors[-50:]), rtol=0.2)


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'method__likelihood': 'gausian'}, "method.likelihood: .*'gausian'.*'gaussian'"),
        ({'method__likelihood': 'bernoulli'}, 'method.learn_scale: .*False'),
        ({'method__scale': 0.0}, 'method.scale'),
        ({'method__beta': -1.0}, 'method.beta'),
        ({'method__kl_weight': '0->x'}, 'method.kl_weight'),
        ({'method__kl_weight': '1->-1'}, 'method.kl_weight: .* is negative'),
        ({'method__kl_weight': -1.0}, 'method.kl_weight: -1.0 is negative'),
        ({'steps': None}, 'method.kl_weight: .*train.duration'),
        ({'model__latent': 'list'}, "model.latent: .*'list'.*vector"),
        ({'model__groups': 3}, 'model.groups: 3 does not divide model.channels=4'),
        ({'model__downsampling': 3}, 'model.downsampling: 3'),
        ({'model__dropout': 1.0}, 'model.dropout'),
        ({'resolution': (10, 12), 'model__downsampling': 4}, 'data.resolution: 12x10 .*nearest that can is 12x8'),
        ({'resolution': (31, 32)}, 'data.resolution: 32x31 .*32x32'),
    ],
)
def test_settings_that_cannot_be_used_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        tiny(**changes)
