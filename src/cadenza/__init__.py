"""Cadenza: a content calendar and publishing backend that an operator can take back."""

from importlib.metadata import version

__version__ = version("cadenza")
