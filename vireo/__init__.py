"""Vireo rebuilds the published numbers of five video-understanding systems."""

__version__ = "0.1.0"
