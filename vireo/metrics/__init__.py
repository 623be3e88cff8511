"""Metrics as pure functions of items and predictions; no files, no models."""
