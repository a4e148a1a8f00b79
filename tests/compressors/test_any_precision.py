"""Any-precision: each width learns from the next wider one."""

from __future__ import annotations

from typing import Any

from methods.compressors.any_precision import METHOD
from tests.compressors.adaptive_toys import compress, labelled


def test_only_the_widest_learns_from_the_full_precision_network_and_the_labels() -> None:
    """What these weigh moves the widest, and the others by what it answers: in the first step, whose answers are those
    of the untrained network, the narrowest's own clips learn alike."""

    def clips(place: int, **params: Any) -> list[float]:
        low: dict[str, Any] = {
            "alpha": "quantile",
            "quantile": 0.8,
        }  # so that there is something to learn at each width
        once: dict[str, Any] = {"steps": 1, "optimiser": "sgd", "clip": 0.0}
        made = compress(METHOD, given=labelled(), widths=(8, 4, 2), **once, **low, **params)
        holder = made.variants[place].module.input_quantizers
        return [float(part.alpha * part.units[0]) for part in holder.children()]

    plain, heavy = {"kl": 1.0}, {"kl": 2.0, "labels": 1.0}
    assert clips(2, **plain) == clips(2, **heavy)
    assert clips(0, **plain) != clips(0, **heavy)
    assert clips(2, **plain) != clips(2, **plain, inner=2.0)
