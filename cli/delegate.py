"""`stakeside delegate|undelegate|redelegate|withdraw|claim`: propose an intent. In: arguments. Out: the intent, or why it is refused.

The running agent checks, judges and submits; this only asks for it, as the principal whose token it has. The same `--key` again proposes
nothing new: it is the intent's name.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import cast

from cli import amounts, asking, serving
from domain import errors

POLL_S = 1.0
WAITING = "awaiting_approval"
ACTIONS: dict[str, tuple[str, Sequence[str]]] = {
    "delegate": ("put stake on a validator", ("validator", "amount")),
    "undelegate": ("take stake off a validator; it is free after the unbonding time", ("validator", "amount")),
    "redelegate": ("move stake from a validator to another", ("validator", "target", "amount")),
    "withdraw": ("take out what an undelegation set free", ("ticket",)),
    "claim": ("take out rewards", ("validator",)),
}
HELP = {
    "validator": "its identity, as 0x-hex",
    "target": "the validator it goes to, as 0x-hex",
    "amount": "in wei, or like 20gwei or 1.5ether",
    "ticket": "the undelegation's number, as its event has it",
}
EPILOG = """\
exit code: 0 proposed (with --wait: final, with its effect), 1 refused, or final without effect, 2 nobody answers or unusable
"""


def register(subparsers: serving.Subparsers[argparse.ArgumentParser]) -> None:
    for action, (help_, names) in ACTIONS.items():
        parser = subparsers.add_parser(action, help=help_, description=f"Propose to {help_}.", epilog=EPILOG)
        for name in names:
            parser.add_argument(f"--{name}", metavar=name.upper(), help=HELP[name])
        parser.add_argument(
            "--argument",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="what else the manifest's action takes",
        )
        parser.add_argument("--protocol", help="default: the only one of the agent that has this action")
        parser.add_argument(
            "--key", help="the intent's name: the same key again proposes nothing new; default: a new one"
        )
        parser.add_argument("--reason", required=True, help="stays in the book")
        parser.add_argument("--expires", type=int, metavar="SECONDS", help="give up unless it is reserved by then")
        parser.add_argument("--wait", action="store_true", help="until the intent is final")
        parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="of --wait; default: 600")
        asking.options(parser)
        parser.set_defaults(run=run, action=action, named=tuple(names))


def run(args: argparse.Namespace) -> int:
    loaded = asking.load(args)
    agent = asking.agent(args, loaded)
    body: asking.Json = {
        "protocol": args.protocol or _only([section.name for section in loaded.protocols]),
        "action": args.action,
        "arguments": arguments(args),
        "reason": args.reason,
        "key": args.key or _new_key(),
    }
    if args.expires is not None:
        body["expiresInS"] = args.expires
    try:
        status, answer = agent.ask("POST", "/v1/intents", body)
    except asking.Refused as error:
        if error.status == 422:
            _remind(args)
        return asking.refused(args, error)
    if args.wait:
        return _wait(args, agent, str(answer["id"]))
    said = "proposed" if status == 201 else "was proposed before"
    return asking.finish(args, answer, [f"{answer['id']} {said}: {asking.plain(answer['state'])}"])


def arguments(args: argparse.Namespace) -> dict[str, str]:
    """What was given, by name; amounts in wei. What is missing is for the agent to say, which knows the manifest."""
    found = {name: value for name in args.named if (value := getattr(args, name)) is not None}
    for text in args.argument:
        name, equals, value = text.partition("=")
        if not equals or not name or name in found:
            raise errors.BadConfig("--argument is NAME=VALUE, each name once", value=text)
        found[name] = value
    if "amount" in found:
        found["amount"] = amounts.wei(found["amount"])
    return found


def _remind(args: argparse.Namespace) -> None:
    """Which of the action's own options were not given, as they are typed: perhaps it is refused for that."""
    lacking = [f"--{name} {name.upper()} ({HELP[name]})" for name in args.named if getattr(args, name) is None]
    if lacking and not args.json:
        sys.stderr.write(f"not given: {', '.join(lacking)}\n")


def _only(names: list[str]) -> str:
    if len(names) != 1:
        raise errors.BadConfig("the agent has several protocols", value=names, cure="name one by --protocol")
    return names[0]


def _new_key() -> str:
    import secrets

    return f"cli-{secrets.token_hex(8)}"


def _wait(args: argparse.Namespace, agent: asking.Agent, id_: str) -> int:
    """Tells every change of state. 0 when the effect is final, 1 when it is final otherwise."""
    deadline = time.monotonic() + args.timeout
    told = ""
    while True:
        detail = agent.get(f"/v1/intents/{id_}")
        intent = cast("asking.Json", detail["intent"])
        state, why = str(intent["state"]), asking.plain(intent["why"])
        line = f"{id_} {state}" + (f": {why}" if why else "")
        if line != told and not args.json:
            asking.tell(line)
        told = line
        if intent["final"]:
            return asking.finish(args, detail, [], code=asking.OK if state == "final_ok" else asking.NO)
        if time.monotonic() > deadline:
            cure = "somebody has to approve it" if state == WAITING else "look again with `stakeside intents show`"
            raise errors.Transient(f"the intent is not final after {args.timeout:g} s", value=state, cure=cure)
        time.sleep(POLL_S)
