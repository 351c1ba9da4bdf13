"""xmore: zero-shot image classification as a service, with the reasons attached."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("xmore")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = "0.0.0"
