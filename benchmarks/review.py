"""How long a reviewer waits, with 20 people at work on one server and 100,000 segments.

One of them is a real browser, in which Ctrl+Enter is pressed a second after a segment plays; the
others are clients of the same interface in another process, who sign in, fetch the sound of each
segment and decide it after a pause for thought. Beside it, while the others go on working: the same
with Gradio's own components, a sound, a text box and a button, with the segments in memory.
Measured in the page: from the key (there: from the click) to the moment the next sound plays.
"""

import argparse
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks import Figure
from benchmarks._review_catalogue import fill, write_media
from corpus import audio
from corpus.catalogue import Catalogue
from corpus.workspace import Workspace, init_workspace

CHROMIUM = "/usr/bin/chromium"
PASSWORD = "correct horse battery"

KEY_P50_MS, KEY_P95_MS = 60.0, 200.0
DECIDE_P95_MS = 250.0
FIRST_PAGE_MS = 2000.0

THOUGHT_S = 3.0  # mean of the clients' pauses; people take longer
PEER_CLIPS = 50

WATCH = """
const seen = [];
let pressed = null;
const note = (event) => { pressed ??= event.timeStamp; };
addEventListener("keydown", (event) => event.ctrlKey && event.key === "Enter" && note(event), true);
addEventListener("click", (event) => event.target.closest("#save") && note(event), true);
const heard = () => {
  window.firstSound ??= performance.now();
  if (pressed !== null) seen.push(performance.now() - pressed);
  pressed = null;
};
addEventListener("playing", heard, true);
const watched = (made) => {
  if (made instanceof HTMLMediaElement) made.addEventListener("playing", heard);
  return made;
};
const create = document.createElement;
document.createElement = (...names) => watched(create.apply(document, names));
const Plain = Audio;
window.Audio = function (...address) { return watched(new Plain(...address)); };
window.seen = seen;
"""
"""Notes the milliseconds from each key or click to the sound after it, and to the first sound."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--segments", type=int, default=100_000, metavar="N")
    parser.add_argument("--clients", type=int, default=19, metavar="N", help="besides the browser")
    parser.add_argument("--decisions", type=int, default=100, metavar="N", help="in the browser")
    parser.add_argument("--visits", type=int, default=5, metavar="N", help="first pages opened")


def measure(options: argparse.Namespace) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        workspace = init_workspace(Path(folder) / "workspace", "en")
        write_media(workspace)
        fill(Catalogue(workspace.catalogue_url), options.segments)
        names = [f"person{number:02}" for number in range(options.clients + 1)]
        _write_down(workspace, names)
        with _served(workspace) as url, _chromium() as chromium:
            began = time.perf_counter()
            with _working(url, names[1:]) as answers:
                mine = _review(chromium, url, names[0], options)
                peer = _review_with_gradio(chromium, Path(folder), options)
            seconds = time.perf_counter() - began
    people = f"{len(names)} people"
    decide = [milliseconds for name, milliseconds in answers if name == "decide"]
    return [
        Figure("key to sound, p50", _at(mine["keys"], 50), "ms", "limit", KEY_P50_MS),
        Figure("key to sound, p95", _at(mine["keys"], 95), "ms", "limit", KEY_P95_MS),
        Figure(
            "key to sound, p50", _at(mine["keys"], 50), "ms", "Gradio, p50", _at(peer["keys"], 50)
        ),
        Figure(
            "key to sound, p95", _at(mine["keys"], 95), "ms", "Gradio, p95", _at(peer["keys"], 95)
        ),
        Figure(f"POST decide, p95, {people}", _at(decide, 95), "ms", "limit", DECIDE_P95_MS),
        Figure("first page with sound, p50", _at(mine["first"], 50), "ms", "limit", FIRST_PAGE_MS),
        Figure(
            "first page with sound, p50",
            _at(mine["first"], 50),
            "ms",
            "Gradio, p50",
            _at(peer["first"], 50),
        ),
        Figure("decisions of all", len(decide) / seconds, "a second", "20 people", 1.0),
    ]


def _at(milliseconds: list[float], percent: int) -> float:
    return float(np.percentile(milliseconds, percent))


def _write_down(workspace: Workspace, names: list[str]) -> None:
    """The order of the queue, as a server that has run for a while has it, and the accounts."""
    from review_app import accounts, order

    catalogue = Catalogue(workspace.catalogue_url)
    for _ in order.refresh(catalogue):
        pass
    with catalogue.session() as session:
        for name in names:
            accounts.add(session, name, "reviewer", PASSWORD)


@contextmanager
def _served(workspace: Workspace) -> Iterator[str]:
    """The server as people start it, in a process of its own; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "review_app", "--workspace", str(workspace.root)]
    server = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url)
        yield url
    finally:
        server.terminate()
        server.wait()


def _wait_for(url: str) -> None:
    for _ in range(600):
        try:
            httpx.get(url)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError(f"nothing serves {url}")


# --- the people who are no browser


@contextmanager
def _working(url: str, names: list[str]) -> Iterator[list[tuple[str, float]]]:
    """People at work; on leaving, the list holds (request, milliseconds) of all that they did.

    Raises:
        EOFError: one of them got no answer; standard error tells why.
    """
    spawn = multiprocessing.get_context("spawn")
    stop, (here, there) = spawn.Event(), spawn.Pipe(duplex=False)
    process = spawn.Process(target=_work, args=(url, names, stop, there))
    process.start()
    there.close()
    found: list[tuple[str, float]] = []
    try:
        here.recv()  # everybody has a segment
        yield found
    finally:
        stop.set()
        found.extend(here.recv())
        process.join()


