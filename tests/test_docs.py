"""The pages lead where they say: links and anchors among them, and what docstrings and comments point to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = [
    file
    for package in ("bench", "methods", "dashboard", "tests")
    for file in sorted((ROOT / package).rglob("*.py"))
    if file != Path(__file__)
]

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`[^`]*`")
_LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
_ID = re.compile(r'<a id="([^"]+)"></a>')
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*$", re.MULTILINE)
_PATH = re.compile(r"(?:bench|methods|dashboard|tests|suites|docs)/[\w./-]*")
_METHOD = re.compile(r"methods/(?:sources|compressors|policies)/[a-z]\w*\.py")
_OLD = re.compile(
    r"\bspec (?:sources )?\d|\bspec\n\s*\d|\b[Ss]pecifications?\b|\bdesign,? rule|[Dd]esign's rules?\b|\bas the spec\b"
)
_REFERENCE = re.compile(r"\bdocs/[\w/-]+\.md(?:#[\w-]+(?:(?:,| to| and)\s+#[\w-]+)*)?")


@dataclass(frozen=True)
class Place:
    """What a link or a reference names, and where it stands."""

    where: str
    page: Path
    anchor: str

    def wrong(self) -> str | None:
        """Why it leads nowhere; None when all is well."""
        if not self.page.exists():
            return f"{self.where}: no {shown(self.page)}"
        if self.anchor and self.anchor not in anchors(self.page):
            return f"{self.where}: no #{self.anchor} in {shown(self.page)}"
        return None


def shown(path: Path) -> str:
    """The path as it is named in this tree."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


@lru_cache(maxsize=64)
def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


@lru_cache(maxsize=64)
def anchors(page: Path) -> frozenset[str]:
    """What may follow the page's ``#``: ids that were set, and headings as GitHub turns them into anchors."""
    text = prose(page)
    headings = [re.sub(r"[^\w\- ]", "", _ID.sub("", h).lower()).replace(" ", "-") for h in _HEADING.findall(text)]
    return frozenset([*_ID.findall(text), *headings])


def links(page: Path) -> Iterator[Place]:
    """Links to other files and to places in this one; those to other sites aside."""
    for target in _LINK.findall(_INLINE.sub("", prose(page))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        yield Place(f"{shown(page)}: {target}", there, anchor)


def references(file: Path) -> Iterator[Place]:
    """``docs/PAGE.md#ANCHOR, #ANCHOR`` in docstrings and comments; a line may end behind a comma."""
    text = file.read_text(encoding="utf-8")
    for found in _REFERENCE.finditer(text):
        page, *names = found.group(0).split("#")
        line = text.count("\n", 0, found.start()) + 1
        for name in names or [""]:
            anchor = re.match(r"[\w-]*", name)
            yield Place(f"{shown(file)}:{line}: {found.group(0)}", ROOT / page, anchor.group(0) if anchor else "")


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_somewhere(page: Path) -> None:
    assert [why for place in links(page) if (why := place.wrong())] == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_an_anchor_stands_once(page: Path) -> None:
    ids = _ID.findall(prose(page))
    assert sorted({name for name in ids if ids.count(name) > 1}) == []


def test_code_points_to_places_that_exist() -> None:
    assert [why for file in CODE for place in references(file) if (why := place.wrong())] == []


def test_every_page_can_be_reached() -> None:
    """From the README or CONTRIBUTING, link by link."""
    seen: set[Path] = set()
    todo = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        todo += [place.page for place in links(page)]
    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in seen] == []


def test_each_of_the_ten_questions_is_answered_by_a_link() -> None:
    page = ROOT / "docs" / "questions.md"
    answers = re.split(r"^\*\*\d+\. ", prose(page), flags=re.MULTILINE)[1:]
    assert len(answers) == 10
    assert all(_LINK.search(answer) for answer in answers)


def test_pages_are_the_product_s_own() -> None:
    """They stand alone: no place on a machine, and nothing that is not in this tree."""
    strange = re.compile(r"(?<![\w.])/(?:work|tmp|home|root|mnt)/|\bshared/|localhost|\bwill be\b")
    pages = [page for page in PAGES if page.parent != ROOT]
    assert [f"{p.name}: {m.group(0)}" for p in pages for m in strange.finditer(p.read_text(encoding="utf-8"))] == []


def test_what_leads_nowhere_is_found(tmp_path: Path) -> None:
    page, code = tmp_path / "page.md", tmp_path / "code.py"
    page.write_text(
        '# One, two\n<a id="here"></a>\n[a](#here) [b](#one-two) [c](#gone) `[d](#quoted)` [e](none.md) [f](x:y)\n'
        "```\n[g](#code)\n```\n"
    )
    found = [place.wrong() for place in links(page)]
    assert found == [None, None, "page.md: #gone: no #gone in page.md", "page.md: none.md: no none.md"]
    code.write_text(
        '"""As docs/methods/sources.md#kw, #nothing and\n#zeroq say (docs/architecture.md#rule-4), docs/no.md."""'
    )
    assert [(place.anchor, place.wrong() is None) for place in references(code)] == [
        ("kw", True),
        ("nothing", False),
        ("zeroq", True),
        ("rule-4", True),
        ("", False),
    ]


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_files_named_exist(page: Path) -> None:
    """Paths in backticks; ``NAME`` stands for any.  A method's own file may go without this failing."""
    named = {text.strip("`") for text in _INLINE.findall(prose(page))}
    paths = {name for name in named if _PATH.fullmatch(name) and "NAME" not in name and not _METHOD.fullmatch(name)}
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


def test_no_reference_points_outside_the_tree() -> None:
    """Sections and rules are named as ``docs/PAGE.md#ANCHOR``, never by the numbers of a document that is not here."""
    found = [
        f"{shown(file)}:{text.count(chr(10), 0, match.start()) + 1}: {match.group(0)!r}"
        for file in CODE
        for text in [file.read_text(encoding="utf-8")]
        for match in _OLD.finditer(text)
    ]
    assert found == []
