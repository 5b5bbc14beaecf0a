"""The verifier shares nothing with what it verifies."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {"verify", "Crypto", "coincurve"} | set(sys.stdlib_module_names)


def test_it_imports_only_the_standard_library_keccak_and_the_curve() -> None:
    found: set[str] = set()
    for path in (ROOT / "verify").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add((node.module or "").split(".")[0])
    assert found - ALLOWED == set()


def test_loading_it_loads_nothing_else_of_ours() -> None:
    code = "import sys, verify; print(sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(ast.literal_eval(done.stdout))
    assert (
        loaded & {"domain", "kit", "accounting", "indexers", "store", "msgspec", "aiohttp", "web3", "sqlalchemy"}
        == set()
    )


def test_its_rules_hold_no_float() -> None:
    for name in ("replay", "digests", "document", "decoding", "checks", "contents", "primitives"):
        tree = ast.parse((ROOT / "verify" / f"{name}.py").read_text())
        floats = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, float)]
        divisions = [n for n in ast.walk(tree) if isinstance(n, ast.Div)]
        assert not floats and not divisions, name


def test_hex_is_read_in_one_place() -> None:
    """`bytes.fromhex` skips white space and takes upper case, so whoever calls it must have looked first."""
    calls = [
        path.stem
        for path in sorted((ROOT / "verify").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("fromhex", "unhexlify", "a2b_hex")
    ]
    assert calls == ["strict"]
