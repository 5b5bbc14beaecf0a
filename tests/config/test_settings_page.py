"""`docs/settings.md` names every key, its default, and no other."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import Union, get_args, get_origin

import msgspec
import pytest

from config import deployments, settings

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "settings.md").read_text()
ROW = re.compile(r"^\| `([\w.]+)` \| (.+?) \|", re.MULTILINE)


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def expected(type_: type[msgspec.Struct]) -> dict[str, str]:
    """Keys and defaults as the page shows them, tables within tables too."""
    found: dict[str, str] = {}
    for field in msgspec.structs.fields(type_):
        inner = struct_of(field.type)
        if inner is None:
            found[field.name] = shown(field)
            continue
        optional = not field.required and field.default is None
        for name, default in expected(inner).items():
            found[f"{field.name}.{name}"] = "none" if optional and default == "required" else default
    return found


def struct_of(type_: object) -> type[msgspec.Struct] | None:
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return type_
    if get_origin(type_) in (Union, types.UnionType, tuple):
        return next((found for part in get_args(type_) if (found := struct_of(part))), None)
    return None


def shown(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    if field.default is None:
        return "none"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    text = msgspec.json.encode(default).decode()
    return f"`{text}`"


@pytest.mark.parametrize(
    ("title", "type_"), [("agent.toml", settings.AgentSettings), ("hub.toml", settings.HubSettings)]
)
def test_the_page_lists_every_key_with_its_default(title: str, type_: type[msgspec.Struct]) -> None:
    assert dict(ROW.findall(section(title))) == expected(type_)


def test_the_example_is_a_file_that_loads(tmp_path: Path) -> None:
    lines = [line[4:] for line in section("agent.toml").splitlines() if line.startswith("    ") or not line.strip()]
    path = tmp_path / "agent.toml"
    path.write_text("\n".join(lines))
    assert settings.load_agent(path, {}).protocols[0].streams == ("main",)


def test_the_example_document_is_one_that_loads(tmp_path: Path) -> None:
    text = "\n".join(line[4:] for line in section("Deployment document").splitlines() if line.startswith("    "))
    text = text.replace("0x…32 bytes", "0x" + "11" * 32)
    for number in range(1, 5):
        text = text.replace("0x…", f"0x{number:040x}", 1)
    path = tmp_path / "deployment.toml"
    path.write_text(text)
    assert deployments.load(path).epochs[0].k == 2
