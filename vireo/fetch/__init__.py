"""Bringing artifacts in: HTTP and Hub downloads, archives, what the user already has, receipts."""
