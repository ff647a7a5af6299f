"""The catalogue of translations: what is in the code goes into the ``.po``, from which the ``.mo`` is compiled."""

import io

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from compiled import LOCALE as FOLDER
from compiled import compile_stale
from dingrelay_producers.language import SENTENCE
from extraction import ROOT, texts

LOCALE = "zh_CN"
PO = ROOT / FOLDER / f"{LOCALE}/LC_MESSAGES/dingrelay.po"

HEADER = (
    "# Texts of the command line and of the HTTP gateway. `make translations` keeps it up to date."
)


def extracted() -> Catalog:
    """All texts of the code, without translations."""
    catalogue = new()
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
            ("Language", LOCALE),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
            ("Plural-Forms", "nplurals=1; plural=0;"),
        ]
    )


def new() -> Catalog:
    """A catalogue without texts."""
    return _Catalogue(locale=LOCALE, domain="dingrelay", header_comment=HEADER, fuzzy=False)


def stored() -> Catalog:
    """The catalogue as it stands."""
    if not PO.exists():
        return new()
    with PO.open("rb") as file:
        return read_po(file, locale=LOCALE, domain="dingrelay")


def updated() -> Catalog:
    """The texts of the code, with the translations that there are."""
    known, catalogue = stored(), extracted()
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
    """Bring both files up to date, and name what is to be translated."""
    catalogue = updated()
    PO.parent.mkdir(parents=True, exist_ok=True)
    PO.write_bytes(po(catalogue))
    compile_stale(ROOT)
    missing = [message.id for message in catalogue if message.id and not message.string]
    print(f"{len(catalogue)} texts, {len(missing)} without a translation")
    for text in missing:
        print(f"  {text!r}")


if __name__ == "__main__":
    main()
