"""The StyleGAN2 method from a config: what cannot be used, and what settings mean."""

import jax
import pytest
from tiny_stylegan2 import KEY, batch_of, tiny

from productgen.config import UserError

MLP = {'name': 'mlp', 'generator_width': 8, 'discriminator_width': 8}


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'resolution': (10, 9)}, r'data\.resolution: 9x10 .*nearest'),
        ({'accumulate': 4}, r'model\.stddev_group: 4 does not divide the 2 images'),
        ({'method__path_shrink': 3}, r'method\.path_shrink: 3'),
        ({'method__loss': 'non_saturated'}, r"method\.loss: .*did you mean 'non_saturating'"),
        ({'method__penalty_weight': 'automatic'}, r"method\.penalty_weight: expected a number, .*got 'automatic'"),
        ({'method__penalty_interva': 3}, r"method\.penalty_interva: no such field; did you mean 'penalty_interval'"),
        ({'model__z_dim': 'wide'}, r"model\.z_dim: expected int, got 'wide'"),
        ({'method__augment': {'name': 'adda'}}, r"method\.augment.*'adda'.*did you mean 'ada'"),
        (
            {'optim__generator': {'learning_rate': 'fast'}},
            r"optim\.generator\.learning_rate: expected float, got 'fast'",
        ),
        ({'method__path_interval': 0}, r'method\.path_interval'),
        ({'method__path_shrink': 0}, r'method\.path_shrink'),
        ({'method__path_weight': -1.0}, r'method\.path_weight: must not be negative'),
        ({'model__mapping_lr': 0.0}, r'model\.mapping_lr: 0.0 is not above 0'),
        ({'method__mixing': 1.5}, r'method\.mixing'),
        ({'model': MLP}, r"model\.name: 'mlp' has no styles; use 'stylegan2', or method\.name=gan"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_name(changes, message):
    with pytest.raises(UserError, match=message):
        tiny(**changes)


@pytest.mark.parametrize('gamma, expected', [('auto', 0.0002 * 8 * 6 / 8), ('0.25', 0.25), (3.0, 3.0)])
def test_the_penalty_weight_is_a_number_or_the_rule_of_stylegan2_ada(gamma, expected):
    assert tiny(method__penalty_weight=gamma).critic.penalty_weight(0) == pytest.approx(expected)


def test_float32_overrides_bf16_levels():
    levels = lambda method: {method.generator.widths.bf16_levels, method.critic.network.widths.bf16_levels}
    assert levels(tiny(model__bf16_levels=1)) == {1} and levels(tiny(model__bf16_levels=1, float32=True)) == {0}


def test_without_labels_the_networks_have_no_label_weights():
    method = tiny(labels=())
    state = jax.eval_shape(method.init, KEY, batch_of(labels=()), {})
    assert 'embed' not in state.nets['generator'].params['mapping']
    assert 'label' not in state.nets['discriminator'].params
    jax.eval_shape(method.update, state, batch_of(labels=()), KEY)
