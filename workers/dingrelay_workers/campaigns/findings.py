"""Findings of a check, in sentences with their remedies."""

from collections.abc import Iterator, Mapping, Sequence

from dingrelay_producers.client.campaign_documents import CampaignPreview, Cause
from dingrelay_producers.client.outcomes import TONES, Meaning
from dingrelay_producers.time_spans import span
from dingrelay_producers.zone import local
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns import pasted
from dingrelay_workers.campaigns.drafts import CampaignDraft

_OF_CAUSE: Mapping[Cause, tuple[str, str]] = {
    "unknown": (
        en("{:,} rows name no person of the directory, and are left out."),
        en("Correct the name or the number, or ask whether the person is in DingTalk yet."),
    ),
    "left": (
        en("{:,} rows name a person who has left, and are left out."),
        "",
    ),
    "several": (
        en("{:,} rows have a name that several people have, and are left out."),
        en("Write a mobile number, a job number or the department beside the name."),
    ),
    "different": (
        en("{:,} rows have cells of different people, and are left out."),
        en("A row is one person: see whether a column was moved."),
    ),
    "empty": (
        en("{:,} rows have nothing where the person should be named, and are left out."),
        "",
    ),
    "value": (
        en("{:,} rows lack a value that the text needs, and are left out."),
        en("Fill in the column, or take what it fills in out of the text."),
    ),
    "malformed": (
        en("{:,} rows can't be read, and are left out."),
        "",
    ),
}
"""Cause for which rows are skipped → words with their number, and what helps; the commonest first."""


def findings_of(found: CampaignPreview) -> list[Meaning]:
    """Findings of a check, the worst first."""
    return sorted([*_cost(found), *_people(found)], key=lambda each: TONES.index(each.tone))


def choices_of(
    draft: CampaignDraft, departments: Mapping[int, str], campaigns: Sequence[str], *, rows: int
) -> list[Meaning]:
    """Sentences about the people that a draft names and leaves out.

    Args:
        draft: that names them.
        departments: id → name.
        campaigns: names of those whose people are left out.
        rows: of its file.
    """
    content = draft.content

    def named(ids: Sequence[int]) -> str:
        return ", ".join([departments.get(department, str(department)) for department in ids])

    choices: list[tuple[str, object, str]] = [
        ("good", content.everyone, en("Everyone in the organisation.")),
        ("good", content.departments, en("All in the departments: {}", named(content.departments))),
        ("good", draft.file_name, en("Those in the file “{}”: {:,} rows.", draft.file_name, rows)),
        ("good", content.pasted, en("{:,} pasted names or numbers.", pasted.count(content.pasted))),
        (
            "doubt",
            content.without_departments,
            en("Not those in the departments: {}", named(content.without_departments)),
        ),
        (
            "doubt",
            content.without_pasted,
            en(
                "Not the {:,} pasted names or numbers that are left out.",
                pasted.count(content.without_pasted),
            ),
        ),
        ("doubt", campaigns, en("Not those who got: {}", ", ".join(campaigns))),
    ]
    return [Meaning(tone, words) for tone, choice, words in choices if choice]


def causes_of(causes: Mapping[Cause, int]) -> Iterator[Meaning]:
    """Sentences about rows that are skipped, by their causes."""
    for cause, (words, remedy) in _OF_CAUSE.items():
        if rows := causes.get(cause):
            yield Meaning("bad", en(words, rows), remedy)


def unchecked(error: Exception) -> Meaning:
    """A check that can't be made now."""
    return Meaning("bad", en("It can't be checked: {}", str(error)), en("Check again in a minute."))


def _cost(found: CampaignPreview) -> Iterator[Meaning]:
    sending = span(max(1.0, found.minutes * 60))
    words = en(
        "{:,} people in {:,} calls: about {} of sending.", found.recipients, found.calls, sending
    )
    if found.limit:
        words = words + " " + en("The limit is {}.", found.limit)
    yield Meaning("good", words)
    begin, end = local(found.starts_at)[:16], local(found.ends_at)[:16]
    yield Meaning(
        "good", en("It begins at {} at the earliest, and is through at about {}.", begin, end)
    )
    if found.waiting_minutes >= 1:
        waiting = span(found.waiting_minutes * 60)
        yield Meaning("wait", en("What waits already takes about {} before it.", waiting))
    if found.quota_limit is not None:
        words = en("It takes {} of the month's calls.", f"{found.quota_share or 0:.1%}")
        words = (
            words + " " + en("{:,} of {:,} are used already.", found.quota_used, found.quota_limit)
        )
        if found.fits:
            yield Meaning("good", words)
        else:
            remedy = en("That is more than broadcasts may still use: it will pause before its end.")
            yield Meaning("bad", words, remedy)
    if found.calls > found.plain_calls:
        words = en("The fields of the text make {:,} calls of it.", found.calls)
        remedy = en(
            "Without them it takes {:,} calls: leave them out if all may read the same.",
            found.plain_calls,
        )
        yield Meaning("good" if found.fits else "doubt", words, remedy)


def _people(found: CampaignPreview) -> Iterator[Meaning]:
    former = found.left or 0
    unknown = (found.not_in_directory or 0) - former
    yield from causes_of(
        found.causes or ({"malformed": found.malformed} if found.malformed else {})
    )
    if former:
        words = en("{:,} people have left the organisation.", former)
        yield Meaning("doubt", words, en("They are left out by themselves."))
    yield from _not_in_directory(found, unknown)
    if found.out_of_range:
        words = en("{:,} people are outside of what the app may reach.", found.out_of_range)
        yield Meaning("bad", words, en("An administrator of DingTalk can widen the app's range."))
    if found.had_it_today:
        words = en("{:,} people have this very text today already.", found.had_it_today)
        yield Meaning(
            "bad", words, en("DingTalk drops the second one: change the text, or send it tomorrow.")
        )
    if found.at_daily_limit:
        words = en(
            "{:,} people have as many messages of this app today as DingTalk delivers.",
            found.at_daily_limit,
        )
        yield Meaning("bad", words, en("Send it tomorrow, or from another app."))
    if found.duplicates:
        yield Meaning(
            "good", en("{:,} were named more than once; each gets it once.", found.duplicates)
        )
    if found.excluded:
        yield Meaning("good", en("{:,} people are left out, as you asked.", found.excluded))


def _not_in_directory(found: CampaignPreview, unknown: int) -> Iterator[Meaning]:
    """Findings about people who are not in the directory, as they were named."""
    words = en("{:,} people are not in the directory.", unknown)
    if unknown == found.recipients > 1:
        words = en("None of these people is in the directory.")
        yield Meaning("bad", words, en("Is this the column that names them?"))
    elif unknown:
        if found.absent:
            more = ", …" if unknown > len(found.absent) else ""
            words = words + " " + en("They are {}.", ", ".join(found.absent) + more)
        remedy = en("DingTalk is asked for each; those it does not know are left out.")
        yield Meaning("doubt", words, remedy)
