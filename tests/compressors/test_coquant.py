"""CoQuant: its teachers, and the blocks that stand in for a width's own (docs/methods/compressors.md#coquant)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.errors import NotApplicable
from bench.interfaces import Batch
from methods.compressors import coquant
from methods.compressors._adaptive import compress as train
from methods.compressors._adaptive_training import Course, Lesson
from methods.compressors._coquant_course import (
    PAPER_WEIGHTS,
    CoquantCourse,
    choose,
    doubt,
    first_kept,
    keeping,
)
from methods.compressors.coquant import METHOD, CoquantParams
from methods.quant.widths import widths_of
from tests.compressors.adaptive_toys import FEW, W8A8, adaptive, compress, digests, labelled
from tests.compressors.recon_toys import context, digest, handle, image_set

BATCH = Batch(image_set().images, labelled().labels)


def course(net: Any = None, seed: int = 0, **params: Any) -> CoquantCourse:
    made = CoquantCourse(net or adaptive(), CoquantParams(**params), torch.Generator().manual_seed(seed))
    made.open(0, 10)
    return made


def logits(*sharpness: float) -> list[Tensor]:
    """Answers, the sharper the surer."""
    drawn = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    return [drawn * factor for factor in sharpness]


def test_a_teacher_is_chosen_by_confidence_and_distance() -> None:
    """lambda = 0 takes the surest, a great one the nearest; equal ones the widest."""
    doubts, distances = [0.5, 0.4, 0.45], [30.0, 20.0, 10.0]
    assert choose(doubts, distances, 0.0) == 1
    assert choose(doubts, distances, 1e9) == 2
    assert [choose(doubts, distances, w) for w in (0.004, 0.006)] == [1, 2]
    assert choose([0.5, 0.5], [1.0, 1.0], 1.0) == 0


def test_doubt_is_the_mean_entropy_or_the_cross_entropy() -> None:
    answers = logits(1.0)[0]
    entropy = torch.distributions.Categorical(logits=answers).entropy().mean()
    assert doubt(answers) == pytest.approx(float(entropy), rel=1e-5)
    assert doubt(torch.zeros(3, 5)) == pytest.approx(float(torch.tensor(5.0).log()))
    labels = BATCH.labels
    assert labels is not None
    p = torch.softmax(answers, 1)[torch.arange(64), labels]
    assert doubt(answers, BATCH) == pytest.approx(float(-p.log().mean()), rel=1e-5)


def test_a_course_takes_the_surest_the_nearest_or_the_one_it_is_told() -> None:
    """The teacher is wider than the student, always; the second width's can only be the widest."""
    heard = logits(1.0, 5.0, 0.2)
    net = adaptive((8, 6, 4, 2))
    for width in (1, 2, 3):
        assert course(net, lambda_distance=0).lesson(width, heard[:width], BATCH).guide == (0, 1, 1)[width - 1]
        nearest = course(net, lambda_distance=1e12).lesson(width, heard[:width], BATCH).guide
        assert nearest == min(range(width), key=lambda other: net.distance(other, width))
        assert course(net, guide="widest").lesson(width, heard[:width], BATCH).guide == 0
        assert course(net, guide="next").lesson(width, heard[:width], BATCH).guide == width - 1
    for guide in ("dynamic", "widest", "next", "none"):
        assert course(net, guide=guide).lesson(0, [], BATCH) == Lesson()
        assert course(net, guide=guide).lesson(3, heard, BATCH).own
    assert course(net, guide="none", p_init=0.0).lesson(3, heard, BATCH) == Lesson()


def test_lambda_is_meant_for_as_many_weights_as_the_published_network_has() -> None:
    net = adaptive()
    weights = sum(net.weight(layer).numel() for layer in net.order)
    assert course(net).scale == pytest.approx((PAPER_WEIGHTS / weights) ** 0.5)
    assert course(net, scaled=False).scale == 1
    heard = logits(1.0, 1.1)
    gap = doubt(heard[0]) - doubt(heard[1])  # the second is surer and nearer to the narrowest, the first neither
    apart = net.distance(1, 2) - net.distance(0, 2)
    assert gap > 0 > apart
    far = list(reversed(heard))  # now the widest is the surer one: from some lambda on the nearer one teaches
    edge = gap / -apart
    for factor, expected in ((0.9, 0), (1.1, 1)):
        chosen = course(net, scaled=False, lambda_distance=edge * factor).lesson(2, far, BATCH)
        assert chosen.guide == expected


def test_the_schedule_begins_at_p_and_ends_at_one() -> None:
    found = [first_kept(0.5, step, 11) for step in range(11)]
    assert (found[0], found[-1]) == (0.5, 1.0)
    assert found == pytest.approx([0.5 + 0.05 * step for step in range(11)])
    assert first_kept(0.5, 0, 1) == 0.5
    rising = keeping(0.4, 4, "rising")
    assert rising == pytest.approx([0.4, 0.6, 0.8, 1.0])
    assert keeping(0.4, 4, "constant") == [0.4] * 4
    assert keeping(0.4, 1, "rising") == [0.4]
    assert keeping(0.4, 0, "rising") == []
    made = course(p_init=0.3)
    assert made.kept[0] == pytest.approx(0.3)
    made.open(9, 10)
    assert made.kept == [1.0] * 3


