"""Style and script of the pages. Their paths carry a hash of their content, so that a browser may keep them for ever."""

from __future__ import annotations

import hashlib

STYLE = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #55606f; --line: #d9dfe7; --paper: #fff; --tint: #f5f7fa; --card: #fff;
  --act: #1d56c0; --on-act: #fff; --good: #14693a; --good-bg: #e4f4ea; --bad: #ab2019; --bad-bg: #fdeae8; --warn: #744d00;
  --warn-bg: #fdf2d9; --calm: #274c8f; --calm-bg: #e8effb; --plain-bg: #edf0f4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebf1; --soft: #a6b1bf; --line: #343e4b; --paper: #12161c; --tint: #1a2028;
  --card: #181d25; --act: #8db4ff; --on-act: #0d1420; --good: #74d79c; --good-bg: #14301f; --bad: #ff9b92; --bad-bg: #3d1a18;
  --warn: #f2c26b; --warn-bg: #36290d; --calm: #a9c6ff; --calm-bg: #1b2b49; --plain-bg: #262e38; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
.wide { margin: 0 auto; max-width: 72rem; padding-inline: 1rem; }
.skip { position: absolute; left: -999rem; } .skip:focus { left: 1rem; top: .5rem; background: var(--paper); padding: .5rem; z-index: 1; }
header { border-bottom: 1px solid var(--line); background: var(--tint); }
header .wide { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; align-items: center; padding-block: .5rem; }
header .name { font-weight: 650; }
header ul { display: flex; flex-wrap: wrap; gap: 0 1.1rem; list-style: none; margin: 0; padding: 0; }
header li a { display: inline-block; padding: .45rem 0; text-decoration: none; border-bottom: 2px solid transparent; }
header li a[aria-current] { border-color: var(--act); font-weight: 550; }
header .who { margin-left: auto; display: flex; gap: .75rem; align-items: center; }
main { padding-block: 1.25rem 3rem; }
h1 { font-size: 1.45rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .25rem; }
p { margin: .35rem 0; max-width: 48rem; }
a { color: inherit; text-underline-offset: .15em; } small, .small { font-size: .87rem; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); } .calm { color: var(--calm); } .soft { color: var(--soft); }
.verdict, .message { padding: .65rem .9rem; border-left: .3rem solid; border-radius: .2rem; margin: .9rem 0; max-width: none; background: var(--plain-bg); }
.verdict strong { font-size: 1.1rem; } .verdict ul, .card ul:not(.chips) { margin: .25rem 0 0; padding-left: 1.15rem; color: var(--ink); }
.verdict.good, .message.good, .tag.good { background: var(--good-bg); } .verdict.bad, .message.bad, .tag.bad { background: var(--bad-bg); }
.verdict.warn, .message.warn, .tag.warn { background: var(--warn-bg); } .verdict.calm, .tag.calm { background: var(--calm-bg); }
.tag { display: inline-block; padding: 0 .5rem; border-radius: 1rem; font-size: .87rem; font-weight: 550; white-space: nowrap; background: var(--plain-bg); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: .75rem; align-items: start; }
.cards.stretch { align-items: stretch; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .75rem .9rem; background: var(--card); min-width: 0; }
.card.bad { border-left: .3rem solid var(--bad); } .card.warn { border-left: .3rem solid var(--warn); } .card.bad, .card.warn { color: inherit; }
.head { display: flex; flex-wrap: wrap; gap: .25rem .6rem; align-items: baseline; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 11.5rem), 1fr)); gap: .5rem 1.25rem; margin: .6rem 0 0; }
dl.long { grid-template-columns: minmax(6rem, 8.5rem) 1fr; gap: .3rem .75rem; } dl.long > div { display: contents; }
dt { color: var(--soft); font-size: .87rem; } dd { margin: 0; font-variant-numeric: tabular-nums; min-width: 0; }
.figure, output { overflow-wrap: break-word; }
.big { font-size: 1.25rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.chips { display: flex; flex-wrap: wrap; gap: .35rem .9rem; list-style: none; margin: .25rem 0; padding: 0; }
.steps { display: flex; flex-wrap: wrap; gap: .3rem; list-style: none; margin: .9rem 0; padding: 0; counter-reset: n; }
.steps li { flex: 1 1 6.5rem; border-top: .25rem solid var(--line); padding-top: .25rem; font-size: .87rem; color: var(--soft); }
.steps li.done { border-color: var(--act); color: var(--ink); } .steps li[aria-current] { font-weight: 650; }
.steps.bad li.done { border-color: var(--bad); }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
th, td { text-align: left; padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; font-size: .87rem; white-space: nowrap; }
td { font-variant-numeric: tabular-nums; white-space: nowrap; } td.text { white-space: normal; min-width: 8rem; }
code { font: .9em ui-monospace, monospace; } td code, .who button { white-space: nowrap; }
form { display: flex; flex-wrap: wrap; gap: .6rem .75rem; align-items: end; margin: .5rem 0; } form.inline { margin: 0; }
form.column { flex-direction: column; align-items: stretch; max-width: 36rem; } form.column button { align-self: flex-start; } form.column input.grow { width: 100%; }
label { display: flex; flex-direction: column; gap: .15rem; max-width: 100%; font-size: .9rem; color: var(--soft); }
label.check { flex-direction: row; align-items: baseline; gap: .5rem; color: var(--ink); padding: .15rem 0; }
label.check span { display: block; color: var(--soft); font-size: .87rem; }
fieldset { border: 1px solid var(--line); border-radius: .4rem; margin: 0; padding: .4rem .8rem .6rem; min-width: 0; } legend { font-size: .9rem; color: var(--soft); padding: 0 .25rem; }
input, select, button, a.button { font: inherit; color: var(--ink); background: var(--paper); border: 1px solid var(--soft); border-radius: .35rem;
  padding: .4rem .65rem; min-height: 2.5rem; max-width: 100%; }
input[type=checkbox] { min-height: 0; width: 1.15rem; height: 1.15rem; flex: none; margin: 0; align-self: start; margin-top: .15rem; }
input.grow { width: 26rem; } input.code { font-family: ui-monospace, monospace; }
button { cursor: pointer; } a.button { display: inline-flex; align-items: center; text-decoration: none; margin-top: .35rem; }
button.act, a.act { background: var(--act); border-color: var(--act); color: var(--on-act); font-weight: 550; }
button.stop { border-color: var(--bad); color: var(--bad); }
output { color: var(--ink); font-variant-numeric: tabular-nums; } output:empty { display: none; }
:focus-visible { outline: 3px solid var(--act); outline-offset: 2px; }
details { margin: .5rem 0 0; } details.box { border: 1px solid var(--line); border-radius: .5rem; padding: .3rem .9rem; background: var(--card); }
summary { cursor: pointer; padding: .3rem 0; } details.box[open] { padding-bottom: .75rem; } td details { margin: 0; } td summary { padding: 0; }
.token { font-size: 1.05rem; padding: .6rem .8rem; margin: .4rem 0; background: var(--paper); color: var(--ink); display: block; user-select: all; border: 1px dashed var(--soft); }
.narrow { max-width: 30rem; margin-inline: auto; }
@media (max-width: 46rem) {
  header ul { gap: 0 .8rem; } .big { font-size: 1.1rem; }
  header .who { margin-left: 0; width: 100%; justify-content: space-between; }
  form label, form input.grow, form select, form input[type=text], form input[type=password] { width: 100%; }
  dl.long { grid-template-columns: 1fr; gap: 0; } dl.long dd { margin-bottom: .4rem; } dl.long code { font-size: .83em; }
  table, tbody, tr, td { display: block; } thead { position: absolute; left: -999rem; }
  tr { border-bottom: 1px solid var(--line); padding: .5rem 0; } tbody tr:first-child { border-top: 1px solid var(--line); }
  td, td.text { display: grid; grid-template-columns: 5.75rem minmax(0, 1fr); gap: .5rem; border: 0; padding: .1rem 0; white-space: normal; min-width: 0; }
  td::before { content: attr(data-name); color: var(--soft); font-size: .87rem; } td.none { display: none; }
  .dense tr { padding: .35rem 0; } .dense td, .dense td.text { display: inline; margin-right: .6rem; }
  .dense td::before { margin-right: .25rem; } .dense td div { display: inline; } .dense td.none { display: none; }
}
"""

SCRIPT = """
"use strict";
// Pages work without this. It keeps the parts marked data-live fresh, says when the agent is away, and shows amounts as people write them.
// What was said once is not said again by reloading, and a form's answer is left behind at the page that the form was on.
const here = new URL(document.querySelector("main").dataset.at || location.href, location.href);
here.searchParams.delete("said");
if (here.href !== location.href) history.replaceState(null, "", here);

const every = 5000;
const parts = () => [...document.querySelectorAll("[data-live]")];
const known = new Map(parts().map((part) => [part.id, part.innerHTML]));

// Somebody has the focus in it, has begun to fill in a form, or marks text.
function used(part) {
  const marked = getSelection();
  const touched = (one) => one.type === "checkbox" ? one.checked !== one.defaultChecked : one.value !== one.defaultValue;
  return part.contains(document.activeElement) || [...part.querySelectorAll("input")].some(touched)
    || (marked.rangeCount && !marked.isCollapsed && marked.containsNode(part, true));
}

function renew(part, fresh) {
  const open = new Map([...part.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
  const aside = [...part.querySelectorAll(".table")].map((one) => one.scrollLeft);
  part.replaceChildren(...fresh.childNodes);
  for (const one of part.querySelectorAll("details[id]")) one.open = open.get(one.id) ?? one.open;
  part.querySelectorAll(".table").forEach((one, at) => { one.scrollLeft = aside[at] ?? 0; });
}

function away(is) {
  const said = document.getElementById("away");
  const at = document.querySelector("#at time");
  if (said.hidden && is && at) said.querySelector("span").textContent = at.textContent;
  said.hidden = !is;
}

async function again() {
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, {headers: {Accept: "text/html"}, credentials: "same-origin", signal: AbortSignal.timeout(10000)});
      if (answer.redirected) return location.reload();
      if (!answer.ok || !answer.headers.get("Content-Type").startsWith("text/html")) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of parts()) {
        const fresh = page.getElementById(part.id);
        const html = fresh ? fresh.innerHTML : "";
        if (html === known.get(part.id) || used(part)) continue;
        known.set(part.id, html);
        if (fresh) renew(part, fresh); else part.replaceChildren();
      }
      away(false);
    } catch { away(true); }
  }
  setTimeout(again, every);
}
if (known.size) setTimeout(again, every);

for (const field of document.querySelectorAll("input[data-decimals]")) {
  const places = Number(field.dataset.decimals);
  const shown = document.createElement("output");
  const show = () => {
    const digits = field.value.trim();
    if (!/^[0-9]{1,78}$/.test(digits)) { shown.textContent = digits ? "digits only" : ""; return; }
    const all = digits.replace(/^0+/, "").padStart(places + 1, "0");
    const whole = all.slice(0, all.length - places).replace(/\\B(?=(\\d{3})+$)/g, ",");
    const rest = all.slice(all.length - places).replace(/0+$/, "");
    shown.textContent = "= " + whole + (rest ? "." + rest : "") + " " + field.dataset.unit;
  };
  field.after(shown);
  field.addEventListener("input", show);
  show();
}
"""


def _path(name: str, content: str) -> str:
    return f"/assets/{hashlib.sha256(content.encode()).hexdigest()[:16]}/{name}"


STYLE_PATH = _path("style.css", STYLE)
SCRIPT_PATH = _path("app.js", SCRIPT)
