"""A real Chromium, driven as a person would. In: addresses, clicks, keys. Out: what the page shows, and everything that went wrong in it.

One process serves many pages: each is a browser context of its own, with its own cookies, and is driven over one websocket in the protocol
of Chromium's developer tools (CDP). Input is real: mouse and key events of the browser, so focus, default actions and forms behave as they
do for people. Nothing here sleeps to be safe: every wait is for a condition and has a deadline.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websockets.asyncio.client

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_S, CALL_S, WAIT_S = 60.0, 60.0, 30.0
POLL_S = 0.02
PHONE, DESKTOP = (390, 844), (1280, 900)
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--disable-features=Translate,OptimizationHints,MediaRouter,AutofillServerCommunication,PaintHolding",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--hide-scrollbars",
    "--metrics-recording-only",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--password-store=basic",
    "--use-mock-keychain",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--remote-debugging-port=0",
)
"""No other host can be reached: what a page asks for elsewhere is seen in `requests`, and gets no answer."""
KEYS: dict[str, tuple[str, int, str]] = {
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, ""),
    "Space": (" ", 32, " "),
    "ArrowDown": ("ArrowDown", 40, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
}
_SHIFT = 8


class Missing(Exception):
    """There is no Chromium here, or it does not start."""


class Gone(Exception):
    """The document went away while it was asked: it navigates."""


def find() -> str:
    """The program's path. Raises Missing."""
    for name in (*NAMES, os.environ.get("STAKESIDE_CHROMIUM", "")):
        if name and (found := shutil.which(name)):
            return found
    raise Missing(f"none of {', '.join(NAMES)} is on PATH, and STAKESIDE_CHROMIUM names no program")


class Chromium:
    """A running browser; `address` is its websocket."""

    def __init__(self, folder: Path) -> None:
        """Starts with a profile below `folder`. Raises Missing."""
        profile = folder / "profile"
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        self._log = (folder / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            [find(), *FLAGS, *root, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)},
        )
        self.address = self._wait(profile / "DevToolsActivePort", folder / "chromium.log")

    def _wait(self, port_file: Path, log: Path) -> str:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with suppress(FileNotFoundError):
                lines = port_file.read_text().split("\n")
                if len(lines) == 2:  # written whole
                    return f"ws://127.0.0.1:{int(lines[0])}{lines[1]}"
            if self._process.poll() is not None:
                break
            time.sleep(POLL_S)
        self.stop()
        raise Missing(f"it does not start: {log.read_text(errors='replace')[-500:]}")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        self._log.close()

    @asynccontextmanager
    async def person(self) -> AsyncIterator[Person]:
        """Somebody with a browser of their own: no cookies yet."""
        async with Wire.connect(self.address) as wire:
            context = (await wire.call("Target.createBrowserContext", disposeOnDetach=True))["browserContextId"]
            yield Person(wire, context)


class Wire:
    """Calls and events of one connection."""

    def __init__(self, connection: websockets.asyncio.client.ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listeners: dict[str, Callable[[str, dict[str, Any]], None]] = {}

    @classmethod
    @asynccontextmanager
    async def connect(cls, address: str) -> AsyncIterator[Wire]:
        async with websockets.asyncio.client.connect(
            address, max_size=None, compression=None, ping_interval=None, proxy=None, open_timeout=START_S
        ) as connection:
            wire = cls(connection)
            reading = asyncio.create_task(wire._read())
            try:
                yield wire
            finally:
                reading.cancel()
                with suppress(asyncio.CancelledError):
                    await reading

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._open[number] = asyncio.get_running_loop().create_future()
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        await self._connection.send(json.dumps(message))
        try:
            async with asyncio.timeout(CALL_S):
                answer = await self._open[number]
        finally:
            del self._open[number]
        if "error" in answer:
            text = answer["error"]["message"]
            if "context" in text or "navigated" in text or "detached" in text:
                raise Gone(f"{method}: {text}")
            raise AssertionError(f"{method}: {text}")
        return answer["result"]

    def listen(self, session: str, listener: Callable[[str, dict[str, Any]], None]) -> None:
        self._listeners[session] = listener

    async def _read(self) -> None:
        async for data in self._connection:
            message = json.loads(data)
            if "id" in message:
                if (waiting := self._open.get(message["id"])) is not None and not waiting.done():
                    waiting.set_result(message)
            elif (listener := self._listeners.get(message.get("sessionId", ""))) is not None:
                listener(message["method"], message["params"])


class Person:
    """One browser context: cookies are shared between its pages, and with nobody else."""

    def __init__(self, wire: Wire, context: str) -> None:
        self._wire = wire
        self._context = context

    async def page(self) -> Page:
        target = await self._wire.call("Target.createTarget", url="about:blank", browserContextId=self._context)
        attached = await self._wire.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self._wire, attached["sessionId"])
        await page.prepare()
        return page

    async def cookies(self) -> list[dict[str, Any]]:
        return (await self._wire.call("Storage.getCookies", browserContextId=self._context))["cookies"]


