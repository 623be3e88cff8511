"""The version of exact frame access, part of every key; apart, so that keys need no decoder."""

ENGINE = 2  # raise when the frames returned for some file and index change
