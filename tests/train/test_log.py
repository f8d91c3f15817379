"""What the log says of the time between two points."""

import itertools
import json
import logging
import time

import pytest

from productgen.train.log import RunLog


def points(tmp_path):
    return [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]


@pytest.fixture
def log(tmp_path, monkeypatch):
    clock = itertools.count().__next__  # every look at the clock is a second later
    (tmp_path / 'samples').mkdir()
    log = RunLog(tmp_path, step=0, batch_size=4, total=None)
    monkeypatch.setattr(time, 'monotonic', lambda: float(clock()))
    yield log
    log.close()


def test_waiting_for_batches_is_told_as_a_share_of_the_time(log, tmp_path):
    log.restart_clock(0)  # 0
    for step, batch in enumerate(log.feed(iter('abc')), 1):  # waits 1 to 2, 3 to 4, 5 to 6
        assert batch == 'abc'[step - 1]
    log.scalars(3, {}, None)  # 8: the fourth look for a batch found none
    assert points(tmp_path)[0]['data_wait'] == pytest.approx(3 / 8)


def test_waits_before_a_point_or_a_restart_count_no_more(log, tmp_path):
    batches = log.feed(iter('abcd'))
    next(batches)
    log.restart_clock(1)
    time.monotonic()
    log.scalars(2, {}, None)
    next(batches)
    log.scalars(3, {}, None)
    first, second = (point['data_wait'] for point in points(tmp_path))
    assert first == 0 and 0 < second < 1


def test_the_line_names_the_wait_only_where_it_matters(log, caplog, monkeypatch):
    log.restart_clock(0)
    next(log.feed(iter('a')))
    monkeypatch.setattr('productgen.log._log', logging.getLogger('one_that_no_test_has_started'))
    with caplog.at_level('INFO'):
        log.scalars(1, {}, None)
        log.scalars(2, {}, None)
    waited, smooth = caplog.messages
    assert 'waiting for data' in waited and 'waiting' not in smooth
