"""From a config to a method, and from a workdir to a trained one."""
