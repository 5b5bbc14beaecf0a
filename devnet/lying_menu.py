"""Which lies the simulator tells. In: dice and the head. Out: one to three faults for the lying node.

Only lies that a healed agent must forget: a node of another fork of the same chain, for one, would rightly stop it for good.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from devnet.proxy import wordings

_P = (0.2, 0.5, 1.0, 1.0)
_COUNTS = (1, 2, 4, 0, 0)
_LOG_LIES = ("drop-logs", "drop-all-logs", "alter-logs", "duplicate-logs", "reorder-logs", "invent-logs")
_FIELDS = ("stateRoot", "receiptsRoot", "parentHash", "hash", "logsBloom", "timestamp", "number", "transactionsRoot")
_READS = ("eth_getLogs", "eth_getBlockReceipts", "eth_getBlockByHash", "eth_getBlockByNumber")


def choose(dice: random.Random, *, head: int, proof: str) -> list[str]:
    """At the proof level `receipts` every lie; at a lower one only those that need no proof to be noticed."""
    menu = _LIES if proof == "receipts" else _FAILURES
    return [dice.choice(menu)(dice, head) for _ in range(dice.randint(1, 3))]


def _often(dice: random.Random) -> str:
    return f"p={dice.choice(_P)},count={dice.choice(_COUNTS)}"


def _logs(dice: random.Random, _: int) -> str:
    name = dice.choice(_LOG_LIES)
    settings = [_often(dice), f"cover={dice.randint(0, 1)}"]
    if name not in ("drop-all-logs", "reorder-logs"):
        settings.append(f"k={dice.randint(1, 3)}")
    if name in ("drop-logs", "alter-logs", "duplicate-logs") and dice.random() < 0.4:
        settings.append("of=4")
    if name == "alter-logs":
        settings.append("what=" + dice.choice(("data", "topic", "address", "index", "tx", "block")))
    return f"{name}:{','.join(settings)}"


def _answers(dice: random.Random, _: int) -> str:
    name = dice.choice(("empty", "null", "error", "drop-receipts"))
    return f"{name}:p={dice.choice(_P)},count={dice.choice((1, 2, 4))}"


def _clamps(dice: random.Random, _: int) -> str:
    return f"clamp-range:k={dice.randint(0, 4)}"


def _refusals(dice: random.Random, _: int) -> str:
    if dice.random() < 0.5:
        return f"refuse-range:blocks={dice.randint(1, 6)},style={dice.choice(wordings.STYLES['refuse-range'])}"
    return f"refuse-size:logs={dice.randint(1, 9)},style={dice.choice(wordings.STYLES['refuse-size'])}"


def _lags(dice: random.Random, _: int) -> str:
    return f"lag:methods={dice.choice(_READS)},k={dice.randint(1, 6)},beyond={dice.choice(('clamp', 'error'))}"


def _falls(dice: random.Random, _: int) -> str:
    return f"head-back:k={dice.randint(1, 30)},beyond={dice.choice(('clamp', 'error'))}"


def _prunes(dice: random.Random, head: int) -> str:
    style, receipts = dice.choice(wordings.STYLES["pruned"]), dice.choice(("same", "null", "empty", "error"))
    headers = dice.choice(("keep", "keep", "null"))
    return f"pruned:before={dice.randint(1, max(1, head))},style={style},receipts={receipts},headers={headers}"


def _loses(dice: random.Random, head: int) -> str:
    """History that is gone and says so."""
    style = dice.choice([style for style in wordings.STYLES["pruned"] if style != "silent"])
    return f"pruned:before={dice.randint(1, max(1, head))},style={style},receipts=error"


def _headers(dice: random.Random, _: int) -> str:
    return f"wrong-header:field={dice.choice(_FIELDS)},{_often(dice)}"


def _forks(dice: random.Random, _: int) -> str:
    method = dice.choice(_READS)
    return f"swap-fork:methods={method},skip={dice.randint(0, 3)},count={dice.randint(1, 2)},depth={dice.randint(1, 5)}"


def _identity(dice: random.Random, _: int) -> str:
    return f"{dice.choice(('chain-id', 'genesis'))}:count={dice.randint(1, 3)}"


def _transport(dice: random.Random, _: int) -> str:
    match dice.randrange(6):
        case 0:
            return f"{dice.choice((429, 503))}:{_often(dice)},retry_after={dice.choice(('', '0', '1'))}"
        case 1:
            return f"{dice.choice(('html', 'cut', 'swallow'))}:{_often(dice)}"
        case 2:
            return f"truncate:{_often(dice)},how={dice.choice(('body', 'stream'))}"
        case 3:
            when = dice.choice(("before", "after"))
            return f"hang:{_often(dice)},seconds={dice.choice((0.05, 0.3, 3))},when={when},for_s=1.5"
        case 4:
            return f"huge:count=1,bytes={70 << 20}"
        case _:
            return f"{dice.choice(('ws-refuse', 'ws-drop', 'ws-silent', 'ws-skip', 'ws-repeat'))}:{_often(dice)}"


_Dish = Callable[[random.Random, int], str]
_LIES: tuple[_Dish, ...] = (
    _logs, _logs, _logs, _logs, _logs, _answers, _clamps, _refusals, _lags, _falls, _prunes, _headers, _forks, _forks, _identity,
    _transport, _transport,
)  # fmt: skip
_FAILURES: tuple[_Dish, ...] = (
    _refusals,
    _refusals,
    _falls,
    _loses,
    _headers,
    _forks,
    _forks,
    _identity,
    _transport,
    _transport,
)
