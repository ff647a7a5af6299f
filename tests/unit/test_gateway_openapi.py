"""The OpenAPI document is the routes, and what is public changes with notice only."""

import html
import re

import pytest

import public_surface
from dingrelay_producers.language import CHINESE, spoken, translated
from dingrelay_workers.gateway import openapi
from dingrelay_workers.gateway.server import ROUTES
from dingrelay_workers.http import problems
from dingrelay_workers.http.api_keys import SCOPES
from dingrelay_workers.http.idempotency import HEADER


def test_the_public_surface_equals_its_outline() -> None:
    """Users meet a difference: name it in CHANGELOG.md, and run ``python tests/public_surface.py``."""
    assert public_surface.outline() == public_surface.FILE.read_text("utf-8")


def test_every_operation_is_named_once_and_has_a_group() -> None:
    names = [route.operation for route in ROUTES]
    assert len(names) == len(set(names))
    assert {route.tag for route in ROUTES} <= set(openapi.TAGS)


def test_every_reference_leads_somewhere() -> None:
    document = openapi.document(ROUTES)

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [each for inner in value.values() for each in references(inner)]
        if isinstance(value, list):
            return [each for inner in value for each in references(inner)]
        return []

    for reference in set(references(document)):
        here = document
        for step in reference.removeprefix("#/").split("/"):
            here = here[step]


def test_each_change_takes_an_idempotency_key_and_each_secret_is_marked() -> None:
    paths = openapi.document(ROUTES)["paths"]
    for route in ROUTES:
        operation = paths[route.path][route.method.lower()]
        names = {each["name"] for each in operation.get("parameters", ())}
        changes = route.method != "GET" and route.path.startswith("/v1/")
        assert (HEADER in names) is changes, route.operation
        for answer in route.answers.values():
            shown = getattr(answer.model, "model_fields", {})
            assert answer.secret is bool({"key", "secret"} & set(shown)), route.operation


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation)
def test_a_route_names_its_scope_and_its_statuses(route: object) -> None:
    assert isinstance(route, type(ROUTES[0]))
    assert route.scope in {None, "", *SCOPES}
    known = {kind.status for kind in problems.KINDS}
    assert openapi.statuses(route) <= known
    assert not openapi.statuses(route) & route.answers.keys()


def test_names_of_commands_are_code_on_the_page_of_the_api() -> None:
    page = openapi.PAGE.get_template("docs.html").render(
        document=openapi.document(ROUTES), language="en"
    )
    assert "<code>dingrelay key create</code>" in page
    assert "&lt;code&gt;" not in page


def test_the_page_of_the_api_is_all_chinese() -> None:
    english = {text for text in openapi.texts(ROUTES) if translated(text, CHINESE) == text}
    assert english <= {"OpenAPI 3.1."}
    with spoken(CHINESE):
        page = openapi.PAGE.get_template("docs.html").render(
            document=openapi.document(ROUTES), language=CHINESE
        )
    text = html.unescape(re.sub(r"<(code|pre)>.*?</\1>|<[^>]+>", "", page, flags=re.DOTALL))
    assert not re.findall(r"(?:[A-Za-z]+[ ,]+){3,}[A-Za-z]+\.", text)
