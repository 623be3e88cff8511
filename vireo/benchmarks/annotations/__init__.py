"""Readers of annotation files as they are published -> the item tables of the benchmarks."""
