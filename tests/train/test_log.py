"""What the log says of the time between two points, and where log lines go."""

import itertools
import json
import logging
import time

import pytest

from productgen.train.log import RunLog, log_file, start_console


def points(tmp_path):
    return [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]


@pytest.fixture
def log(tmp_path, monkeypatch):
    clock = itertools.count().__next__  # every reading of the clock is a second later
    (tmp_path / 'samples').mkdir()
    log = RunLog(tmp_path, step=0, batch_size=4, total=None)
    monkeypatch.setattr(time, 'monotonic', lambda: float(clock()))
    yield log
    log.close()


def test_waiting_for_batches_is_a_fraction_of_the_time(log, tmp_path):
    log.restart_clock(0)  # 0
    for step, batch in enumerate(log.feed(iter('abc')), 1):  # waits 1 to 2, 3 to 4, 5 to 6
        assert batch == 'abc'[step - 1]
    log.scalars(3, {}, None)  # 8: the fourth request for a batch found none
    assert points(tmp_path)[0]['data_wait'] == pytest.approx(3 / 8)


def test_waits_before_a_point_or_a_restart_do_not_count(log, tmp_path):
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
    monkeypatch.setattr('productgen.train.log._log', logging.getLogger('one_that_no_test_has_started'))
    with caplog.at_level('INFO'):
        log.scalars(1, {}, None)
        log.scalars(2, {}, None)
    waited, smooth = caplog.messages
    assert 'waiting for data' in waited and 'waiting' not in smooth


@pytest.fixture
def logger():
    """The product's logger, which is as before after the test."""
    logger = logging.getLogger('productgen')
    before = logger.handlers[:], logger.level, logger.propagate
    logger.handlers[:] = []
    yield logger
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def test_lines_go_into_the_log_file_of_the_run_that_is_open(logger, tmp_path, capsys):
    """Both runs of a process, one after the other, each have their own lines; the terminal has all."""
    start_console()
    start_console()  # once more is no second line
    for name in 'ab':
        (tmp_path / name).mkdir()
        with log_file(tmp_path / name):
            logger.info('line of %s', name)
    logger.info('between')
    for name in 'ab':
        (line,) = (tmp_path / name / 'log.txt').read_text().splitlines()
        assert line.endswith(f'INFO line of {name}')
    assert capsys.readouterr().err.splitlines() == ['line of a', 'line of b', 'between']
    assert len(logger.handlers) == 1


def test_the_log_file_is_complete_without_a_console(logger, tmp_path):
    """As where a program of the user calls `train`."""
    logger.setLevel(logging.NOTSET)
    with log_file(tmp_path):
        logger.info('step')
    assert 'INFO step' in (tmp_path / 'log.txt').read_text() and logger.level == logging.NOTSET


def test_other_processes_write_no_file_and_print_only_errors(logger, tmp_path, capsys):
    start_console(primary=False)
    with log_file(tmp_path, primary=False):
        logger.info('step')
        logger.error('failure')
    assert capsys.readouterr().err.splitlines() == ['failure'] and not list(tmp_path.iterdir())