def test_blocks_are_swapped_as_often_as_p_says() -> None:
    made = course(p_init=0.25, depth="constant", guide="widest")
    drawn = [made.lesson(2, logits(1.0, 1.0), BATCH).swaps for _ in range(600)]
    share = sum(map(len, drawn)) / (3 * 600)
    assert abs(share - 0.75) < 4 * (0.75 * 0.25 / 1800) ** 0.5
    assert all(set(swaps.values()) <= {0} for swaps in drawn)
    assert made.report()["swapped"] == share
    assert course(p_init=0.0, depth="constant", guide="next").lesson(2, logits(1, 1), BATCH).swaps == {0: 1, 1: 1, 2: 1}
    assert course(p_init=1.0).lesson(2, logits(1, 1), BATCH).swaps == {}


class Plain(Course):
    """The next wider width teaches, and no block is ever swapped."""

    inner = 1.0

    def lesson(self, width: int, heard: Any, batch: Batch) -> Lesson:
        return Lesson(width - 1) if width else Lesson()


def test_with_p_one_nothing_is_swapped_bit_for_bit() -> None:
    params = CoquantParams(**FEW | {"widths": (8, 4, 2), "guide": "next", "p_init": 1.0})
    made = METHOD.compress(handle(), image_set(), W8A8, params, context())
    widths = widths_of(W8A8, params.widths, ())
    plain = train(handle(), image_set(), widths, params, lambda net, generator: Plain(), context())
    assert digests(made) == digests(plain)
    assert made.report["swapped"] == 0
    swapped = METHOD.compress(handle(), image_set(), W8A8, params.model_copy(update={"p_init": 0.5}), context())
    assert digests(swapped) != digests(plain)
    assert swapped.report["swapped"] > 0


def test_with_nobody_to_teach_it_is_joint_training() -> None:
    params = CoquantParams(**FEW | {"widths": (8, 2), "guide": "none", "p_init": 0.0})
    joint = train(handle(), image_set(), widths_of(W8A8, (8, 2), ()), params, lambda net, draws: Course(), context())
    assert digests(METHOD.compress(handle(), image_set(), W8A8, params, context())) == digests(joint)
    assert digests(compress(METHOD, widths=(8, 2))) != digests(joint)


@pytest.mark.parametrize("choice", [{"swapped_gradient": "inputs"}, {"answers": "fresh"}, {"depth": "constant"}])
def test_each_open_point_makes_a_difference(choice: dict[str, Any]) -> None:
    rough: dict[str, Any] = {"widths": (8, 4, 2), "p_init": 0.0, "guide": "next"}
    assert digests(compress(METHOD, **rough)) != digests(compress(METHOD, **rough, **choice))


def test_an_answer_without_swapped_blocks_costs_a_pass_and_moves_no_statistics() -> None:
    """In eval mode, and before any update, it is the width's own answer."""
    params: dict[str, Any] = {"widths": (8, 2), "steps": 3, "p_init": 0.0, "depth": "constant", "guide": "next"}
    cached = compress(METHOD, **params).forward_equivalents
    # p rises to 1 in the last step: two steps swap blocks, and the narrowest answers anew in each.
    assert compress(METHOD, **params, answers="fresh").forward_equivalents == cached + 2 * 16


def test_confidence_by_labels_needs_some() -> None:
    with pytest.raises(NotApplicable, match="the recipe needs labels") as error:
        compress(METHOD, confidence="labels")
    assert error.value.got == "confidence: labels"
    compress(METHOD, confidence="labels", guide="next", widths=(4, 2))
    compress(METHOD, confidence="labels", given=labelled(), widths=(4, 2))


def test_the_report_says_who_taught_whom() -> None:
    made = compress(METHOD, widths=(8, 4, 2), steps=6, lambda_distance=1e9)
    report = made.report
    assert report["guides"]["W4A4 by W8A8"] == 6
    assert report["guides"] == {"W4A4 by W8A8": 6, "W2A2 by W4A4": 6}
    assert report["distances"]["W4A4 to W2A2"] < report["distances"]["W8A8 to W2A2"]
    assert set(report["doubts"]) == {"W8A8", "W4A4"}
    assert report["blocks"] == ["conv1+conv2", "depthwise", "pointwise"]


def test_swaps_draw_from_a_generator_of_their_own() -> None:
    """The batches and views are those of a training without swaps, so rows that are compared see the same."""
    seen: dict[float, Tensor] = {}
    for p in (1.0, 0.0):
        ctx = context()
        METHOD.compress(handle(), image_set(), W8A8, METHOD.Params(**FEW | {"widths": (8, 2), "p_init": p}), ctx)
        seen[p] = ctx.generator.get_state()
    assert torch.equal(seen[0.0], seen[1.0])


def test_paper_is_the_published_table() -> None:
    paper = CoquantParams(**METHOD.presets["paper"])
    assert (paper.p_init, paper.lambda_distance) == (0.9, 1e-3)
    assert coquant.METHOD is METHOD
    assert digest(compress(METHOD, widths=(4,)).variants[0].module)
