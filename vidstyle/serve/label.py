"""Names that people give: shown, never opened."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

MOST_CHARACTERS = 80
"""The longest title that is kept; a longer one is cut."""
# Control and format characters (which turn text around or hide it), halves of pairs, private use, line separators.
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|%]+')


def clean_label(text: str, otherwise: str = "Untitled") -> str:
    """``text`` on one line, without anything that cannot be seen, at most `MOST_CHARACTERS` long.

    It may still hold markup: whoever shows it escapes it.
    """
    # Cut first: normalizing is what takes time. Combining marks may shrink it, never so many times.
    text = unicodedata.normalize("NFC", text[: 8 * MOST_CHARACTERS])
    seen = "".join(" " if unicodedata.category(c) in _UNPRINTABLE else c for c in text)
    return " ".join(seen.split())[:MOST_CHARACTERS].strip() or otherwise


def name_of_file(name: str | None, otherwise: str = "the file") -> str:
    """An uploaded file's name as its owner knows it: with the ending, without folders of any system."""
    return clean_label(re.split(r"[\\/]", name or "")[-1], otherwise)


def label_of_file(name: str | None, otherwise: str = "Untitled") -> str:
    """The label that an uploaded file's name makes: without folders of any system and without the ending."""
    last = re.split(r"[\\/]", name or "")[-1].strip(" .")
    stem, dot, ending = last.rpartition(".")
    return clean_label(stem if dot and stem and len(ending) <= 5 else last, otherwise)


def download_name(label: str, ending: str) -> str:
    """Content-Disposition of an attachment called after ``label``, by RFC 6266 and RFC 5987."""
    name = " ".join(_NOT_IN_NAMES.sub(" ", label).split()).strip(" .") or "vidstyle"
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if c.isascii() and c.isprintable()).strip(" .")
    return f"attachment; filename=\"{plain or 'vidstyle'}{ending}\"; filename*=UTF-8''{quote(name + ending, safe='')}"
