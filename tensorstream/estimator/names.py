"""Unknown names are errors that suggest the near one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'seq_len'?``, or nothing when no known name is near."""
    found = difflib.get_close_matches(name.lower(), [k for k in known if k], n=1, cutoff=0.6)
    return f" Did you mean {found[0]!r}?" if found else ""


def check(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ValueError naming the first unknown name, the near one, and all known ones."""
    known = list(known)
    for name in given:
        if name not in known:
            suggestion = near(str(name), known)
            raise ValueError(
                f"{where} has no {name!r}.{suggestion} Known: {', '.join(sorted(known))}"
            )


def choose(where: str, word: object, known: Iterable[str]) -> str:
    """The word, which must be one of the known; ValueError naming `where` otherwise."""
    known = list(known)
    if not isinstance(word, str) or word not in known:
        raise ValueError(
            f"{where} is {word!r}.{near(str(word), known)} Known: {', '.join(known)}"
        )
    return word
