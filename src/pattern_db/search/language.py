"""Words as they are compared: folded, without their inflections, and the ones that tell nothing."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

MAX_CHARS = 8_000
"""How much of a text is read."""

STOP_WORDS = frozenset(
    """
    a about above after again against all am an and any are aren as at be because been before being
    below between both but by can cannot could couldn did didn do does doesn doing don down during
    each few for from further had hadn has hasn have haven having he her here hers herself him
    himself his how i if in into is isn it its itself just ll me might mightn more most must mustn
    my myself no nor not now of off on once only or other our ours ourselves out over own re s same
    shall shan she should shouldn so some such t than that the their theirs them themselves then
    there these they this those through to too under until up ve very was wasn we were weren what
    when where which while who whom why will with won would wouldn you your yours yourself
    yourselves
    """.split()  # noqa: SIM905
)
IRREGULAR = tuple(
    """
    bad worse worst; become became; begin began begun; bite bit bitten; blow blew blown;
    break broke broken; bring brought; build built; buy bought; catch caught; child children;
    choose chose chosen; come came; deal dealt; dig dug; draw drew drawn; drink drank drunk;
    drive drove driven; eat ate eaten; fall fell fallen; feed fed; feel felt; fight fought;
    find found; fly flew flown; foot feet; forget forgot forgotten; freeze froze frozen;
    get got gotten; give gave given; go goes going went gone; good better best; grow grew grown;
    half halves; hang hung; hear heard; hide hid hidden; hold held; keep kept; knife knives;
    know knew known;
    lead led; leave left; lend lent; life lives; light lit; lose lost; make made; man men;
    mean meant; meet met; mouse mice; pay paid; person people; ride rode ridden; rise rose risen;
    run ran; say said; see saw seen; seek sought; sell sold; send sent; sew sewn;
    shake shook shaken; shelf shelves; shine shone; shoot shot; show shown; sing sang sung;
    sit sat; sleep slept;
    speak spoke spoken; spend spent; stand stood; steal stole stolen; stick stuck; strike struck;
    swear swore sworn; swim swam swum; take took taken; teach taught; tear tore torn; tell told;
    think thought; throw threw thrown; tooth teeth; understand understood; wake woke woken;
    wear wore worn; wife wives; win won; woman women; write wrote written
    """.split(";")  # noqa: SIM905
)

SUFFIXES = tuple(
    "ations ation ingly ments ings ment ness ies ied ers ing ion ed es er ly s y e".split()  # noqa: SIM905
)

_MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0dff\u0e00-\u0eff\u1000-\u109f"
)
WORD = re.compile(rf"[\w{_MARKS}]+")
GAP = re.compile(rf"[^\w{_MARKS}]+")
_ACCENT = re.compile("[\u0300-\u036f]")


def fold(text: str) -> str:
    """Lower case without accents, other scripts whole, as FTS5's ``remove_diacritics 2``."""
    text = text.lower()
    if text.isascii():
        return text
    bare = _ACCENT.sub("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFC", bare)


@lru_cache(maxsize=32_768)
def stem(word: str) -> str:
    """What the inflections of a word share, cruder than Porter's; that of "took" is "take"'s."""
    return _cut(_BASE.get(word, word))


def stems(text: str) -> list[str]:
    """The words of a text as they are compared."""
    return [stem(word) for word in WORD.findall(fold(text[:MAX_CHARS]))]


def beginnings(root: str) -> tuple[str, ...]:
    """With what the words begin that have this stem."""
    return (root, *_IRREGULAR_FORMS.get(root, ()))


def _cut(word: str) -> str:
    if len(word) <= 3 or not word.isascii():
        return word
    stem = word
    if word.endswith(SUFFIXES):
        cut = (suffix for suffix in SUFFIXES if word.endswith(suffix))
        stem = next((word.removesuffix(s) for s in cut if len(word) - len(s) >= 3), word)
    if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "ls":
        return stem[:-1]
    return stem[:-1] if len(stem) > 3 and stem[-1] in "ei" else stem


_BASE = {form: line.split()[0] for line in IRREGULAR for form in line.split()[1:]}
_IRREGULAR_FORMS: dict[str, tuple[str, ...]] = {}
for _form in _BASE:
    _root = stem(_form)
    if not _form.startswith(_root):
        _IRREGULAR_FORMS[_root] = (*_IRREGULAR_FORMS.get(_root, ()), _form)
