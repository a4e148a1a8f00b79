"""Every test starts from the same random state, as those of tests/quant do."""

from tests.quant.conftest import _seed

__all__ = ["_seed"]
