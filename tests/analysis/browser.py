"""A headless Chromium, driven over its DevTools protocol by a pair of pipes."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 60
_PROBLEMS = ("Runtime.exceptionThrown", "Log.entryAdded")


def program():
    """Returns the path of an installed Chromium, None without one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A page that is open.

    Attributes:
      problems: errors and warnings of its console, among them of requests that failed.
      requests: addresses that it has asked for.
    """

    def __init__(self, reader, writer):
        self.reader, self.writer, self.buffer, self.number = reader, writer, b"", 0
        self.problems, self.requests, self.session = [], [], None

    def open(self, address):
        target = self.call("Target.createTarget", url="about:blank")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression):
        """Returns the value of a JavaScript expression, once a promise is kept."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition):
        """Waits until a JavaScript expression is true."""
        end = time.monotonic() + SECONDS
        while not self.evaluate(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.05)

    def place(self, selector, index=0):
        """Scrolls an element into view and returns its middle in the window."""
        text = json.dumps(selector)
        return self.evaluate(
            f"(() => {{ const e = document.querySelectorAll({text})[{index}];"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const r = e.getBoundingClientRect();"
            "return [r.left + r.width / 2, r.top + r.height / 2]; })()"
        )

    def move(self, selector, index=0):
        """Moves the mouse over an element."""
        x, y = self.place(selector, index)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        return x, y

    def click(self, selector, index=0):
        """Clicks an element with the mouse."""
        x, y = self.move(selector, index)
        for kind in ("mousePressed", "mouseReleased"):
            options = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", **options)

    def screenshot(self, path):
        answer = self.call("Page.captureScreenshot", format="png")
        Path(path).write_bytes(base64.b64decode(answer["data"]))

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self.number:
            self._note(answer.get("method"), answer.get("params"))
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def _message(self):
        while b"\0" not in self.buffer:
            part = os.read(self.reader, 1 << 20)
            assert part, "the browser has ended"
            self.buffer += part
        text, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(text)

    def _note(self, event, params):
        spoken = event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning")
        if event in _PROBLEMS or spoken:
            self.problems.append(params)
        elif event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])


@contextlib.contextmanager
def opened(path, folder):
    """Opens an HTML file in a browser that has no network; yields the `Page`.

    folder: for the browser's own files.
    """
    to_browser, writer = os.pipe()
    reader, from_browser = os.pipe()
    command = [
        *(program(), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *(
            "--disable-dev-shm-usage",
            "--window-size=1200,900",
            "--remote-debugging-pipe",
            f"--user-data-dir={folder}",
        ),
        *("--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking"),
        "about:blank",
    ]
    # The protocol is spoken over the descriptors 3 and 4.
    shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", *command],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        page = Page(reader, writer)
        page.open(Path(path).absolute().as_uri())
        yield page
    finally:
        process.kill()
        process.wait()
        os.close(writer)
        os.close(reader)
