"""One engine per model protocol: decoded clips in, prediction rows out."""
