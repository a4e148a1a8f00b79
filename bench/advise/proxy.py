"""How well agreement with the float network foretold accuracy on the embedded networks: a record that came with the
package (made by tests/benchmarks/advise_proxy.py)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from bench.reading import read_json

FOREIGN = ("T1", "T3")
"""Tiers of sources whose images stand for foreign ones; the record's keys of them."""


@dataclass(frozen=True)
class Proxy:
    """Spearman's correlation with accuracy over compressed networks, the mean over ``targets`` with its 95 % interval;
    ``lost``: points of accuracy between the best network and the proxy's best, the mean over targets, and the most."""

    correlation: float
    interval: tuple[float, float]
    targets: int
    networks: int
    lost: float
    lost_most: float
    machine: str
    date: str

    def sentence(self) -> str:
        """What is to be said of it."""
        low, high = self.interval
        return (
            f"On {self.targets} embedded networks ({self.networks} compressed ones, {self.machine}, {self.date}) this "
            f"agreement ranked accuracy with Spearman's {self.correlation:.2f} [{low:.2f}, {high:.2f}]; its best was "
            f"{self.lost:.1f} points below the truly best on average, {self.lost_most:.1f} at most."
        )


def proxy(kind: str) -> Proxy:
    """What is known of a kind of images: ``unlabelled`` or a tier of :data:`FOREIGN`."""
    raw = _record()
    found = raw["kinds"][kind]
    machine = raw["machine"]
    return Proxy(
        float(found["correlation"]),
        (float(found["interval"][0]), float(found["interval"][1])),
        len(found["targets"]),
        int(raw["networks"]),
        float(found["lost"]),
        float(found["lost_most"]),
        f"{machine['cpu']}, {machine['cores']} cores",
        str(raw["date"]),
    )


def by_correlation() -> tuple[str, ...]:
    """The tiers of foreign images, the one that foretold accuracy best first."""
    return tuple(sorted(FOREIGN, key=lambda tier: -proxy(tier).correlation))


@lru_cache(maxsize=1)
def _record() -> dict[str, Any]:
    found: dict[str, Any] = read_json(resources.files("bench.advise") / "proxy.json")
    return found