@dataclass
class Trouble:
    """What went wrong in a page: nothing of it may happen."""

    console: list[str] = field(default_factory=list)
    policy: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    exceptions: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.console or self.policy or self.dialogs or self.exceptions)


class Page:
    """A tab. `requests` are all addresses that it asked for, `trouble` what it complained about."""

    def __init__(self, wire: Wire, session: str) -> None:
        self._wire = wire
        self._session = session
        self._frame = ""
        self._loads = 0
        self.requests: list[str] = []
        self.trouble = Trouble()
        self.tasks: set[asyncio.Task[Any]] = set()

    async def prepare(self) -> None:
        self._wire.listen(self._session, self._heard)
        for domain in ("Page", "Runtime", "Network", "Log", "Audits", "DOM"):
            await self.call(f"{domain}.enable")
        await self.call("Page.setLifecycleEventsEnabled", enabled=True)
        self._frame = (await self.call("Page.getFrameTree"))["frameTree"]["frame"]["id"]
        await self.look(DESKTOP)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._wire.call(method, self._session, **params)

    def _heard(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Page.lifecycleEvent" if params["name"] == "load" and params["frameId"] == self._frame:
                self._loads += 1
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.consoleAPICalled":
                said = " ".join(str(item.get("value", item.get("description"))) for item in params["args"])
                self.trouble.console.append(f"{params['type']}: {said}")
            case "Runtime.exceptionThrown":
                self.trouble.exceptions.append(json.dumps(params["exceptionDetails"])[:500])
            case "Log.entryAdded":
                entry = params["entry"]
                if entry["level"] == "verbose":  # advice
                    return
                self.trouble.console.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}")
            case "Audits.issueAdded":
                issue = params["issue"]
                if "ContentSecurityPolicy" in issue["code"]:
                    self.trouble.policy.append(json.dumps(issue["details"])[:500])
            case "Page.javascriptDialogOpening":
                self.trouble.dialogs.append(params["message"])
                task = asyncio.create_task(self.call("Page.handleJavaScriptDialog", accept=True))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            case _:
                pass

    # --- going ---

    @asynccontextmanager
    async def going(self) -> AsyncIterator[None]:
        """What happens inside leads to another document; on leaving, that one is loaded."""
        before = self._loads
        yield
        await self.until(lambda: self._loads > before, "no other page came")

    async def goto(self, url: str) -> None:
        async with self.going():
            answer = await self.call("Page.navigate", url=url)
            assert not answer.get("errorText"), f"{url}: {answer['errorText']}"

    async def reload(self) -> None:
        async with self.going():
            await self.call("Page.reload")

    async def back(self) -> None:
        """The browser's back button."""
        history = await self.call("Page.getNavigationHistory")
        entry = history["entries"][history["currentIndex"] - 1]
        async with self.going():
            await self.call("Page.navigateToHistoryEntry", entryId=entry["id"])

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{what} within {WAIT_S:g} s; the page is at {await self.evaluate('location.href')}"
                )
            await asyncio.sleep(POLL_S)

    # --- asking ---

    async def evaluate(self, expression: str) -> Any:
        """A value of the page; a promise is awaited. The page's policy does not bind this."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression[:200]}: {json.dumps(answer['exceptionDetails'])[:800]}")
        return answer["result"].get("value")

    async def wait_for(self, expression: str) -> Any:
        """Until the expression is true in the page, through navigations."""
        deadline = time.monotonic() + WAIT_S
        while True:
            with suppress(Gone):
                if found := await self.evaluate(expression):
                    return found
            if time.monotonic() > deadline:
                text = await self.evaluate("document.body.innerText")
                raise AssertionError(f"never true: {expression}; the page says: {text[:1500]}")
            await asyncio.sleep(POLL_S)

    async def text(self, selector: str = "body") -> str:
        """What a person can read there."""
        return await self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")

    async def count(self, selector: str) -> int:
        return await self.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")

    async def path(self) -> str:
        return await self.evaluate("location.pathname + location.search")

    async def focused(self) -> str:
        """Tag and name of the focused element, as `a Intents`."""
        return await self.evaluate(_FOCUSED)

    # --- doing ---

    async def click(self, selector: str, *, says: str | None = None) -> None:
        """On the middle of the first element that matches, and whose text is `says` if that is given."""
        place = await self.evaluate(f"({_PLACE})({json.dumps(selector)}, {json.dumps(says)})")
        assert place is not None, (
            f"nothing to click: {selector} {says or ''}; the page says: {(await self.text())[:1000]}"
        )
        for kind, more in (
            ("mouseMoved", {}),
            ("mousePressed", {"button": "left", "clickCount": 1, "buttons": 1}),
            ("mouseReleased", {"button": "left", "clickCount": 1}),
        ):
            await self.call("Input.dispatchMouseEvent", type=kind, x=place["x"], y=place["y"], **more)

    async def press(self, key: str, *, shift: bool = False) -> None:
        name, code, text = KEYS[key]
        common: dict[str, Any] = {
            "key": name,
            "code": "Space" if key == "Space" else name,
            "windowsVirtualKeyCode": code,
            "modifiers": _SHIFT if shift else 0,
        }
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        await self.call("Input.dispatchKeyEvent", **down, **common)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    async def type(self, text: str) -> None:
        """Into whatever has the focus. Keys go out in order, without waiting for each: nobody types so fast, but nobody has the time."""
        keys: list[dict[str, str]] = []
        for char in text:
            keys.append({"type": "keyDown", "text": char, "key": char, "unmodifiedText": char})
            keys.append({"type": "keyUp", "key": char})
        await asyncio.gather(*(self.call("Input.dispatchKeyEvent", **key) for key in keys))

    async def fill(self, selector: str, text: str) -> None:
        await self.click(selector)
        await self.type(text)

    async def tab_to(self, focused: str, *, at_most: int = 80) -> list[str]:
        """Press Tab until that has the focus; what had it on the way."""
        way: list[str] = []
        for _ in range(at_most):
            await self.press("Tab")
            way.append(await self.focused())
            if way[-1] == focused:
                return way
        raise AssertionError(f"Tab never reaches {focused!r}: {way}")

    # --- looking ---

    async def look(self, size: tuple[int, int], *, dark: bool = False) -> None:
        """The window's size and the person's colour scheme."""
        width, height = size
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = "dark" if dark else "light"
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def screenshot(self, file: Path, size: tuple[int, int], *, dark: bool = False) -> None:
        """The whole page, as long as it is."""
        await self.look(size, dark=dark)
        height = await self.evaluate("Math.ceil(document.documentElement.getBoundingClientRect().height)")
        clip = {"x": 0, "y": 0, "width": size[0], "height": max(size[1], height), "scale": 1}
        taken = await self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(taken["data"]))


_PLACE = """(selector, says) => {
  const found = [...document.querySelectorAll(selector)].find(
    (one) => says === null || one.textContent.trim() === says || one.value === says);
  if (!found) return null;
  found.scrollIntoView({block: "center", inline: "center", behavior: "instant"});
  const box = found.getBoundingClientRect();
  if (!box.width || !box.height) return null;
  return {x: box.x + box.width / 2, y: box.y + box.height / 2};
}"""
_FOCUSED = """(() => {
  const at = document.activeElement;
  if (!at || at === document.body) return "nothing";
  const label = at.labels && at.labels.length ? at.labels[0].innerText : at.innerText;
  return `${at.tagName.toLowerCase()} ${(label || at.getAttribute("aria-label") || at.name || "").trim().split("\\n")[0]}`;
})()"""
