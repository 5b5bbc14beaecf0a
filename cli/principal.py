"""`stakeside principal add|rotate|revoke|list`: who may look and act. In: names and roles. Out: a token, once.

With the agent stopped the book is opened here: whoever can write the book's file is the root of trust, and this is how the first admin
comes to be. With the agent running its API is asked, by an admin's token.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path
from typing import cast
from urllib.parse import quote

from cli import asking, serving
from domain import errors

ROLES = ("viewer", "operator", "proposer", "approver", "admin")


def register(subparsers: serving.Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("principal", help="who may look and act: add, rotate a token, revoke, list")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_ = commands.add_parser("add", help="let somebody in; the token is printed once")
    add_.add_argument("--role", action="append", choices=ROLES, required=True, help="may be repeated")
    rotate_ = commands.add_parser("rotate", help="another token with the same roles; the old one ends at once")
    revoke_ = commands.add_parser("revoke", help="end a token and every session of it")
    list_ = commands.add_parser("list", help="names and roles")
    for command, handler in ((add_, add), (rotate_, rotate), (revoke_, revoke)):
        command.add_argument("name")
        command.add_argument("--reason", required=True, help="stays in the book")
        command.set_defaults(run=handler)
    for command in (add_, rotate_):
        command.add_argument(
            "--token-file", type=Path, metavar="OUT", help="write the token there instead, for you alone"
        )
    list_.set_defaults(run=list_principals)
    for command in (add_, rotate_, revoke_, list_):
        asking.options(command)


def add(args: argparse.Namespace) -> int:
    return _token(args, "add", {"name": args.name, "roles": args.role, "reason": args.reason})


def rotate(args: argparse.Namespace) -> int:
    return _token(args, "rotate", {"reason": args.reason})


def revoke(args: argparse.Namespace) -> int:
    try:
        answer = _change(args, "revoke", {"reason": args.reason})
    except asking.Refused as error:
        return asking.refused(args, error)
    return asking.finish(args, answer, [f"{args.name} is revoked"])


def list_principals(args: argparse.Namespace) -> int:
    loaded = asking.load(args)
    agent = asking.agent(args, loaded)
    answer: asking.Json
    if agent.alive():
        try:
            answer = agent.get("/v1/principals")
        except asking.Refused as error:
            return asking.refused(args, error)
    else:
        from agent import operations

        answer = {"principals": asyncio.run(operations.principals(loaded))}
    found = cast("list[asking.Json]", answer["principals"])
    return asking.finish(args, answer, [_line(one) for one in found] or ["nobody"])


def _line(one: asking.Json) -> str:
    ended = "" if one["untilS"] is None else ", ended"
    return f"{one['name']}: {', '.join(cast('list[str]', one['roles']))}{ended}"


def _token(args: argparse.Namespace, verb: str, body: asking.Json) -> int:
    """The file is made before anything changes, so that a token is never made and then lost."""
    path: Path | None = args.token_file
    out = None if path is None else _create(path)
    try:
        answer = _change(args, verb, body)
    except BaseException as error:
        if out is not None and path is not None:
            os.close(out)
            path.unlink()
        if isinstance(error, asking.Refused):
            return asking.refused(args, error)
        raise
    token = str(answer["token"])
    if out is None:
        return asking.finish(args, answer, [token])
    with os.fdopen(out, "w") as file:
        file.write(token + "\n")
    told: asking.Json = {"principal": args.name, "tokenFile": str(path)}
    return asking.finish(args, told, [f"{path}: the token of {args.name}"])


def _create(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise errors.BadConfig(
            f"the token file cannot be made: {error.strerror}", value=str(path), cure="name a file that does not exist"
        ) from None


def _change(args: argparse.Namespace, verb: str, body: asking.Json) -> asking.Json:
    """By the running agent, or in the book of a stopped one."""
    loaded = asking.load(args)
    agent = asking.agent(args, loaded)
    if agent.alive():
        path = "/v1/principals" if verb == "add" else f"/v1/principals/{quote(args.name, safe='')}/{verb}"
        return agent.post(path, body)
    from agent import operations
    from store import commands

    done = asyncio.run(
        operations.change_principal(
            loaded, verb, args.name, roles=getattr(args, "role", ()) or (), reason=args.reason, at_s=time.time()
        )
    )
    if isinstance(done, commands.Refused):
        raise asking.Refused(409, done.code, done.why)
    return done
