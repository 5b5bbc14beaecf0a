"""`stakeside demo`: the whole mission on this machine. In: a seed. Out: a story to watch, a verdict, and one JSON line."""

from __future__ import annotations

import argparse
import asyncio
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from cli import serving

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from devnet import demo

FOLDER = Path("run/demo")


def register(subparsers: serving.Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "demo", help="a chain that reorgs, three agents, a hub, and a proof that all numbers hold"
    )
    parser.add_argument("--seed", type=int, help="the same seed plays the same history (default: a random one)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"emptied first; default: {FOLDER}")
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end, until Ctrl-C")
    parser.add_argument(
        "--plant-wrong-row", action="store_true", help="change one row of one book before the comparison: it must fail"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from kit import runtime

    async def body() -> int:
        async with runtime.signals() as stop:
            task = asyncio.ensure_future(_run(args, stop))
            stopped = asyncio.ensure_future(stop.wait())
            await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and not args.keep:
                task.cancel()
            stopped.cancel()
            return await task

    return asyncio.run(body())


async def _run(args: argparse.Namespace, stop: asyncio.Event) -> int:
    from rich.console import Console
    from rich.live import Live

    from devnet import demo

    console = Console()
    seed = secrets.randbelow(1_000_000) if args.seed is None else args.seed
    console.print(f"[bold]stakeside demo[/bold], seed {seed}: one Anvil, one hub, three agents\n")
    options = demo.Options(seed, args.folder.resolve(), plant_wrong_row=args.plant_wrong_row)
    plain = not console.is_terminal
    async with demo.Demo(options, _teller(console) if plain else _nobody) as playing:
        if plain:
            result = await playing.run()
        else:
            with Live(get_renderable=lambda: _picture(playing.view), console=console, refresh_per_second=8):
                result = await playing.run()
        _summary(console, playing, result, folder=args.folder)
        if args.keep:
            console.print("\neverything is still running; Ctrl-C ends it")
            await stop.wait()
    print(result.line(), flush=True)
    return 0 if result.ok else 1


def _nobody(_: str) -> None:
    """The picture shows it."""


def _teller(console: Console) -> demo.Tell:
    return lambda text: console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)


def _picture(view: demo.View) -> RenderableType:
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    for name in ("", "state", "head", "final", "rows", "orphaned", "frames", "receipts", "outbox"):
        table.add_column(name, justify="left" if name in ("", "state") else "right", no_wrap=True, min_width=len(name))
    for name in ("agent-1", "agent-2", "agent-3"):
        table.add_row(name, *_cells(view, name))
    chain = f"chain  head [bold]{view.head}[/bold]  final {view.final}  operations {view.operations}"
    hub = f"hub    {view.states.get('hub', 'not started')}  sealed [bold green]{view.sealed}[/bold green]"
    reorgs = Text("reorgs " + (", ".join(view.reorgs) or "none yet"), style="magenta")
    lately = [Text(f"· {text}", style="dim") for text in view.told[-5:-1]] + [Text(f"▸ {view.stage}", style="bold")]
    content = Group(Text.from_markup(chain), Text.from_markup(hub), reorgs, table, *lately)
    return Panel(content, title="stakeside", border_style="cyan", expand=False)


def _cells(view: demo.View, name: str) -> list[str]:
    state, status = view.states.get(name, "not started"), view.agents.get(name)
    colour = {"up": "green", "not started": "dim"}.get(state, "red")
    if status is None:
        return [f"[{colour}]{state}[/{colour}]", *["-"] * 7]
    counts = status["counts"]
    frames = [stream["frame"] for stream in status["streams"].values() if stream["frame"]]
    return [
        f"[{colour}]{state}[/{colour}]",
        str(status["index"]["number"] if status["index"] else "-"),
        str(status["finalized"]["number"] if status["finalized"] else "-"),
        str(counts["logs"]),
        f"[magenta]{counts['logs_orphaned']}[/magenta]" if counts["logs_orphaned"] else "0",
        str(max((frame["sequence"] + 1 for frame in frames), default=0)),
        str(counts["receipts"]),
        str(status["outbox"]["depth"]),
    ]


def _summary(console: Console, playing: demo.Demo, result: demo.Result, *, folder: Path) -> None:
    mark = "[green]yes[/green]" if result.ground_truth_match else "[red]NO[/red]"
    console.print()
    console.print(f"  events indexed      {result.events_indexed}", highlight=False, soft_wrap=True)
    console.print(
        f"  reorgs healed       {result.reorgs_healed}  ({', '.join(playing.view.reorgs)})",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"  statements sealed   {result.statements_sealed}, byte-identical at all three agents", highlight=False
    )
    console.print(f"  receipts verified   {result.receipts_verified}", highlight=False, soft_wrap=True)
    console.print(
        f"  delegations final   {result.delegations_final}, one of them approved by a second person, one reorged out and back",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"  equals the chain    {mark}: every row against receipts, every leaf against contract views", soft_wrap=True
    )
    for text in result.differences[:20]:
        console.print("  [red]difference[/red]", end=" ")
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    page = playing.view.addresses.get("agent-1", "")
    console.print(
        f"\n  status page   {page}/ while it runs (--keep), and {folder / 'status.html'}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"  statement     {folder / 'statement.json'}", highlight=False, soft_wrap=True)
    console.print(
        f"  verify it     .venv/bin/stakeside verify {folder / 'statement.json'}\n", highlight=False, soft_wrap=True
    )
