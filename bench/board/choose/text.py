"""The answer to a question of :mod:`choose.answer` in words: one sentence, how sure it is, and what to run."""

from __future__ import annotations

import shlex
from typing import Any

from bench.board.choose.answer import Answer, Table
from bench.board.choose.asked import Question
from bench.board.choose.joined import Choice
from bench.board.tables.grids import BLANK, number
from bench.board.tables.names import OWN
from bench.board.tables.signs import DOUBTS
from bench.spec.axes import WHOLE
from bench.spec.catalogue import seen_in_training


def sentence(answer: Answer) -> str:
    """What to use, how good it is, what is not told apart from it, which of these is cheapest, what the bits cost."""
    question, main = answer.question, answer.main
    where = f"{_bits(question)} on {question.network}"
    if main is None:
        return f"Nothing is measured at {where}."
    pick = main.pick
    if pick is None:
        if main.beyond:
            return f"No method measured at {where} is within these limits; {_count(main.beyond, 'method')} beyond them."
        only = main.references[0] if main.references else None
        known = "" if only is None else f" The best of these is {named(only)}: {percent(only)}."
        return f"At {where} only controls are measured, which are no answer without data.{known}"
    found = f"{named(pick)} at {where}: {percent(pick)}{_of(pick)}, on {number(pick.n, 0)} images."
    if main.level == "one seed":
        found = f"One seed of each is all that is measured here, so this settles little. The highest is {found}"
    elif main.level == "older version":
        found = (
            f"All that is measured here is of older versions of the methods: measure it anew. The highest was {found}"
        )
    else:
        found = f"Use {found} {_ties(main)}"
    return " ".join(filter(None, [found, _price(question, pick, len(main.targets))]))


def named(choice: Choice) -> str:
    """Source with compressor, and the search of its bits."""
    policy = f", bits by {choice.head.policy}" if choice.head.policy else ""
    variant = f" ({choice.head.variant})" if choice.head.variant else ""
    return f"{choice.source} with {choice.compressor}{policy}{variant}"


def percent(choice: Choice) -> str:
    """Top-1 with its interval."""
    return f"{number(choice.top1, 1)} % {interval(choice)}".rstrip()


def interval(choice: Choice) -> str:
    """Both ends; a blank where there are none."""
    low, high = choice.ends
    return BLANK if low != low else f"[{number(low, 1)}, {number(high, 1)}]"


def cpu(seconds: float | None) -> str:
    """CPU time in the unit one would say it in."""
    if seconds is None:
        return BLANK
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _of(pick: Choice) -> str:
    return "" if pick.fp is None else f" of {number(pick.fp, 1)} uncompressed"


def _bits(question: Question) -> str:
    return f"{question.bits} (bits per layer)" if question.per_layer else question.bits


def _ties(main: Table) -> str:
    """Who is not told apart from the pick, and which of them is cheapest."""
    cheapest = main.cheapest
    cost = "" if cheapest is None else f"({cpu(cheapest.cpu_s)} of CPU)"
    if not main.tied:
        others = (
            f"All {len(main.apart)} others are shown to be worse." if main.apart else "Nothing else is within reach."
        )
        return f"{others} It takes {cpu(main.pick.cpu_s if main.pick else None)} of CPU."
    count = len(main.tied)
    tied = f"{count} other{' is' if count == 1 else 's are'} not told apart from it"
    if cheapest is main.pick:
        return f"{tied}; it is the cheapest of them {cost}."
    return f"{tied}; the cheapest of them is {named(cheapest)} {cost}." if cheapest is not None else f"{tied}."


def _price(question: Question, pick: Choice, networks: int) -> str:
    if pick.fp is None:
        return ""
    lost = pick.fp - pick.top1
    whom = "this network" if networks == 1 else "these networks"
    if lost < 0.05:
        return f"{_bits(question)} costs {whom} nothing that shows."
    return f"{_bits(question)} costs {whom} about {number(lost, 1)} points."


def _count(count: int, thing: str) -> str:
    return f"{count} {thing} is" if count == 1 else f"{count} {thing}s are"


def sure(answer: Answer) -> list[str]:
    """What the answer rests on, and what it does not cover."""
    main = answer.main
    if main is None or main.pick is None:
        return _left_out(answer)
    pick = main.pick
    compared = [pick, *main.tied, *main.apart]
    seeds = sorted({len(one.seeds) for one in compared})
    machines = sorted({machine for one in compared for machine in one.machines})
    several = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    kinds = "one kind of machine" if len(machines) == 1 else f"{len(machines)} kinds of machine"
    ladder = pick.members[0].ladder.replace("_", " ")
    found = [
        f"{several} seed{'s' if seeds != [1] else ''}, {pick.head.test_count:,} test images, {kinds}"
        + (f", {ladder}" if ladder else ""),
        f"preset {pick.head.preset} on {pick.head.dataset}: small networks and images; larger ones may differ",
    ]
    if main.detectable is not None:
        found.append(f"differences below {number(main.detectable, 1)} points would mostly be missed (80 % power)")
    if main.ahead is not None:
        ahead = f"{number(main.ahead, 1)} points ahead of" if main.ahead >= 0.05 else "not ahead of"
        found.append(
            f"the best of {len(main.tied) + len(main.apart) + 1} is partly the luckiest: picked on other seeds and "
            f"images, it is {ahead} the second"
        )
    found += [sign.line for sign in DOUBTS if any(sign.column in member.doubted for member in pick.members)]
    if seen_in_training(pick.head.dataset):
        found.append("the networks were trained on these test images: compare rows, take no accuracy from here")
    return found + _left_out(answer)


