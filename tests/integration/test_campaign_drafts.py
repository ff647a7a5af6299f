"""Drafts of campaigns: saved half-filled, by several editors, on each database."""

from typing import Any

import pytest

from dingrelay_producers.errors import DraftConflict, DraftNotFound
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.campaigns.drafts import LARGEST_FILE, Drafts
from tables import prepare


@pytest.fixture
def drafts(valkey_url: str, database_url: str) -> Drafts:
    prepare(database_url)
    settings = Settings.load(env="test", redis_url=valkey_url, database_url=database_url)
    return Drafts(settings, migrated=True)


async def test_a_half_filled_draft_is_saved(drafts: Drafts) -> None:
    made = await drafts.create({"name": "party"}, "ann")
    saved = await drafts.save(
        made.id, 1, {"message": {"msgtype": "text"}, "departments": [7], "rate": 60}, "bob"
    )
    assert saved == await drafts.get(made.id)
    assert (saved.version, saved.created_by, saved.updated_by) == (2, "ann", "bob")
    assert (saved.content.name, saved.content.departments, saved.content.rate) == ("party", [7], 60)
    unchanged = await drafts.save(made.id, 2, {"rate": 60}, "cho")
    assert (unchanged.version, unchanged.updated_by) == (2, "bob")
    assert (await drafts.save(made.id, 2, {"rate": None}, "bob")).content.rate is None


async def test_the_slower_of_two_editors_learns_who_was_faster(drafts: Drafts) -> None:
    made = await drafts.create({"name": "party"}, "ann")
    saved = await drafts.save(made.id, 1, {"name": "picnic"}, "bob")
    with pytest.raises(DraftConflict, match="bob saved it at") as caught:
        await drafts.save(made.id, 1, {"name": "dinner"}, "ann")
    assert (caught.value.by, caught.value.at) == ("bob", saved.updated_at)
    with pytest.raises(DraftConflict):
        await drafts.put_file(made.id, 1, "people.csv", b"userid\nu1\n", "ann")
    assert (await drafts.get(made.id)).content.name == "picnic"


async def test_a_file_is_kept_beside_the_text(drafts: Drafts) -> None:
    made = await drafts.create({}, "ann")
    put = await drafts.put_file(made.id, 1, "people.csv", b"userid\nu1\n", "ann")
    assert (put.version, put.file_name, put.file_bytes) == (2, "people.csv", 10)
    gone = await drafts.put_file(made.id, 2, "", None, "ann")
    assert (gone.file_name, gone.file_bytes) == ("", 0)
    with pytest.raises(ContractError, match="file: may have"):
        await drafts.put_file(made.id, 3, "people.csv", b"x" * (LARGEST_FILE + 1), "ann")


async def test_the_latest_drafts_of_some_apps_are_listed(drafts: Drafts) -> None:
    for app in ("hr", "it", "hr"):
        await drafts.create({"app": app}, "ann")
    ours = await drafts.list({"hr"})
    assert [draft.content.app for draft in ours] == ["hr", "hr"]
    assert ours[0].updated_at >= ours[1].updated_at
    assert len(await drafts.list(limit=2)) == 2
    await drafts.delete(ours[0].id)
    assert [draft.id for draft in await drafts.list({"hr"})] == [ours[1].id]
    for ask in (drafts.get, drafts.delete):
        with pytest.raises(DraftNotFound):
            await ask(ours[0].id)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"quiet": "22-8"}, "quiet"),
        ({"rate": 0}, "rate"),
        ({"error_share": 2}, "error_share"),
        ({"pasted": "u\0"}, "pasted"),
        ({"departments": [0]}, "departments.0"),
        ({"without_campaigns": ["x"]}, "without_campaigns.0"),
        ({"text": "hello"}, "text"),
    ],
)
async def test_an_error_names_the_field(
    drafts: Drafts, changes: dict[str, Any], field: str
) -> None:
    made = await drafts.create({}, "ann")
    with pytest.raises(ContractError) as caught:
        await drafts.save(made.id, 1, changes, "ann")
    assert caught.value.field == field
    assert (await drafts.get(made.id)).version == 1
