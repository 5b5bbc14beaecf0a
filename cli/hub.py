"""`stakeside hub run`. In: a settings file. Out: a running hub."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cli import serving

DEFAULT = "hub.toml"


def register(subparsers: serving.Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("hub", help="the upstream: collect attestations and seal statements")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = commands.add_parser("run", help="serve until SIGTERM")
    command.add_argument("--config", type=Path, default=Path(DEFAULT), metavar="FILE", help=f"default: {DEFAULT}")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with serving.importing():
        from config import settings
        from kit import logs

        loaded = settings.load_hub(args.config, os.environ)
        logs.configure(loaded.log.format, loaded.log.level)
        from earnings import app

    return serving.until_signal(lambda stop: app.run(loaded, stop=stop, ready=serving.ready))
