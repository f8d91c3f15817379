"""productgen: generating, restoring, restyling and editing product images with JAX and Flax."""

__version__ = '0.1.0'
