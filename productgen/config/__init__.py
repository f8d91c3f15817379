"""Settings: errors, typed sections, durations and ranges."""

from productgen.config.build import ConfigError, build, choose, difference, nearest, to_dict

__all__ = ['ConfigError', 'build', 'choose', 'difference', 'nearest', 'to_dict']
