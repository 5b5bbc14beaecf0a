"""The treasury of the demo: people who delegate through one of the agents. In: that agent. Out: what became of each intent.

Tess proposes, Adam approves. One delegation is small enough to go by itself, one needs Adam, one is refused by the policy, and one is
reorged out and comes back. The judgement asks the chain alone: how often the contract logged each delegation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devnet import documents, fleet, truth
from domain import errors

Json = Any

ETHER = 10**18
APPROVAL_ABOVE = 10 * ETHER
MOST = 100 * ETHER
SMALL, LARGE, REORGED, REFUSED = "small", "large", "reorged", "refused"
AMOUNTS = {SMALL: 3 * ETHER + 1, LARGE: 40 * ETHER + 2, REORGED: 5 * ETHER + 3, REFUSED: 2 * ETHER}
"""Each its own, so that a log names its intent."""
WANTED = (SMALL, LARGE, REORGED)
PROPOSER, APPROVER = "tess", "adam"


@dataclass(slots=True)
class Treasury:
    """`account` is 20 bytes as lower-case 0x-hex; `allowed` is the validator of the policy's list, `stranger` one that is not on it."""

    agent: fleet.Agent
    account: str
    allowed: str
    stranger: str
    ids: dict[str, str] = field(default_factory=dict[str, str])
    _tokens: dict[str, str] = field(default_factory=dict[str, str])

    async def hire(self, office: fleet.Fleet) -> None:
        """Give Tess and Adam their tokens; the agent must not run yet."""
        for name, role in ((PROPOSER, "proposer"), (APPROVER, "approver")):
            file = self.agent.folder / f"{name}.token"
            await office.run(
                *("principal", "add", name, "--role", role, "--reason", "the demo's treasury"),
                *("--config", str(self.agent.folder / "agent.toml"), "--token-file", str(file)),
            )
            self._tokens[name] = file.read_text().strip()

    async def propose(self, which: str) -> None:
        """Tess asks for a delegation."""
        validator = self.stranger if which == REFUSED else self.allowed
        said = await self._post(
            "/v1/intents",
            {
                "key": f"demo-{which}",
                "protocol": "devnet",
                "action": "delegate",
                "arguments": {"validator": validator, "amount": str(AMOUNTS[which])},
                "reason": f"the demo's {which} delegation",
            },
            by=PROPOSER,
        )
        self.ids[which] = said["id"]

    async def approve(self, which: str) -> None:
        """Adam approves exactly what was proposed."""
        seen = await self.seen(which)
        await self._post(
            f"/v1/intents/{self.ids[which]}/approve",
            {"payloadHash": seen["intent"]["payloadHash"], "reason": "within the plan of the month"},
            by=APPROVER,
        )

    async def cannot_approve_herself(self, which: str) -> bool:
        """Tess tries; the agent must refuse."""
        seen = await self.seen(which)
        body = {"payloadHash": seen["intent"]["payloadHash"], "reason": "it is mine"}
        status, _ = await self.agent.post(f"/v1/intents/{self.ids[which]}/approve", body, token=self._tokens[PROPOSER])
        return status == 403

    async def seen(self, which: str) -> Json:
        """The intent as the agent shows it."""
        answer = await self.agent.get(f"/v1/intents/{self.ids[which]}", token=self._tokens[PROPOSER])
        if answer is None or answer[0] != 200:
            raise errors.StakesideError(f"the intent {which} cannot be read", value=answer)
        return answer[1]

    async def state(self, which: str) -> str:
        return str((await self.seen(which))["intent"]["state"])

    def reaches(self, which: str, *states: str) -> Callable[[], Awaitable[bool]]:
        """A condition to wait for."""

        async def reached() -> bool:
            return await self.state(which) in states

        return reached

    async def came_back(self, which: str) -> bool:
        """Whether a block with it vanished, and another one has it now."""
        gone = [inclusion["orphanedAtS"] is not None for inclusion in (await self.seen(which))["inclusions"]]
        return any(gone) and not all(gone)

    async def judge(self, ground: truth.Truth, *, last: int) -> tuple[int, list[str]]:
        """How many delegations are final, and what is not as it should be: counted on the chain, not in the book."""
        wrong: list[str] = []
        rows = await ground.rows(last=last)
        word = bytes.fromhex(self.account[2:]).rjust(32, b"\0")
        logged = [row.amount for row in rows if row.kind == "Delegated" and row.delegator == word]
        final = 0
        for which, amount in AMOUNTS.items():
            state, count = await self.state(which), logged.count(amount)
            final += state == "final_ok"
            expected = ("final_ok", 1) if which in WANTED else ("rejected", 0)
            if (state, count) != expected:
                wrong.append(f"the {which} delegation is {state} with {count} effects on the chain, not {expected}")
        if len(logged) != len(WANTED):
            wrong.append(f"the treasury's account delegated {len(logged)} times, not {len(WANTED)}")
        if not await self.came_back(REORGED):
            wrong.append("no delegation was reorged out and came back")
        return final, wrong

    async def _post(self, path: str, body: Json, *, by: str) -> Json:
        status, said = await self.agent.post(path, body, token=self._tokens[by])
        if status not in (200, 201):
            raise errors.StakesideError(f"{by} was refused at {path}", value=(status, said))
        return said


def tables(key_file: Path, *, validator: str, hub: bool) -> list[str]:
    """The parts of `agent.toml` that make an agent act: its key, how it submits, and what it may do."""
    submit: dict[str, object] = {"resend_after_s": 1, "bump_after_s": 30, "poll_s": 0.2}
    submit |= {"lease": "hub", "lease_ttl_s": 60} if hub else {"exclusive": True}
    return [
        documents.table("delegator", {"kind": "dev", "key_file": str(key_file)}),
        documents.table("submit", submit),
        documents.table(
            "policy",
            {
                "max_fee_per_gas_wei": str(100 * 10**9),
                "max_tip_wei": str(10**9),
                "max_gas": 1_000_000,
                "max_amount_per_day": str(MOST),
                "max_gas_wei_per_day": str(ETHER),
                "approval_above": str(APPROVAL_ABOVE),
            },
        ),
        documents.table(
            "[policy.allow]",
            {"protocol": "devnet", "action": "delegate", "validators": [validator], "max_amount": str(MOST)},
        ),
    ]
