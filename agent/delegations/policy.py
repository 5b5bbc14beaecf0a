"""May this transaction be made now? In: a policy, a proposal, the facts of the moment. Out: a verdict that names rule and figures.

    allow   reserve: nonce, budget and decision in one transaction
    ask     people must approve the intent's payload first
    wait    not now; nothing is wrong with it
    deny    never like this; the intent is rejected

Default deny: what no [[policy.allow]] lists is refused. The first rule in the order of `RULES` that is not passed decides; all rules are
found, so a decision row tells everything (docs/policy.md).
"""

from __future__ import annotations

import msgspec

from agent.delegations import proposals, rules, terms
from domain import errors

Policy = terms.Policy
Caps = terms.Caps
build = terms.build
Proposal = proposals.Proposal
Asset = proposals.Asset
Pin = proposals.Pin
Approve = proposals.Approve
Direction = proposals.Direction
Facts = proposals.Facts
Spent = proposals.Spent
Approval = proposals.Approval
Simulation = proposals.Simulation
Finding = proposals.Finding
Verdict = proposals.Verdict
Kind = proposals.Kind
RULES = proposals.RULES
DAY_S = terms.DAY_S


def judge(policy: Policy, proposal: Proposal, facts: Facts) -> Verdict:
    """A denial is a value: nothing is raised for one."""
    findings = rules.find(policy, proposal, facts)
    for finding in findings:
        match finding.outcome:
            case "deny" | "ask" | "wait":
                return Verdict(finding.outcome, finding.rule, finding.detail, findings)
            case "pass" | "skipped":
                pass
    return Verdict("allow", "all", "every rule is passed", findings)


def explain(verdict: Verdict) -> list[str]:
    """Lines for a person: the decision, then every rule in order."""
    head = verdict.kind if verdict.kind == "allow" else f"{verdict.kind}, by the rule {verdict.rule}"
    width = max([len(finding.rule) for finding in verdict.findings], default=0)
    lines = [f"{_MARKS[finding.outcome]} {finding.rule.ljust(width)}  {finding.detail}" for finding in verdict.findings]
    return [f"{head}: {verdict.why}", *lines]


def encode(findings: tuple[Finding, ...]) -> str:
    """The JSON text of a decision row."""
    return msgspec.json.encode(findings).decode()


def decode(text: str) -> tuple[Finding, ...]:
    """The findings of a decision row. Raises StoreError for anything else."""
    try:
        return msgspec.json.decode(text, type=tuple[Finding, ...])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise errors.StoreError(f"a decision's findings cannot be read: {error}", value=text) from None


_MARKS = {"pass": "✓", "deny": "✗", "ask": "?", "wait": "…", "skipped": "–"}
