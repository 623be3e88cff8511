"""From items and weights to prediction rows, through the journal."""
