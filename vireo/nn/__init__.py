"""Blocks shared by two or more models, and what loads their weights."""
