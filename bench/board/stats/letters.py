"""Tie letters: rows that share one are not shown to differ."""

from __future__ import annotations


def split_letters(text: str) -> list[str]:
    """The letters of one row: "abd" or, past "z", "y,z,aa"."""
    return text.split(",") if "," in text else list(text)


def short_letters(text: str) -> str:
    """Letters with every run of three or more as its ends: "abcdefgh" is "a–h", "acdef" is "a,c–f", "ab" stays."""
    runs: list[list[str]] = []
    for letter in split_letters(text):
        if runs and _place(letter) == _place(runs[-1][-1]) + 1:
            runs[-1].append(letter)
        else:
            runs.append([letter])
    if all(len(run) < 3 for run in runs):
        return text
    return ",".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ",".join(run) for run in runs)


def _place(letter: str) -> int:
    """1, 2, …, 26, 27, … for a, b, …, z, aa, …; see :func:`letter_of`."""
    place = 0
    for sign in letter:
        place = 26 * place + ord(sign) - ord("a") + 1
    return place


def letter_of(rank: int) -> str:
    """a, b, …, z, aa, ab, … for 1, 2, …"""
    letters = ""
    while rank > 0:
        rank, digit = divmod(rank - 1, 26)
        letters = chr(ord("a") + digit) + letters
    return letters
