"""The report of an evaluation as HTML and JSON."""

import base64
import io
import json
import re

import numpy as np
from PIL import Image

from productgen.evaluation.report import write_report
from productgen.evaluation.result import Result


def test_names_of_any_length_and_characters_fit_into_the_page(tmp_path):
    values = ['a lovely product ' * 50, 'line\nbreak\x00', 'bad \udcff', '漢字 🛋']
    result = Result(
        measured={'unreadable files': 'bad \udcff.png: no picture'},
        protocol={},
        figures={'measured': {'x': 1.0}},
        classes={'measured': {value: {'pictures': 30} for value in values}},
        confusion={'attribute': 'label', 'values': values, 'counts': np.eye(4, 5, dtype=int).tolist()},
    )
    page = write_report(tmp_path, result, None, None)
    assert values[0].strip() in page.read_text(encoding='utf-8')
    data = base64.b64decode(re.search('data:image/png;base64,([^"]+)', page.read_text(encoding='utf-8'))[1])
    with Image.open(io.BytesIO(data)) as plot:
        assert max(plot.size) < 1500


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
