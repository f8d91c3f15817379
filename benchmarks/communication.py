"""Communication of a compiled program between devices."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter

import jax

# Operations as XLA names them; see https://openxla.org/xla/operation_semantics.
KINDS = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute', 'collective-broadcast')

# An asynchronous operation is two: its result is that of `-done`, and `-start` is not counted.
_COLLECTIVE = re.compile(rf'= (?P<result>.*?) (?P<kind>{"|".join(KINDS)})(?:-done)?\(')
_ARRAY = re.compile(r'\b([a-z]\w*?)\[([\d,]*)\]')
_CALLED = re.compile(r'\b(?:body|condition|to_apply|calls|\w+_computations?)=\{?(%[^,}\s]+(?:, ?%[^,}\s]+)*)')
_WIDTH = re.compile(r'\d+')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One operation that communicates between devices.

    Attributes:
      kind: one of `KINDS`.
      arrays: dtype and shape of each array that a device receives, such as `f32[3,3,64]`.
      size: bytes of these arrays.
      times: number of executions in a run of the program; every branch counts as taken.
    """

    kind: str
    arrays: tuple[str, ...]
    size: int
    times: int


def collectives(program: jax.stages.Compiled) -> list[Collective]:
    """All operations of a compiled program that communicate between devices, in the order of its text.

    Raises:
      ValueError: one is in a loop of unknown length.
    """
    bodies, entry = _computations(program.as_text())
    times = _times(bodies, entry)
    found = []
    for name, lines in bodies.items():
        for line in lines:
            match = _COLLECTIVE.search(line)
            if not match or not times[name]:
                continue
            if math.isinf(times[name]):
                raise ValueError(f'the length of the loop around this operation is not known: {line[:200]}')
            arrays = _ARRAY.findall(match['result'])
            size = sum(_bits(kind) * math.prod(int(n) for n in shape.split(',') if n) for kind, shape in arrays)
            shapes = tuple(f'{kind}[{shape}]' for kind, shape in arrays)
            found.append(Collective(match['kind'], shapes, size // 8, int(times[name])))
    return found


def traffic(program: jax.stages.Compiled) -> dict[str, int]:
    """Bytes that each device receives in a run of a program, by kind of operation.

    Raises:
      ValueError: see `collectives`.
    """
    total: Counter[str] = Counter()
    for one in collectives(program):
        total[one.kind] += one.size * one.times
    return dict(total)


def _bits(kind: str) -> int:
    """Bits of an array element: 32 of `f32`, 8 of `pred`."""
    width = _WIDTH.search(kind)
    return int(width[0]) if width else 8


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation by its name, and the name of the entry computation."""
    bodies: dict[str, list[str]] = {}
    entry, lines = '', []
    for line in text.splitlines():
        if line.endswith('{') and line.startswith(('%', 'ENTRY')):
            name = line.removeprefix('ENTRY ').split()[0]
            lines = bodies[name] = []
            entry = name if line.startswith('ENTRY') else entry
        else:
            lines.append(line)
    return bodies, entry


def _times(bodies: dict[str, list[str]], entry: str) -> dict[str, float]:
    """Number of executions of each computation in a run of the program; infinity where it is not known."""
    times = dict.fromkeys(bodies, 0.0)

    def run(name: str, count: float) -> None:
        times[name] += count
        for line in bodies[name]:
            known = _TRIPS.search(line)
            rounds = (float(known[1]) if known else math.inf) if ' while(' in line else 1
            for names in _CALLED.findall(line):
                for other in names.split(','):
                    run(other.strip(), count * rounds)

    run(entry, 1.0)
    return times
