"""R3GAN's networks: what their config refuses, and the published settings."""

import jax
import jax.numpy as jnp
import numpy as np
import optax.tree_utils
import pytest

from configs.r3gan import get_config
from productgen.config import UserError, build, to_dict
from productgen.core.optim import OptimConfig, learning_rate, make_optimizer
from productgen.methods import Problem
from productgen.methods.models.r3gan import R3GANModel
from productgen.model.config import resolve

SECTION = {
    'name': 'r3gan',
    'z_dim': 8,
    'channel_base': 128,
    'channel_max': 16,
    'blocks': 1,
    'group': 8,
    'bf16_levels': 0,
}


def pair(resolution=(16, 16), plain_head=False, float32=False, **changes):
    model = build(R3GANModel, SECTION | changes, 'model')
    return model.pair(Problem(resolution, (), 4, float32=float32), plain_head)


def test_both_networks_have_the_same_stages():
    built = pair((32, 24), plain_head=True, bf16_levels=1)
    g, d = built.generator, built.discriminator
    assert built.z_dim == 8 and not built.couples_images and d.plain_head
    assert (g.base, g.widths, g.blocks, g.group) == (d.base, d.widths, d.blocks, d.group)
    assert g.base == (4, 3) and [g.widths.channels(level) for level in range(4)] == [16, 16, 8, 4]


def test_float32_overrides_bf16_levels():
    assert pair(bf16_levels=2).generator.widths.bf16_levels == 2
    both = pair(bf16_levels=2, float32=True)
    assert both.generator.widths.bf16_levels == both.discriminator.widths.bf16_levels == 0


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'resolution': (20, 15)}, 'data.resolution: 15x20 is not'),
        ({'group': 12}, r'model\.group: 12 does not divide the 2 x 16 channels .* level 0 of 2'),
        ({'channel_base': 32}, r'model\.group: 8 does not divide the 2 x 2 channels .* level 2 of 2.*multiple of 128'),
        ({'channel_base': 8, 'group': 1}, r'2 x 0 channels inside the blocks of level 2'),
        ({'blocks': 0}, r'model\.blocks: .*at least 1'),
        ({'bf16_levels': -1}, r'model\.bf16_levels: .*at least 0'),
        ({'widht': 3}, r'model\.widht: no such field'),
    ],
)
def test_what_cannot_be_built_names_the_field(changes, message):
    with pytest.raises(UserError, match=message):
        pair(**changes)


def test_following_the_advice_on_groups_helps():
    assert pair(channel_base=128, group=8) and pair(channel_base=192, channel_max=12, group=12)


# Published settings, by the steps of the training.


def method(argument, labels=()):
    config = resolve(to_dict(get_config(argument)))
    height, width = (int(side) for side in (config.data.resolution.split('x') * 2)[1::-1])
    size, kimg = config.train.batch_size, int(config.train.duration.removesuffix('kimg'))
    built = config.family.make(config, Problem((height, width), labels, size, 1, kimg * 1000 // size))
    return built, lambda mimg: round(mimg * 1e6 / size)


@pytest.mark.parametrize(
    'argument, widths, group, gamma, half_life, p, mimg',
    [
        ('cifar10', [768] * 4, 16, 0.05, 5_000, 0.55, 20),
        ('ffhq64', [768] * 4 + [384], 16, 2, 500, 0.3, 20),
        ('ffhq256', [768] * 4 + [384, 192, 96], 16, 150, 500, 0.3, 20),
        ('imagenet32', [1536] * 4, 32, 0.5, 50_000, 0.5, 200),
        ('imagenet64', [1536] * 5, 32, 1, 50_000, 0.4, 200),
    ],
)
def test_published_settings(argument, widths, group, gamma, half_life, p, mimg):
    built, step = method(argument)
    g = built.generator
    assert [g.widths.channels(level) for level in range(g.widths.levels + 1)] == widths
    assert (g.blocks, g.group, built.z_dim) == (2, group, 64)
    for value, start, end in (
        (built.critic.penalty_weight, gamma, gamma / 10),
        (built.half_life, 0, half_life),
        (built.critic.augment_p, 0, p),
    ):
        middle = start + (end - start) / 2  # half a cosine is at its middle halfway
        got = [float(value(step(done * mimg))) for done in (0, 0.5, 1, 1.25)]
        np.testing.assert_allclose(got, [start, middle, end, end], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('argument, mimg', [('ffhq256', 20), ('imagenet32', 200)])
def test_the_optimisers_go_along_half_a_cosine_and_stay(argument, mimg):
    train, optim = get_config(argument).train, to_dict(get_config(argument).optim)
    steps = int(train.duration.removesuffix('kimg')) * 1000 // train.batch_size
    for net in map(lambda section: OptimConfig(**section), optim.values()):
        rate, tx, weight = learning_rate(net, steps), make_optimizer(net, steps), jnp.ones(1)
        assert net.name == 'adam' and net.b1 == 0
        for done, expected in {0: (2e-4, 0.9), 0.5: (1.25e-4, 0.945), 1: (5e-5, 0.99), 1.25: (5e-5, 0.99)}.items():
            step = jnp.int32(done * mimg * 1e6 / train.batch_size)
            state = jax.tree.map(lambda x, step=step: step if x.dtype == step.dtype else x, tx.init(weight))  # counts
            with jax.numpy_dtype_promotion('standard'):
                second = optax.tree_utils.tree_get(tx.update(weight, state, weight)[1], 'nu')  # 1 - b2, from nothing
                found = rate(step), 1 - second[0]
            np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_penalty_at_other_resolutions_goes_through_the_published_ones():
    gamma = lambda argument: float(get_config(argument).method.penalty_weight.split('->')[0])
    assert gamma('res=64') == pytest.approx(2) and gamma('res=256') == pytest.approx(150, rel=0.02)
    assert 2 < gamma('res=96x128') < 150


@pytest.mark.parametrize('argument', ['quick,ffhq64', 'res=64,cifar10', 'res=big', 'ffhq128'])
def test_arguments_that_do_not_go_together_are_refused(argument):
    with pytest.raises(ValueError, match='config argument'):
        get_config(argument)
