"""A campaign's plan is defined once: what types and checks must repeat of it agrees with it."""

from dataclasses import MISSING, fields
from typing import get_type_hints

from dingrelay_producers.client.campaign_documents import Plan, PlanFields
from dingrelay_workers.campaigns.documents import CampaignSpec


def test_the_keyword_arguments_are_the_fields_of_a_plan() -> None:
    assert get_type_hints(PlanFields) == get_type_hints(Plan)
    needed = {field.name for field in fields(Plan) if field.default is MISSING}
    assert needed == PlanFields.__required_keys__


def test_a_stored_plan_has_its_defaults() -> None:
    defaults = {field.name: field.default for field in fields(Plan)}
    stored = {
        name: MISSING if field.is_required() else field.default
        for name, field in CampaignSpec.model_fields.items()
    }
    assert stored.items() <= defaults.items()
