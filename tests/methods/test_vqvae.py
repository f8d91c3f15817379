"""The VQ-VAE method, tiny: what each stage moves, against NumPy where a number comes out."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typed import sections_of

from productgen.config import UserError
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream
from productgen.losses.pixel import weighted
from productgen.methods import Evaluable, Generates, Problem, Reconstructs
from productgen.methods.base import Stage
from productgen.methods.vqvae import FAMILY, VQVAEConfig, make
from productgen.nets import transformer
from productgen.nets.layers import one_hot_labels

RESOLUTION, LABELS, BATCH, CODES = (8, 12), (3, 2), 8, 16
KEY = jax.random.key(0)
# An epsilon this large makes Adam's step continuous in the gradient, so that steps can be compared.
ADAM = {'name': 'adam', 'learning_rate': 0.03, 'eps': 0.1}
CONFIG = {
    'method': {
        'name': 'vqvae',
        'reconstruction': {'mse': 2.0, 'l1': 0.5},
        'commitment': 0.25,
        'decay': 0.8,
        'revive': 0.3,
        'prior_start': 0.0,
        'ema_kimg': 0.05,
        'ema_rampup': 0.5,
    },
    'model': {
        'levels': 1,
        'width': 8,
        'blocks': 1,
        'residual_width': 4,
        'codes': CODES,
        'code_width': 5,
        'prior': {'width': 8, 'layers': 1, 'heads': 2, 'dropout': 0.2},
    },
    'optim': {'encoder': ADAM, 'decoder': ADAM, 'prior': ADAM},
}


# Metrics of both stages, and those of the second.
METRICS = {
    'loss/autoencoder',
    'loss/prior',
    'grad_norm/encoder',
    'grad_norm/decoder',
    'grad_norm/prior',
    'mse',
    'commitment',
    'codes/perplexity',
    'codes/revived',
    'prior_bits_per_code',
}
PRIOR = {'loss/prior', 'grad_norm/prior', 'prior_bits_per_code'}


def values(metrics):
    """Those of an update in which both stages run."""
    assert all(metric.weight == 1 for metric in metrics.values())
    return {name: metric.value for name, metric in metrics.items()}


def codebook_of(state):
    return state.nets['decoder'].stats['codebook']


def tiny(labels=LABELS, accumulate=1, resolution=RESOLUTION, steps=10, **changes):
    """The method, with fields such as method__commitment changed."""
    config = copy.deepcopy(CONFIG)
    for field, value in changes.items():
        *path, name = field.split('__')
        section = config
        for part in path:
            section = section[part]
        section[name] = value
    return make(sections_of(FAMILY, config), Problem(resolution, labels, BATCH, accumulate, steps))


def batch_of(seed=0, labels=LABELS):
    rng = np.random.default_rng(seed)
    label = np.stack([rng.integers(-1, n, BATCH) for n in labels], 1) if labels else np.zeros((BATCH, 0))
    image = rng.integers(0, 256, (BATCH, *RESOLUTION, 3), np.uint8)
    return {'image': image, 'label': label.astype(np.int32), 'seed': np.arange(BATCH, dtype=np.int32)}


@functools.cache
def compiled(**changes):
    """The jitted update: slow to compile, so once for all tests."""
    return jax.jit(tiny(**changes).update)


@functools.cache
def first():
    """The state before the first iteration; that of a method of two stages is the same."""
    return jax.device_get(jax.jit(tiny().init)(KEY, batch_of(), {}))


@functools.cache
def start():
    """The state after an iteration, whose codebook the data have seeded."""
    return jax.device_get(compiled()(first(), batch_of(), KEY)[0])


@jax.jit
def generated(state, rows, knobs):
    return tiny().generate(state, rows, KEY, knobs)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@jax.jit
def reconstructed(state, batch):
    return tiny().reconstruct(state, batch, KEY)


@jax.jit
def outputs_of_encoder(params, image):
    return tiny().encoder.apply({'params': params}, to_float(image)).reshape(-1, 5)


def encoded(params, image):
    return np.asarray(outputs_of_encoder(params, image), np.float64)


def nearest(z, vectors):
    return np.argmin(np.sum((z[:, None] - np.float64(vectors)) ** 2, -1), -1)


# Training.


def test_the_codebook_moves_by_the_means_of_the_vectors_nearest_to_each_code():
    state, batch = start(), batch_of(1)
    # Half of the codes have had no use of late; their vectors stay.
    weight = np.where(np.arange(CODES) % 2, 1.0, 1e-3).astype(np.float32)
    old = jax.tree.map(lambda x: np.asarray(x) * weight.reshape(-1, *[1] * (x.ndim - 1)), codebook_of(state))
    decoder = state.nets['decoder'].replace(stats={'codebook': old})
    state = state.replace(nets=state.nets | {'decoder': decoder})
    new, metrics = compiled()(state, batch, KEY)
    z = encoded(state.nets['encoder'].params, batch['image'])
    codes = nearest(z, old.vectors)
    share = np.bincount(codes, minlength=CODES) / len(z)
    total = np.stack([z[codes == k].sum(0) for k in range(CODES)]) / len(z)
    usage, total = 0.8 * old.usage + 0.2 * share, 0.8 * old.total + 0.2 * total
    alive = usage >= 0.3 / CODES
    assert 0 < alive.sum() < CODES
    found = codebook_of(new)
    np.testing.assert_allclose(found.usage[alive], usage[alive], rtol=1e-4)
    np.testing.assert_allclose(found.vectors[alive], (total / usage[:, None])[alive], atol=1e-4)
    # Dead codes are now vectors of the batch.
    for vector in np.asarray(found.vectors)[~alive]:
        assert np.abs(z - vector).max(1).min() < 1e-4
    metrics = values(metrics)
    assert float(metrics['codes/revived']) == (~alive).sum()
    p = share[share > 0]
    np.testing.assert_allclose(metrics['codes/perplexity'], np.exp(-np.sum(p * np.log(p))), rtol=1e-4)


def test_the_first_batch_seeds_the_codebook():
    z = encoded(first().nets['encoder'].params, batch_of()['image'])
    means = np.asarray(codebook_of(start()).vectors)
    low, high = z.min(0) - 1e-4, z.max(0) + 1e-4
    assert np.all((means >= low) & (means <= high))
    assert len(np.unique(means.round(4), axis=0)) > CODES // 2


def test_autoencoder_loss_is_distance_and_commitment():
    method, state, batch = tiny(), start(), batch_of(1)
    _, metrics = compiled()(state, batch, KEY)
    vectors = np.asarray(codebook_of(state).vectors)
    z = encoded(state.nets['encoder'].params, batch['image'])
    grid = vectors[nearest(z, vectors)]
    shape = (BATCH, *method.prior.shape, 5)
    decode = jax.jit(method.decoder.apply)
    output = decode({'params': state.nets['decoder'].params}, np.float32(grid.reshape(shape)))
    d = np.float64(output) - (batch['image'] / 127.5 - 1)
    expected = {'mse': np.mean(d**2), 'commitment': np.mean((z - grid) ** 2)}
    expected['loss/autoencoder'] = 2 * np.mean(d**2) + 0.5 * np.mean(np.abs(d)) + 0.25 * expected['commitment']
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name].value, value, rtol=1e-4, err_msg=name)


def test_a_batch_in_parts_gives_what_the_whole_gives():
    for seed, state in ((0, first()), (1, start())):
        whole, m = compiled()(state, batch_of(seed), KEY)
        parts, n = compiled(accumulate=2)(state, batch_of(seed), KEY)
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
        assert m.keys() == n.keys() == METRICS
        for name, value in values(m).items():
            np.testing.assert_allclose(value, values(n)[name], rtol=1e-3, atol=1e-6, err_msg=name)


def test_the_prior_learns_codes_of_the_averaged_encoder_that_the_same_update_has_moved():
    method, old, batch = tiny(), start(), batch_of(1)
    new, metrics = compiled()(old, batch, KEY)
    keys = sample_keys(stream(KEY, 'prior'), jnp.arange(BATCH))
    grids = {}
    for name, state, part in (('right', new, 'ema'), ('weights', new, 'params'), ('old', old, 'ema')):
        z = encoded(getattr(state.nets['encoder'], part), batch['image'])
        grids[name] = nearest(z, codebook_of(state).vectors).reshape(BATCH, *method.prior.shape)
    bits = jax.jit(method._bits)
    prior = old.nets['prior'].params
    cases = {name: (codes, batch['label'], keys) for name, codes in grids.items()}
    cases['without dropout'] = (grids['right'], batch['label'], None)
    cases['of other labels'] = (grids['right'], np.roll(batch['label'], 1, 0), keys)
    for name, args in cases.items():
        close = np.isclose(metrics['prior_bits_per_code'].value, np.mean(bits(prior, *args)), rtol=1e-5)
        assert close == (name == 'right'), name


def test_averages_run_over_the_updates_of_their_own_stage():
    update = compiled(method__prior_start=0.2)  # of ten steps
    for step, names in ((0, ('encoder', 'decoder')), (2, ('prior',))):
        old = first().replace(step=np.int32(step))
        new = jax.device_get(update(old, batch_of(), KEY)[0])
        for name in names:
            net = new.nets[name]  # its half-life is half of the first batch
            expected = jax.tree.map(lambda a, b: b + 0.5**2 * (a - b), old.nets[name].ema, net.params)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), net.ema, expected)


@functools.cache
def stages():
    """States of four updates of two stages, the first included, and the metrics of each."""
    states, metrics = [first()], []
    for step in range(4):
        args = states[-1], batch_of(step), jax.random.fold_in(KEY, step)
        state, row = jax.device_get(compiled(method__prior_start=0.2)(*args))  # of ten steps
        states.append(state)
        metrics.append(row)
    return states, metrics


def test_two_stages_take_turns():
    states, metrics = stages()
    history = []
    for before, state in zip(states, states[1:], strict=False):
        moved = {name for name in state.nets if not same(before.nets[name].params, state.nets[name].params)}
        moved |= {f'{name}.ema' for name in state.nets if not same(before.nets[name].ema, state.nets[name].ema)}
        moved |= set() if same(codebook_of(before), codebook_of(state)) else {'codebook'}
        history.append(moved)
    own = {'encoder', 'encoder.ema', 'decoder', 'decoder.ema', 'codebook'}
    assert history == [own, own, {'prior', 'prior.ema'}, {'prior', 'prior.ema'}]
    for stage, row in zip((0, 0, 1, 1), metrics, strict=True):
        assert {name for name, metric in row.items() if metric.weight} == (
            METRICS & PRIOR if stage else METRICS - PRIOR
        )
        assert all(metric.value == 0 for metric in row.values() if not metric.weight)
        assert all(metric.value != 0 for name, metric in row.items() if metric.weight and 'revived' not in name)
    assert tiny(method__prior_start=0.2).first_stage == Stage(2, 'method.prior_start')
    assert tiny().first_stage.steps == 0


def test_the_figure_that_stops_a_run_is_that_of_the_stage_that_decides():
    """In the second stage the autoencoder stands still, and with it a loss that it had a part in."""
    evaluate = jax.jit(tiny(method__prior_start=0.2).evaluate)
    figures = [evaluate(state, batch_of(9), KEY) for state in stages()[0][1:]]
    np.testing.assert_allclose(figures[3]['loss'], np.log(2) * figures[3]['prior_bits_per_code'], rtol=1e-5)
    assert np.all(figures[3]['loss'] != figures[2]['loss'])
    np.testing.assert_array_equal(figures[3]['autoencoder_loss'], figures[2]['autoencoder_loss'])


# From the averaged weights.


def test_evaluation_is_of_each_picture_alone_and_counts_the_bits_of_its_codes():
    method, state, batch = tiny(), start(), batch_of(2)
    assert all(isinstance(method, protocol) for protocol in (Evaluable, Generates, Reconstructs))
    evaluate = jax.jit(method.evaluate)
    figures = evaluate(state, batch, KEY)
    assert all(value.shape == (BATCH,) for value in figures.values())
    swapped = evaluate(state, {name: rows[[0, *range(7, 0, -1)]] for name, rows in batch.items()}, KEY)
    for name, value in figures.items():
        np.testing.assert_allclose(swapped[name][0], value[0], rtol=1e-5)
        assert np.ptp(value) > 0, name

    codes = nearest(encoded(state.nets['encoder'].ema, batch['image']), codebook_of(state).vectors)
    codes = codes.reshape(BATCH, -1)
    label = jax.jit(lambda label: one_hot_labels(label, LABELS))(batch['label'])
    logits = np.float64(jax.jit(method.prior.apply)({'params': state.nets['prior'].ema}, codes, label))
    chance = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    bits = -np.log2(np.take_along_axis(chance, codes[..., None], -1)).mean((1, 2))
    np.testing.assert_allclose(figures['prior_bits_per_code'], bits, rtol=1e-4)

    image = np.asarray(to_float(batch['image']))
    output = np.asarray(reconstructed(state, batch))
    assert output.shape == image.shape and np.abs(output).max() < 1  # so that clipping has changed nothing
    distance = jax.jit(weighted(CONFIG['method']['reconstruction']))(output, image)
    np.testing.assert_allclose(figures['autoencoder_loss'], distance + 0.25 * figures['commitment'], rtol=1e-4)
    np.testing.assert_allclose(figures['loss'], figures['autoencoder_loss'] + np.log(2) * bits, rtol=1e-4)
    np.testing.assert_allclose(figures['mse'], np.mean((output - image) ** 2, (1, 2, 3)), rtol=1e-4)


def test_samples_come_at_their_own_temperature():
    state = start()
    batch = {'seed': np.arange(4, dtype=np.int32), 'label': np.zeros((4, 2), np.int32)}
    plain = generated(state, batch, {})
    assert plain.shape == (4, *RESOLUTION, 3)
    image = generated(state, batch, {'truncation': np.float32([0, 0, 1, 1])})
    np.testing.assert_array_equal(image[0], image[1])  # the likeliest codes, whatever the seed
    np.testing.assert_array_equal(image[2:], plain[2:])
    assert not np.array_equal(plain[0], image[0]) and not np.array_equal(plain[2], plain[3])


def test_samples_come_from_the_averaged_weights():
    method, state = tiny(), start()
    rows = {'seed': np.arange(4, dtype=np.int32), 'label': np.zeros((4, 2), np.int32)}
    cold = {'truncation': np.zeros(4, np.float32)}
    image = generated(state, rows, cold)

    @jax.jit
    def picture(prior, decoder):
        label = one_hot_labels(rows['label'], LABELS)
        codes = transformer.generate(method.prior, prior, sample_keys(KEY, rows['seed']), label, cold['truncation'])
        vectors = codebook_of(state).vectors[codes.reshape(-1, *method.prior.shape)]
        return jnp.clip(method.decoder.apply({'params': decoder}, vectors), -1, 1)

    prior, decoder = state.nets['prior'], state.nets['decoder']
    np.testing.assert_allclose(image, picture(prior.ema, decoder.ema), atol=1e-5)
    assert not np.allclose(image, picture(prior.ema, decoder.params), atol=1e-5)
    # Other weights of the prior give other codes.
    turned = jax.tree.map(lambda x: -x, prior.ema)
    other = state.replace(nets=state.nets | {'prior': prior.replace(params=turned)})
    np.testing.assert_array_equal(generated(other, rows, cold), image)


def test_two_colours_come_back_from_their_codes():
    state, batch = first(), batch_of()
    batch['image'][:4], batch['image'][4:] = [200, 40, 40], [30, 60, 220]
    for step in range(200):
        state, _ = compiled()(state, batch, stream(jax.random.fold_in(KEY, step), 'update'))
    output = np.asarray(reconstructed(state, batch))
    assert np.mean((output - to_float(batch['image'])) ** 2, (1, 2, 3)).max() < 0.02


def test_weights_of_the_reconstruction_that_are_missing_are_0():
    section = VQVAEConfig(reconstruction={'l1': 1.0})
    assert section == VQVAEConfig(
        reconstruction={'mse': 0.0, 'ssim': 0.0, 'l1': 1.0, 'charbonnier': 0, 'laplacian': 0.0}
    )
    assert section != VQVAEConfig() == VQVAEConfig(reconstruction={'mse': 4.0})


# What is refused.


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'resolution': (9, 12)}, 'data.resolution: 12x9 cannot be halved 1 times'),
        ({'resolution': (30, 37), 'model__levels': 2}, 'the nearest that can is 36x32'),
        ({'model__prior__heads': 3}, 'model.prior.heads: 3 does not divide model.prior.width=8'),
        ({'model__codes': 1}, 'model.codes: must be at least 2'),
        ({'method__reconstruction': {'mes': 1.0}}, "method.reconstruction: there is no reconstruction loss 'mes'"),
        ({'method__reconstruction': {'mse': 'much'}}, 'method.reconstruction: '),
        ({'method__revive': 1.0}, 'method.revive: 1.0 is not a fraction'),
        (
            {'method__prior_start': 0.5, 'steps': None},
            'method.prior_start: a fraction of the training needs a train.duration in images',
        ),
        ({'method__comitment': 1.0}, "did you mean 'commitment'"),
    ],
)
def test_what_cannot_be_used_is_refused(changes, message):
    with pytest.raises(UserError) as error:
        tiny(**changes)
    assert message in str(error.value)


def test_schedules_run_over_the_updates_of_their_own_stage():
    linear = {'name': 'sgd', 'learning_rate': 1.0, 'b1': 0.0, 'schedule': 'linear'}
    method = tiny(method__prior_start=0.4, optim={name: linear for name in CONFIG['optim']})
    for name, steps in (('encoder', 4), ('decoder', 4), ('prior', 6)):
        tx = method.tx[name]
        opt, moved = tx.init(jnp.zeros(())), []
        for _ in range(steps + 1):
            step, opt = tx.update(jnp.ones(()), opt, jnp.zeros(()))
            moved.append(-float(step))
        np.testing.assert_allclose(moved, 1 - np.arange(steps + 1) / steps, atol=1e-6)


def test_frozen_weights_are_kept_in_the_state():
    """Of a method without labels, too."""
    frozen, method, batch = {'net': {'w': np.ones(3, np.float32)}}, tiny(labels=()), batch_of(labels=())
    state = jax.eval_shape(method.init, KEY, batch, frozen)
    after, _ = jax.eval_shape(method.update, state, batch, KEY)
    assert state.frozen['net']['w'].shape == after.frozen['net']['w'].shape == (3,)
