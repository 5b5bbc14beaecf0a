"""House rules that no other tool knows. In: the files of the repository. Out: one line for each breach; `make check` runs it.

index      no address of a package index, and no path of somebody's machine
unfinished no mark of unfinished work
money      no float, no true division, no Decimal where a rule of money is computed (accounting, domain)
serving    HTTP is served by the web packages, earnings and the lying node only
packages   pyproject.toml lists every package
size       a module is a room, not a house
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MONEY = ("accounting", "domain")
SERVERS = ("kit/http.py", "agent/web/", "earnings/", "devnet/proxy/", "tests/")
PACKAGES = (
    "accounting", "agent", "benchmarks", "cli", "config", "contracts", "devnet", "domain", "earnings", "indexers", "kit", "signers",
    "store", "verify",
)  # fmt: skip
LONGEST = 500
BINARY = {".png", ".gz", ".ico", ".woff2"}

# Spelled in pieces: this file must pass its own check.
_INDEX = re.compile(
    "|".join(
        [
            "py" + r"pi\.org",
            "python" + "hosted",
            "registry" + r"\.npm",
            r"--(?:extra-)?index" + "-url",
            "find" + "-links=",
        ]
    )
)
_MACHINE = re.compile(r"(?<![\w.$}])/(?:" + "wo" + "rk|ro" + r"ot)/|/ho" + r"me/[a-z]")
_UNFINISHED = re.compile(r"\b(?:TO" + "DO|FIX" + "ME|XX" + r"X)\b")


def files() -> list[Path]:
    """Everything that is, or could be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    names = filter(None, listed.stdout.split("\0"))
    return [path for name in names if (path := ROOT / name).is_file() and path.suffix not in BINARY]


def text_breaches(name: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if name not in ("requirements/lock.sh", "Makefile") and _INDEX.search(line):
            yield f"{name}:{number}: index: names a package index"
        if _MACHINE.search(line):
            yield f"{name}:{number}: index: names a path of one machine"
        if _UNFINISHED.search(line):
            yield f"{name}:{number}: unfinished: finish it, or say it in the documents"


def money_breaches(name: str, tree: ast.AST) -> Iterator[str]:
    """Floats of seconds (`…_s`) are not money."""
    seconds = {id(part) for node in ast.walk(tree) if _is_seconds(node) for part in ast.walk(node)}
    for node in ast.walk(tree):
        where = f"{name}:{getattr(node, 'lineno', 0)}: money:"
        match node:
            case ast.Constant(value=float() | complex()):
                yield f"{where} a float literal"
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                yield f"{where} true division; use // and say which way it rounds"
            case ast.Name(id="float" | "Decimal" | "Fraction" | "round") if id(node) not in seconds:
                yield f"{where} {node.id}"
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                module = getattr(node, "module", "") or ""
                for alias in names:
                    if {"decimal", "fractions", "math"} & {module, alias.name}:
                        yield f"{where} imports {module or alias.name}"
            case _:
                pass


def _is_seconds(node: ast.AST) -> bool:
    match node:
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.arg(arg=name):
            return name.endswith("_s")
        case _:
            return False


def serving_breaches(name: str, tree: ast.AST) -> Iterator[str]:
    if name.startswith(SERVERS):
        return
    for node in ast.walk(tree):
        served = (
            isinstance(node, ast.ImportFrom)
            and (
                node.module == "aiohttp.web" or (node.module == "aiohttp" and any(a.name == "web" for a in node.names))
            )
        ) or (isinstance(node, ast.Import) and any(a.name in ("aiohttp.web", "http.server") for a in node.names))
        if served:
            yield f"{name}:{getattr(node, 'lineno', 0)}: serving: HTTP is served elsewhere"


def package_breaches() -> Iterator[str]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        listed = set(tomllib.load(file)["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in PACKAGES
        for path in (ROOT / top).rglob("__init__.py")
        if "node_modules" not in path.parts
    }
    for name in sorted(found ^ listed):
        yield f"pyproject.toml: packages: {name} is {'not listed' if name in found else 'listed and missing'}"


def breaches() -> list[str]:
    found: list[str] = [*package_breaches()]
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        text = path.read_text(errors="replace")
        found += text_breaches(name, text)
        if path.suffix != ".py":
            continue
        tree = ast.parse(text, filename=name)
        found += serving_breaches(name, tree)
        if name.startswith(tuple(f"{room}/" for room in MONEY)):
            found += money_breaches(name, tree)
        if (lines := text.count("\n")) > LONGEST and not name.startswith("tests/") and "/migrations/" not in name:
            found.append(f"{name}: size: {lines} lines, at most {LONGEST}")
    return found


def main() -> int:
    found = breaches()
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
