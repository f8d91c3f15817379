"""Settings: errors, typed sections, durations and ranges."""

from productgen.config.build import build, choose, complete, difference, nearest, to_dict
from productgen.config.errors import UserError

__all__ = ['UserError', 'build', 'choose', 'complete', 'difference', 'nearest', 'to_dict']
