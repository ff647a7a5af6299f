"""The Lua scripts as Redis runs them, each behind its preludes."""

import importlib
import subprocess
from pathlib import Path

from tests.servers import program

from dingrelay_producers.store.scripts import Script

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "producers", ROOT / "workers"]
GIVEN_BY_REDIS = ("redis", "cjson", "KEYS", "ARGV")
EXPECTED = (
    "211",  # a function that other scripts call
    "221",  # `finish`, where a script leaves nothing for its end
)


def scripts() -> list[Script]:
    """All that the modules which load scripts hold."""
    modules = [
        importlib.import_module(".".join(path.relative_to(source).with_suffix("").parts))
        for source in SOURCES
        for path in sorted(source.rglob("*.py"))
        if any(loader in path.read_text("utf-8") for loader in ("Script.load(", "transition("))
    ]
    held = [value for module in modules for value in vars(module).values()]
    return [script for script in held if isinstance(script, Script)]


def test_no_name_hides_another_and_none_is_unknown(tmp_path: Path) -> None:
    """A name of a script that a prelude has, too, reads well and means something else."""
    found = scripts()
    texts = [path.read_text("utf-8") for source in SOURCES for path in source.rglob("*.lua")]
    unseen = [text for text in texts if not any(text in script.body for script in found)]
    assert not unseen, "a script that no module holds"
    for script in found:
        (tmp_path / f"{script.sha}.lua").write_text(script.body, "utf-8")
    luacheck = [program("luacheck"), "--no-config", "--no-color", "-q", "--std", "lua51"]
    luacheck += ["--no-max-line-length", "--globals", "tostring", "--ignore", *EXPECTED]
    luacheck += ["--read-globals", *GIVEN_BY_REDIS, "--", str(tmp_path)]
    checked = subprocess.run(luacheck, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
