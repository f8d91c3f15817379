"""The report of an evaluation as HTML and JSON."""

import json
import re

import numpy as np

from productgen.evaluation.report import write_report
from productgen.evaluation.result import Result


def test_names_and_broken_lines_do_not_break_the_page(tmp_path):
    (tmp_path / 'metrics.jsonl').write_text('{"kimg": 1, "loss/a": 2.0}\n{"kimg": 2, "loss/a": 1.0}\n{"kimg": 3, "lo')
    result = Result(
        measured={'run': '<script>'},
        protocol={},
        figures={'measured': {'x': 1.0}, 'real': {'x': 2.0, 'accuracy/y': 0.5}},
        classes={'measured': {'<b>': {'pictures': 3, 'kernel_distance': 0.0, 'kernel_distance_error': 1.0}}},
        confusion={'attribute': 'a<b', 'values': ['$5_$ mug', '<i>'], 'counts': [[1, 0, 0], [2, 3, 1]]},
        pairs={'what': '<u>', 'psnr': float('inf')},
        sheets=dict.fromkeys(('measured', 'real'), np.zeros((8, 8, 8, 3), np.uint8)),
    )
    for _ in range(3):
        path = write_report(tmp_path / 'out', result, None, tmp_path / 'metrics.jsonl')
    page = path.read_text(encoding='utf-8')
    assert json.loads(path.with_suffix('.json').read_text())['pairs'] == {'what': '<u>', 'psnr': None}
    assert (
        not {'<script>', '<b>', '<u>'} & set(re.findall('<[a-z]+>', page))
        and 'a<b' not in page
        and 'accuracy/y' in page
    )
    assert {p.name for p in path.parent.iterdir()} == {
        f'report{n}.{ending}' for n in ('', '.0', '.1') for ending in ('json', 'html')
    }