def _work(url: str, names: list[str], stop: Any, told: Any) -> None:
    """A process with a thread for each person."""
    everybody = threading.Barrier(len(names) + 1, timeout=60)
    with ThreadPoolExecutor(len(names)) as threads:
        people = [threads.submit(_person, url, name, everybody, stop) for name in names]
        everybody.wait()
        told.send("ready")
    told.send([row for person in people for row in person.result()])


def _person(
    url: str, name: str, everybody: threading.Barrier, stop: Any
) -> list[tuple[str, float]]:
    """Sign in, then decide one segment after another while the next one's sound is fetched."""
    thought, done = random.Random(name), []
    headers = {"X-Requested-With": "benchmark"}
    idle = httpx.Limits(keepalive_expiry=2)  # seconds; the server closes connections after 5
    with httpx.Client(base_url=url, headers=headers, timeout=60, limits=idle) as client:

        def timed(request: str, *arguments: Any, **wish: Any) -> Any:
            began = time.perf_counter()
            reply = client.request(*arguments, **wish)
            done.append((request, 1000 * (time.perf_counter() - began)))
            return reply.raise_for_status()

        client.post("/sign-in", data={"name": name, "password": PASSWORD})
        item = timed("next", "GET", "/api/v1/next").json()["item"]
        everybody.wait()
        while not stop.wait(thought.expovariate(1 / THOUGHT_S)):
            timed("media", "GET", item["audio"], params={"context": 1})
            decision = {
                "segment_id": item["segment_id"],
                "transcript_id": item["transcript_id"],
                "version": item["version"],
                "action": "accept",
                "client_id": f"{name}-{item['segment_id']}"[:64],
                "lead_ms": 3000,
            }
            item = timed("decide", "POST", "/api/v1/decide", json=decision).json()["item"]
    return done


# --- the browser


@contextmanager
def _chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                *("--no-sandbox", "--disable-gpu", "--mute-audio"),
                "--autoplay-policy=no-user-gesture-required",
                *("--disable-background-networking", "--disable-component-update"),
            ],
        )
        yield browser
        browser.close()


def _page(chromium: Any, cookies: Any = None) -> Any:
    context = chromium.new_context(storage_state=cookies)
    context.add_init_script(WATCH)
    return context.new_page()


def _review(
    chromium: Any, url: str, name: str, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Milliseconds from each key to the sound after it, and to the first sound of each visit."""
    page = _page(chromium)
    page.goto(url)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_function("window.firstSound !== undefined")
    cookies = page.context.storage_state()
    keys = _pressed(page, options.decisions, lambda: page.keyboard.press("Control+Enter"))
    page.context.close()
    first = [_first_sound(chromium, url, cookies) for _ in range(options.visits)]
    return {"keys": keys, "first": first}


def _pressed(page: Any, times: int, press: Any) -> list[float]:
    page.wait_for_timeout(2000)  # what is loaded behind the first sound
    for number in range(times):
        press()
        page.wait_for_function("count => window.seen.length > count", arg=number)
        page.wait_for_timeout(1000)  # a person listens, and the next one is fetched meanwhile
    found: list[float] = page.evaluate("window.seen")
    return found


def _first_sound(chromium: Any, url: str, cookies: Any = None) -> float:
    """Milliseconds from opening the address, with nothing in the browser's cache."""
    page = _page(chromium, cookies)
    page.goto(url)
    page.wait_for_function("window.firstSound !== undefined")
    found: float = page.evaluate("window.firstSound")
    page.context.close()
    return found


# --- the peer


def _review_with_gradio(
    chromium: Any, folder: Path, options: argparse.Namespace
) -> dict[str, list[float]]:
    """The same in an app of a few lines of Gradio."""
    clips = folder / "clips"
    clips.mkdir()
    draw = np.random.default_rng(0)
    for number in range(PEER_CLIPS):
        noise = (3000 * draw.normal(0, 1, 6 * audio.SAMPLE_RATE)).astype(np.int16)
        (clips / f"{number}.flac").write_bytes(audio.encode_flac(noise))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", PEER, str(clips), str(port)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        _wait_for(url)
        page = _page(chromium)
        page.goto(url)
        page.wait_for_function("window.firstSound !== undefined")
        save = page.locator("#save")
        keys = _pressed(page, options.decisions, lambda: save.click())
        page.context.close()
        return {"keys": keys, "first": [_first_sound(chromium, url) for _ in range(options.visits)]}
    finally:
        server.terminate()
        server.wait()


PEER = """
import itertools, pathlib, sys
import gradio
clips = itertools.cycle(sorted(pathlib.Path(sys.argv[1]).iterdir()))
def following(text):
    clip = next(clips)
    return str(clip), f"what is said in {clip.stem}"
with gradio.Blocks() as page:
    sound = gradio.Audio(autoplay=True)
    text = gradio.Textbox()
    gradio.Button("Save", elem_id="save").click(following, text, [sound, text])
    page.load(following, text, [sound, text])
page.launch(server_name="127.0.0.1", server_port=int(sys.argv[2]), quiet=True,
            allowed_paths=[sys.argv[1]])
"""
