"""`stakeside intents list|show|approve|reject|cancel|settle`, `pause`, `resume`. In: arguments. Out: what the running agent says.

exit code: 0 done, 1 refused (the reason is told), 2 nobody answers or unusable
"""

from __future__ import annotations

import argparse
import re
import time
from typing import cast

from cli import asking, serving
from domain import errors, intent

_SPAN = re.compile(r"(?P<count>[0-9]{1,6})(?P<unit>[smhd])\Z")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def register(subparsers: serving.Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("intents", help="look at intents, approve, reject, cancel or settle them")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    list_ = commands.add_parser("list", help="newest first")
    list_.add_argument("--state", help="only those in this state, for example awaiting_approval")
    list_.add_argument("--limit", type=int, default=20, help="default: 20")
    list_.set_defaults(run=list_intents)

    show_ = commands.add_parser("show", help="one intent with all that became of it")
    show_.add_argument("--all", action="store_true", help="the rules that were passed too, with their figures")
    approve_ = commands.add_parser("approve", help="let it be carried out, exactly as it is now")
    approve_.add_argument("--payload-hash", metavar="0x…", help="what you looked at; default: what the agent shows now")
    reject_ = commands.add_parser("reject", help="refuse it, before anything is reserved for it")
    cancel_ = commands.add_parser("cancel", help="give it up; once it was sent, the chain decides")
    settle_ = commands.add_parser("settle", help="say what became of one that needs an operator")
    settle_.add_argument("--as", dest="outcome", choices=intent.OUTCOMES, required=True, help="what you know it to be")
    verbs = ((show_, show), (approve_, approve), (reject_, reject), (cancel_, cancel), (settle_, settle))
    for command, handler in verbs:
        command.add_argument("id", help="0x and 64 hex digits")
        command.set_defaults(run=handler)

    pause_ = subparsers.add_parser("pause", help="reserve and sign nothing new; what was sent is followed on")
    pause_.add_argument("--for", dest="span", metavar="SPAN", help="ends by itself, for example 30m or 12h")
    pause_.set_defaults(run=pause)
    resume_ = subparsers.add_parser("resume", help="end a pause")
    resume_.set_defaults(run=resume)

    for command in (approve_, reject_, cancel_, settle_, pause_, resume_):
        command.add_argument("--reason", required=True, help="stays in the book")
    for command in (list_, show_, approve_, reject_, cancel_, settle_, pause_, resume_):
        asking.options(command)


def list_intents(args: argparse.Namespace) -> int:
    from cli import intent_lines

    answer = asking.agent(args).get("/v1/intents", state=args.state, limit=args.limit)
    found = [] if args.json else intent_lines.parse(answer["intents"], list[intent_lines.Intent])
    return asking.finish(args, answer, [intent_lines.line(one) for one in found] or ["none"])


def show(args: argparse.Namespace) -> int:
    from cli import intent_lines

    try:
        answer = asking.agent(args).get(f"/v1/intents/{_id(args.id)}")
    except asking.Refused as error:
        return _refused(args, error)
    told = [] if args.json else [*intent_lines.lines(intent_lines.parse(answer, intent_lines.Detail), all_=args.all)]
    return asking.finish(args, answer, told)


def approve(args: argparse.Namespace) -> int:
    """Without `--payload-hash` the approval is for what is shown while approving."""
    from cli import intent_lines

    agent, path = asking.agent(args), f"/v1/intents/{_id(args.id)}"
    try:
        payload = args.payload_hash
        if payload is None:
            intent = cast("asking.Json", agent.get(path)["intent"])
            payload = intent["payloadHash"]
            if not args.json:
                asking.tell(intent_lines.line(intent_lines.parse(intent, intent_lines.Intent)))
        answer = agent.post(f"{path}/approve", {"payloadHash": payload, "reason": args.reason})
    except asking.Refused as error:
        return _refused(args, error)
    told = [] if args.json else _waits(agent)
    return asking.finish(args, answer, [f"approved: exactly the payload {payload}", *told])


def _waits(agent: asking.Agent) -> list[str]:
    """What keeps the staking belt from going on with what was approved; nothing where nothing does, or nobody says."""
    try:
        belts = cast("list[asking.Json]", agent.get("/status").get("belts", []))
    except errors.StakesideError:
        return []
    held = [belt for belt in belts if belt["name"] == "staking" and belt["state"] != "running"]
    reasons = [cast("list[object]", belt["reasons"]) for belt in held]
    return [f"it waits: {asking.plain(reason)}" for found in reasons for reason in found]


def reject(args: argparse.Namespace) -> int:
    return _post(args, f"/v1/intents/{_id(args.id)}/reject", {"reason": args.reason}, said="rejected")


def cancel(args: argparse.Namespace) -> int:
    return _post(
        args, f"/v1/intents/{_id(args.id)}/cancel", {"reason": args.reason}, said="cancelled, if the chain allows"
    )


def settle(args: argparse.Namespace) -> int:
    body: asking.Json = {"outcome": args.outcome, "reason": args.reason}
    said = f"{args.outcome}, as soon as nothing of it can be mined any more"
    return _post(args, f"/v1/intents/{_id(args.id)}/settle", body, said=said)


def pause(args: argparse.Namespace) -> int:
    from cli import intent_lines

    body: asking.Json = {"reason": args.reason}
    until = ", until somebody resumes"
    if args.span is not None:
        ends_s = int(time.time()) + _seconds(args.span)
        body["untilS"], until = ends_s, f" until {intent_lines.when(ends_s)}"
    return _post(args, "/v1/pause", body, said=f"paused{until}")


def resume(args: argparse.Namespace) -> int:
    return _post(args, "/v1/resume", {"reason": args.reason}, said="resumed")


def _post(args: argparse.Namespace, path: str, body: asking.Json, *, said: str) -> int:
    try:
        answer = asking.agent(args).post(path, body)
    except asking.Refused as error:
        return _refused(args, error)
    return asking.finish(args, answer, [said])


def _refused(args: argparse.Namespace, error: asking.Refused) -> int:
    if error.status == 404:
        error = asking.Refused(error.status, f"{error.what}; `stakeside intents list` shows those there are", "")
    return asking.refused(args, error)


def _id(text: str) -> str:
    if not re.fullmatch(r"0x[0-9a-f]{64}", text):
        raise errors.BadConfig("this is no intent's id", value=text, cure="`stakeside intents list` shows them")
    return text


def _seconds(text: str) -> int:
    match = _SPAN.match(text)
    if match is None or int(match["count"]) == 0:
        raise errors.BadConfig("this is no span of time", value=text, cure="write 90s, 30m, 12h or 2d")
    return int(match["count"]) * _UNITS[match["unit"]]
