"""The catalogues of translations: what is in the code goes into the ``.po``, from which the ``.mo`` is compiled.

That of English has the texts with a count alone, with their forms for one and for more; they are added by hand.
"""

import io
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from compiled import LOCALE as FOLDER
from compiled import compile_stale
from dingrelay_producers.language import CHINESE, DOMAIN, ENGLISH, SENTENCE
from extraction import ROOT, texts

HEADERS = {
    CHINESE: "# Texts of the command line and of the HTTP gateway. `make translations` keeps it up to date.",
    ENGLISH: "# Texts with a count: `{count:job|jobs}` is the first for 1, the second for any other. Add what is new.",
}


def path(locale: str) -> Path:
    """The ``.po`` of a language."""
    return ROOT / FOLDER / locale / "LC_MESSAGES/dingrelay.po"


def extracted(locale: str) -> Catalog:
    """All texts of the code, without translations."""
    catalogue = _new(locale)
    for message, context in texts():
        catalogue.add(message, context=context)
    for message in catalogue:
        # A brace is no sign of Python's: the values are checked by our own test.
        message.flags.discard("python-brace-format")
        message.flags.discard("python-format")
    return catalogue


class _Catalogue(Catalog):
    """A catalogue whose head has no dates and no version of Babel: each would be a conflict of two changes."""

    mime_headers = property(  # type: ignore[assignment]
        lambda self: [
            ("Language", str(self.locale_identifier)),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
            ("Plural-Forms", f"nplurals={self.num_plurals}; plural={self.plural_expr};"),
        ]
    )


def _new(locale: str) -> Catalog:
    return _Catalogue(locale=locale, domain=DOMAIN, header_comment=HEADERS[locale], fuzzy=False)


def stored(locale: str) -> Catalog:
    """The catalogue as it stands."""
    with path(locale).open("rb") as file:
        return read_po(file, locale=locale, domain=DOMAIN)


def updated(locale: str) -> Catalog:
    """The texts of the code, with the translations that there are."""
    known, catalogue = stored(locale), extracted(locale)
    for message in catalogue:
        other = None if message.context else SENTENCE
        for context in (message.context, other):
            same = known.get(message.id, context) if message.id else None
            if same and same.string:
                message.string = same.string
                break
    return catalogue


def po(catalogue: Catalog) -> bytes:
    """The catalogue as it is stored, in an order that a change elsewhere leaves as it is."""
    file = io.BytesIO()
    write_po(file, catalogue, sort_output=True, no_location=True, width=0)
    return file.getvalue()


def main() -> None:
    """Bring the files up to date, and name what is to be translated."""
    catalogue, english = updated(CHINESE), updated(ENGLISH)
    for message in [message for message in english if message.id and not message.string]:
        english.delete(message.id, message.context)
    for locale, texts_of in ((CHINESE, catalogue), (ENGLISH, english)):
        path(locale).write_bytes(po(texts_of))
    compile_stale(ROOT)
    missing = [message.id for message in catalogue if message.id and not message.string]
    print(f"{len(catalogue)} texts, {len(missing)} without a translation")
    for text in missing:
        print(f"  {text!r}")


if __name__ == "__main__":
    main()
