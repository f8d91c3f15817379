"""Devices exchange gradients, statistics of the batch and metrics, and nothing else."""

import json
import sys

import pytest
from tiny import EIGHT, run_launch

from benchmarks.communication import collectives, traffic
from benchmarks.scaling import PASSES

MOST = {'stylegan': 1.2, 'dcgan': 1.02, 'vae': 1.001, 'ddpm': 1.1, 'classifier': 1.3}

PROGRAM = """
import importlib, json, sys
from benchmarks.built import prepared
from benchmarks.communication import traffic
from productgen.methods.base import parameter_counts

found = {}
for name in sys.argv[1].split(','):
    config = importlib.import_module(f'configs.{name}').get_config('quick')
    values = 0 if config.get('data', {}).get('labels') == 'none' else 3
    for shard in (False, True):
        model = prepared(config, {'data.resolution': '16', 'train.shard_state': shard}, values)
        program = model.lower_update().compile()
        found[f'{name} {shard}'] = {
            'weights': {net: 4 * count for net, count in parameter_counts(model.abstract()[0]).items()},
            'sent': traffic(program),
            'held': program.memory_analysis().argument_size_in_bytes,
        }
print(json.dumps(found))
"""


# Each case compiles two programs for eight devices, which takes long.
CASES = [pytest.param(name, marks=[] if name == 'dcgan' else pytest.mark.slow) for name in PASSES]


@pytest.fixture(scope='module', params=CASES)
def name(request):
    return request.param


@pytest.fixture(scope='module')
def found(name):
    done = run_launch([sys.executable, '-c', PROGRAM, name], env=EIGHT)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def passes(name, weights):
    """Bytes of the gradients of all backward passes of an update."""
    return sum(weights[net] * count for net, count in PASSES[name].items())


def test_gradients_and_statistics_are_all_that_is_sent(found, name):
    """No more, so that no picture or key is sent; no less, so that no device does the work of another."""
    row = found[f'{name} False']
    assert row['sent'].keys() == {'all-reduce'}
    assert 1 <= row['sent']['all-reduce'] / passes(name, row['weights']) < MOST[name]


def test_a_sharded_state_adds_the_gathering_of_weights(found, name):
    """At the beginning, after a step where another network reads them, and of averages that statistics follow."""
    replicated, sharded = found[f'{name} False'], found[f'{name} True']
    assert sharded['sent'].keys() == {'all-reduce', 'all-gather'}
    assert sharded['sent']['all-reduce'] == pytest.approx(replicated['sent']['all-reduce'], rel=0.02)
    assert sharded['sent']['all-gather'] <= 3 * sum(replicated['weights'].values())


def test_a_sharded_state_takes_an_eighth_of_the_memory(found, name):
    assert 6.5 < found[f'{name} False']['held'] / found[f'{name} True']['held'] <= 8


class Text:
    """Stands in for a compiled program."""

    def __init__(self, *lines):
        self.text = '\n'.join(['HloModule jit_f', *lines])

    def as_text(self):
        return self.text


ADD = ['%add (a: f32[], b: f32[]) -> f32[] {', '  ROOT %s = f32[] add(%a, %b)', '}']


def test_what_is_counted():
    program = Text(
        *ADD,
        '%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {',
        '  %r = (f32[8]{0}, /*index=1*/bf16[2,3]{1,0}) all-reduce(%x, %y), to_apply=%add',
        '}',
        '%condition (p: (s32[], f32[8])) -> pred[] {',
        '}',
        '%branch (p: f32[4]) -> f32[4] {',
        '  ROOT %g = f32[4,2]{1,0} all-gather(%p), dimensions={1}',
        '}',
        '%other (p: f32[4]) -> f32[4] {',
        '}',
        'ENTRY %main (p: f32[8]) -> f32[8] {',
        '  %w = (s32[], f32[8]) while(%t), condition=%condition, body=%body, '
        'backend_config={"known_trip_count":{"n":"5"}}',
        '  %c = f32[4] conditional(%i, %p, %p), branch_computations={%branch, %other}',
        '  %s = (f32[4]{0}, f32[8]{0}) all-gather-start(%p), dimensions={0}',
        '  %d = f32[8]{0} all-gather-done(%s)',
        '  %n = pred[16]{0} collective-permute(%q), source_target_pairs={{0,1}}',
        '}',
    )
    assert traffic(program) == {'all-reduce': 5 * (32 + 12), 'all-gather': 32 + 32, 'collective-permute': 16}
    assert collectives(program)[0].arrays == ('f32[8]', 'bf16[2,3]')


def test_a_loop_of_unknown_length_is_refused():
    program = Text(
        '%body (p: f32[8]) -> f32[8] {',
        '  %r = f32[8]{0} all-reduce(%x), to_apply=%add',
        '}',
        *ADD,
        'ENTRY %main (p: f32[8]) -> f32[8] {',
        '  %w = f32[8] while(%t), condition=%add, body=%body',
        '}',
    )
    with pytest.raises(ValueError, match='length of the loop'):
        traffic(program)
