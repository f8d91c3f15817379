"""Times startup: from the command to the end of the first training step, with a cold and a warm compilation cache.

  python benchmarks/start.py --config=configs/stylegan.py --repeats=3

Every repeat runs `launch.py` twice in fresh workdirs with a new cache, first cold and then warm, and ends each run
after the first step. Printed are the seconds of each phase, and the programs that took longest to trace, lower and
compile (or to read from the cache); work in several threads overlaps. Everything is written to a temporary folder.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Lines of the log that end a phase, in order; `first grid` ends when its file exists.
DATA, STATE, STEP = 'pictures to train on', ' parameters', ' kimg '
WAIT = 300  # timeout in seconds
SPANS = {
    'jaxpr_trace_duration': 'traced',
    'jaxpr_to_mlir_module_duration': 'lowered',
    'backend_compile_duration': 'compiled or read',
}


def child(events: Path, flags: list[str]) -> None:
    """Runs `launch.py` in this process and writes JAX's compilation events to `events`, one per line."""
    sys.path.insert(0, str(ROOT))
    import jax

    import productgen.train.loop  # noqa: F401 - imported by the launcher; timed separately

    with events.open('w', buffering=1) as file:
        log = lambda **event: file.write(json.dumps(event) + '\n')
        log(imported=time.time())

        def span(event, start, end, fun_name='', **_):
            kind = SPANS.get(event.rpartition('/')[2])
            if kind:
                log(kind=kind, program=fun_name, start=start, end=end)

        jax.monitoring.register_event_time_span_listener(span)
        sys.argv = ['launch.py', *flags]
        runpy.run_path(str(ROOT / 'launch.py'), run_name='__main__')


def start(flags: list[str], folder: Path, cache: Path) -> tuple[dict[str, float], list[dict]]:
    """Starts a run in a fresh folder; returns the seconds of every phase, and the compilation events."""
    workdir, events = folder / 'run', folder / 'events.jsonl'
    flags = [*flags, f'--workdir={workdir}', '--config.train.log_every=1steps']
    command = [sys.executable, __file__, f'--child={events}', *flags]
    environment = {**os.environ, 'PRODUCTGEN_CACHE': str(cache)}
    folder.mkdir(parents=True)
    log, began = workdir / 'log.txt', time.time()
    with (folder / 'output.txt').open('w') as output:
        run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            while not (log.exists() and STEP in log.read_text()):
                if run.poll() is not None or time.time() - began > WAIT:
                    raise SystemExit(f'no first step:\n{(folder / "output.txt").read_text()[-3000:]}')
                time.sleep(0.05)
        finally:
            run.kill()
            run.wait()
    found = [json.loads(line) for line in events.read_text().splitlines()]
    text = log.read_text()
    moments = {
        'imports': found[0]['imported'],
        'config and data': _time(text, DATA),
        'initial state': _time(text, STATE),
        'first grid': max(path.stat().st_mtime for path in (workdir / 'samples').iterdir()),
        'first step': _time(text, STEP),
    }
    seconds = {
        name: end - start for (name, end), start in zip(moments.items(), [began, *moments.values()], strict=False)
    }
    return seconds | {'total': moments['first step'] - began}, found[1:]


def _time(log: str, mark: str) -> float:
    """Time of the first line of the log that contains `mark`."""
    line = next(line for line in log.splitlines() if mark in line)
    date, thousandths = re.match(r'(.{19}),(\d{3})', line).groups()
    return time.mktime(time.strptime(date, '%Y-%m-%d %H:%M:%S')) + int(thousandths) / 1000


def longest(spans: list[dict], count: int) -> list[str]:
    """Lists the longest compilations, and the number of programs."""
    total = collections.Counter()
    for s in spans:
        total[s['program'], s['kind']] += s['end'] - s['start']
    lines = [f'    {name}, {kind}: {seconds:.1f} s' for (name, kind), seconds in total.most_common(count)]
    programs = sum(s['kind'] == 'compiled or read' for s in spans)
    return [*lines, f'    {programs} programs']


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default='configs/stylegan.py')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--longest', type=int, default=8, help='number of compilations to list')
    parser.add_argument('--child', help=argparse.SUPPRESS)
    args, flags = parser.parse_known_args()
    flags = [f'--config={args.config}', *flags]
    if args.child:
        child(Path(args.child), flags)
        return
    found = collections.defaultdict(list)
    for i in range(args.repeats):
        with tempfile.TemporaryDirectory() as scratch:
            for kind in ('cold', 'warm'):
                seconds, spans = start(flags, Path(scratch) / kind, Path(scratch) / 'cache')
                print(f'{kind} {i}: ' + ', '.join(f'{name} {value:.1f} s' for name, value in seconds.items()))
                print('\n'.join(longest(spans, args.longest)), flush=True)
                found[kind].append(seconds)
    for kind, rows in found.items():
        parts = []
        for name in rows[0]:
            values = sorted(row[name] for row in rows)
            parts.append(f'{name} {statistics.median(values):.1f} ({values[0]:.1f} to {values[-1]:.1f})')
        print(f'{kind}, median (range) in seconds: {", ".join(parts)}')


if __name__ == '__main__':
    main()
