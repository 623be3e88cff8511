"""The small world of tests/e2e, to be broken."""

from tests.e2e.conftest import checkout, copy, data, finished  # noqa: F401 (fixtures)
