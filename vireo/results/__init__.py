"""From prediction rows to a result: assembled, with provenance, published numbers and verdicts."""
