"""The Lua scripts as Redis runs them, each behind its preludes and the names that its declaration gives it."""

import importlib
import re
import subprocess
from importlib import resources
from pathlib import Path

import pytest
from redis import Redis

from dingrelay_producers.store.script_functions import DECLARED, ScriptFunction
from support.servers import program

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "producers", ROOT / "workers"]
STORE = "dingrelay_producers.store"
GIVEN_BY_REDIS = ("redis", "cjson", "KEYS", "ARGV")
EXPECTED = (
    "221",  # `finish`, where a script leaves nothing for its end
    "241",  # `renewed`, where a script only takes jobs out of their places
)


def functions() -> list[ScriptFunction[...]]:
    """All that the product declares."""
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            if "\n@script(" in path.read_text("utf-8"):
                importlib.import_module(".".join(path.relative_to(source).with_suffix("").parts))
    return [function for function in DECLARED if function.package.startswith("dingrelay_")]


FUNCTIONS = functions()


def test_each_file_is_a_script_or_what_several_need() -> None:
    files = {(path.parents[1], path.stem) for source in SOURCES for path in source.rglob("*.lua")}
    used = {(function.package, function.name) for function in FUNCTIONS}
    used |= {(each.package, each.name) for function in FUNCTIONS for each in function.preludes}
    used |= {(STORE, "exact_numbers"), (STORE, "together")}
    assert files == {(Path(str(resources.files(package))), name) for package, name in used}


def test_no_name_hides_another_and_none_is_unknown_or_unused(tmp_path: Path) -> None:
    """A name of a script that a prelude has, too, reads well and means something else."""
    for function in FUNCTIONS:
        (tmp_path / f"{function.package}.{function.name}.lua").write_text(
            function.script.body, "utf-8"
        )
    luacheck = [program("luacheck"), "--no-config", "--no-color", "-q", "--std", "lua51"]
    luacheck += ["--no-max-line-length", "--globals", "tostring", "--ignore", *EXPECTED]
    luacheck += ["--read-globals", *GIVEN_BY_REDIS, "--", str(tmp_path)]
    checked = subprocess.run(luacheck, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_a_script_uses_all_that_it_is_given_by_its_name(function: ScriptFunction[...]) -> None:
    assert not re.search(r"\b(KEYS|ARGV)\[", function.source)
    for name in function.names:
        assert re.search(rf"\b{name}\b", function.source), name
    for name in function.fields:
        assert re.search(rf"\.{name}\b", function.script.body), name


def test_redis_compiles_each(valkey_url: str) -> None:
    """It takes 200 locals of a function, and 60 of those around it."""
    with Redis.from_url(valkey_url) as redis:
        for function in FUNCTIONS:
            assert redis.script_load(function.script.body) == function.script.sha
