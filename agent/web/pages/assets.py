"""Style and script of the pages. Their paths carry a hash of their content, so that a browser may keep them for ever."""

from __future__ import annotations

import hashlib

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #566170; --line: #d4dae2; --paper: #fff; --good: #17703a; --bad: #b3261e;
  --warn: #7d5200; --tint: #f4f6f9; --act: #1f57c3; --on-act: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9fabba; --line: #343e4b; --paper: #14181e; --good: #5fce8b;
  --bad: #ff8a80; --warn: #f0b95a; --tint: #1c222a; --act: #8db4ff; --on-act: #10151c; } }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
.wide { margin: 0 auto; max-width: 72rem; padding: 0 1rem; }
.skip { position: absolute; left: -999rem; } .skip:focus { left: 1rem; top: .5rem; background: var(--paper); padding: .5rem; z-index: 1; }
header { border-bottom: 1px solid var(--line); background: var(--tint); }
header .wide { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; align-items: center; padding-top: .6rem; padding-bottom: .6rem; }
header .name { font-weight: 650; overflow-wrap: anywhere; }
header ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; margin: 0; padding: 0; }
header li a { display: inline-block; padding: .3rem 0; text-decoration: none; }
header li a[aria-current] { border-bottom: 2px solid var(--act); }
header .who { margin-left: auto; display: flex; gap: .75rem; align-items: center; flex-wrap: wrap; }
main { padding-top: 1rem; padding-bottom: 2.5rem; }
h1 { font-size: 1.3rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.02rem; margin: 1.9rem 0 .5rem; }
h3 { font-size: .95rem; margin: 1rem 0 .35rem; }
.verdict, .message { padding: .6rem .8rem; border-left: .3rem solid; background: var(--tint); margin: .75rem 0 1rem; overflow-wrap: anywhere; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); } .soft { color: var(--soft); }
.verdict ul { margin: .25rem 0 0; padding-left: 1.2rem; color: var(--ink); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .5rem 1rem; margin: .75rem 0 0; }
dl.long { grid-template-columns: 1fr; }
dt { color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.belts { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .75rem; }
.belt { border: 1px solid var(--line); border-radius: .4rem; padding: .6rem .8rem; }
.belt ul { margin: .25rem 0 0; padding-left: 1.2rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; }
td { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 12rem; }
code { font: .85em ui-monospace, monospace; overflow-wrap: anywhere; } a { color: inherit; text-underline-offset: .15em; }
form { display: flex; flex-wrap: wrap; gap: .5rem .75rem; align-items: end; margin: .5rem 0; }
form.inline { margin: 0; }
label { display: flex; flex-direction: column; gap: .15rem; font-size: .85rem; color: var(--soft); }
label.check { flex-direction: row; align-items: center; gap: .35rem; }
fieldset { border: 1px solid var(--line); border-radius: .4rem; margin: 0; padding: .4rem .7rem; display: flex; flex-wrap: wrap; gap: .25rem .9rem; }
legend { font-size: .85rem; color: var(--soft); padding: 0 .25rem; }
input, select, button { font: inherit; color: var(--ink); background: var(--paper); border: 1px solid var(--soft); border-radius: .3rem;
  padding: .4rem .55rem; min-height: 2.4rem; max-width: 100%; }
input[type=checkbox] { min-height: 0; width: 1.15rem; height: 1.15rem; }
input.grow { width: 26rem; } input.number { width: 20rem; font-variant-numeric: tabular-nums; }
button { cursor: pointer; } button.act { background: var(--act); border-color: var(--act); color: var(--on-act); }
button.stop { border-color: var(--bad); color: var(--bad); }
:focus-visible { outline: 3px solid var(--act); outline-offset: 2px; }
details { border: 1px solid var(--line); border-radius: .4rem; padding: .4rem .8rem; margin: .5rem 0; }
summary { cursor: pointer; padding: .25rem 0; font-weight: 550; }
.token { font-size: 1.05rem; padding: .6rem .8rem; background: var(--tint); display: block; user-select: all; }
@media (max-width: 34rem) { form label, form input.grow, form input.number, form select { width: 100%; } header .who { margin-left: 0; } }
"""

SCRIPT = """
"use strict";
// Keeps the parts marked data-live fresh. A part that somebody is using is left alone until they are done.
const every = 5000;
async function again() {
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, {headers: {Accept: "text/html"}, credentials: "same-origin"});
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const old of document.querySelectorAll("[data-live]")) {
          const fresh = page.getElementById(old.id);
          if (fresh && !old.contains(document.activeElement) && fresh.innerHTML !== old.innerHTML) old.replaceChildren(...fresh.childNodes);
        }
      }
    } catch { /* the agent is away: the page stays as it was, and the next turn asks again */ }
  }
  setTimeout(again, every);
}
if (document.querySelector("[data-live]")) setTimeout(again, every);
"""


def _path(name: str, content: str) -> str:
    return f"/assets/{hashlib.sha256(content.encode()).hexdigest()[:16]}/{name}"


STYLE_PATH = _path("style.css", STYLE)
SCRIPT_PATH = _path("app.js", SCRIPT)