def _left_out(answer: Answer) -> list[str]:
    main = answer.main
    if main is None:
        return []
    found = []
    if main.beyond and main.pick is not None:
        found.append(f"{_count(main.beyond, 'method')} beyond the limits")
    if main.weaker:
        found.append(f"{_count(len(main.weaker), 'method')} of one seed, which is not picked")
    if main.unpaired:
        found.append(f"{_count(main.unpaired, 'method')} not measured on all of {', '.join(main.targets)}")
    if answer.stale:
        found.append(f"{_count(answer.stale, 'row')} of older versions, which are not looked at")
    return found


def elsewhere(answer: Answer) -> list[str]:
    """The picks under other protocols or bit operations, which are not compared with the answer."""
    main, found = answer.main, []
    for other in answer.tables[1:]:
        best = other.pick or (other.references[0] if other.references else None)
        if main is None or best is None:
            continue
        keys = [key for key in {**main.protocol, **other.protocol} if main.protocol.get(key) != other.protocol.get(key)]
        unlike = "; ".join(f"{key.replace('_', ' ')}: {_short(other.protocol.get(key))}" for key in sorted(keys)[:3])
        spent = "" if unlike or best.bitops_g is None else f"{best.bitops_g * 1e3:.1f} M bit operations"
        control = " (a control)" if other.pick is None else ""
        found.append(f"{unlike or spent or 'other networks'}: {named(best)}{control} {percent(best)}")
    return found


def _short(value: Any) -> str:
    text = "nothing said" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def command(answer: Answer) -> str:
    """What measures the pick again, or anew; empty without one.  What stands is not run twice."""
    pick = answer.main.pick if answer.main is not None else None
    if pick is None:
        return ""
    head = pick.head
    parts = {"source": head.source, "model": "" if pick.model == OWN else head.model}
    parts |= {"target": "|".join(dict.fromkeys(member.head.target for member in pick.members))}
    parts |= {"compressor": head.compressor, "policy": head.policy, WHOLE: head.setting_label, "variant": head.variant}
    only = ",".join(f"{key}={value}" for key, value in parts.items() if value)
    words = ["bench", "run", head.suite, "--only", only, "--set", f"images={head.n}", "--preset", head.preset]
    return shlex.join(words)


def export_command(answer: Answer) -> str:
    """What makes a file of the pick's network; empty without one, of several networks, and of an older version."""
    main = answer.main
    pick = None if main is None or main.level == "older version" else main.pick
    if pick is None or len(pick.members) > 1:
        return ""
    return shlex.join(["bench", "export", pick.head.cell_id, "--onnx", "net.onnx"])


def advise_command(question: Question) -> str:
    """What asks the same of a network that is not measured here."""
    bits = ["--bits", question.bits] if " " not in question.bits and question.bits.startswith("W") else []
    return shlex.join(["bench", "advise", "NETWORK", *bits])


def to_json(answer: Answer) -> dict[str, Any]:
    """Plain values; accuracies unrounded, costs in CPU seconds."""
    question = answer.question
    asked = {name: getattr(question, name) for name in question.__dataclass_fields__}
    return {
        "question": asked,
        "sentence": sentence(answer),
        "how_sure": sure(answer),
        "command": command(answer),
        "stale_rows": answer.stale,
        "tables": [_table_json(table) for table in answer.tables],
    }


def _table_json(table: Table) -> dict[str, Any]:
    lists = {name: [_choice_json(one) for one in getattr(table, name)] for name in ("tied", "apart", "weaker")}
    return {
        "protocol_id": table.protocol_id,
        "targets": list(table.targets),
        "rests_on": table.level,
        "pick": None if table.pick is None else _choice_json(table.pick),
        "cheapest": None if table.cheapest is None else _choice_json(table.cheapest),
        **lists,
        "references": [_choice_json(one) for one in table.references],
        "beyond_limits": table.beyond,
        "not_on_all_networks": table.unpaired,
        "detectable": table.detectable,
        "ahead": table.ahead,
    }


def _choice_json(one: Choice) -> dict[str, Any]:
    head = one.head
    low, high = (None if end != end else end for end in one.ends)
    return {
        **{"source": head.source, "model": one.model, "compressor": head.compressor, "policy": head.policy},
        **{"variant": head.variant, "setting": head.setting_label, "images": head.n, "preset": head.preset},
        **{"tier": head.access, "top1": one.top1, "low": low, "high": high, "fp_top1": one.fp},
        **{"bitops_g": one.bitops_g, "synthesis_cpu_s": one.synthesis_s, "compress_cpu_s": one.compress_s},
        **{"seeds": list(one.seeds), "suites": list(one.suites), "machines": list(one.machines)},
        "row_ids": [member.head.row_id for member in one.members],
    }
