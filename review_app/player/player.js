// The review screen: sound, text, decisions and keys. Works on any element that holds player.html.
//
// A transcript comes from the web, so texts reach the page through textContent and value only.

import { parts } from "./diff.js";
import { Session } from "./session.js";
import { Waveform } from "./waveform.js";
import { Words } from "./words.js";

const RESUME_REWIND_SECONDS = 0.5; // playing on after a pause repeats this much
const MIN_SPEED = 0.5;
const MAX_SPEED = 2;
const SPEED_STEP = 0.1;
const SETTLE_MS = 300; // a key hit twice does not decide the next segment as well

export function mount(root) {
  const find = (name) => root.querySelector(`.js-${name}`);
  const [text, wave, play, speed, clock, status] =
    ["text", "wave", "play", "speed", "clock", "status"].map(find);
  const [work, empty, kept, rejecting, help] =
    ["work", "empty", "kept", "reject", "help"].map(find);
  const waveform = new Waveform(wave, (part) => seek(part * duration()));
  const words = new Words(find("words"), (seconds) => {
    seek(seconds);
    start();
  });
  const session = new Session({ show, prepare, changed, say: (told) => (status.textContent = told) });
  let sound = new Audio();
  let item = null;
  let rate = 1;
  let looping = false;
  let shownAt = 0;

  // --- what is shown

  function prepare(next) {
    next.sound = new Audio(next.audio);
    next.sound.preload = "auto";
    next.bars = session.peaks(next).catch(() => []);
  }

  function show(next) {
    sound.pause();
    rejecting.close();
    const typed = document.activeElement === text || item === null;
    item = next;
    work.hidden = item === null;
    empty.hidden = item !== null;
    if (item === null) {
      changed();
      return;
    }
    item.shownAt = shownAt = performance.now();
    text.value = session.draft(item.segment_id) ?? item.text;
    text.lang = item.language;
    showAbout();
    words.load(item.words, item.language);
    edited();
    sound = item.sound;
    sound.playbackRate = rate;
    sound.loop = looping;
    sound.ontimeupdate = sound.onseeked = draw;
    sound.onplay = animate;
    sound.onpause = sound.onended = draw;
    sound.onerror = () => (status.textContent = "The sound of this segment cannot be loaded.");
    status.textContent = "";
    waveform.load([]);
    const loading = item;
    item.bars.then((peaks) => {
      if (loading === item) waveform.load(peaks);
    });
    draw();
    changed();
    if (typed) {
      text.focus({ preventScroll: true });
      text.setSelectionRange(0, 0);
    }
    start();
  }

  function showAbout() {
    const title = find("title");
    title.textContent = item.title;
    title.removeAttribute("href");
    if (/^https?:\/\//i.test(item.url ?? "")) title.href = item.url;
    const about = [item.language, `${item.seconds.toFixed(1)} s`, item.licence, item.kind];
    if (item.double) about.push("two people decide");
    const why = item.reasons_in_words;
    fill(find("tags"), [...about.filter(Boolean), ...why], (tag) => element("li", tag));
    for (const name of ["before", "after"]) {
      const near = find(name);
      near.hidden = !item[name];
      near.lang = item.language;
      near.querySelector("span").textContent = item[name] ?? "";
    }
  }

  function showOthers() {
    fill(find("others"), item.others, (other) => {
      const line = element("li");
      const said = element("span");
      for (const [part, differs] of parts(other.text, text.value, item.language)) {
        said.append(differs ? element("mark", part) : part);
      }
      said.dir = "auto";
      said.lang = item.language;
      const use = button("Use", () => {
        text.value = other.text;
        edited();
        text.focus();
      });
      use.setAttribute("aria-label", `Use the ${other.kind} transcript`);
      line.append(element("b", other.kind), said, use);
      return line;
    });
  }

  function edited() {
    const same = text.value.trim() === item.text.trim();
    find("save-label").textContent = same ? "Accept" : "Save correction";
    session.setDraft(item.segment_id, same ? undefined : text.value);
    showOthers();
  }

  // Told by the session: connection, counts, what could not be saved.
  function changed() {
    const unsaved = session.outbox.length;
    const { waiting, trouble } = session;
    find("count").textContent = waiting === null ? "" : `${waiting.toLocaleString()} waiting`;
    find("saved").textContent = trouble ? "offline" : unsaved ? "saving" : "saved";
    find("dot").dataset.state = trouble ? "offline" : unsaved ? "saving" : "saved";
    find("saved").title = trouble ?? "";
    find("empty-text").textContent = trouble
      ? `The server cannot be reached (${trouble}). Trying again; nothing is lost.`
      : session.exhausted ? "Everything is reviewed." : "Loading…";
    if (kept.childElementCount === session.kept.length) return; // an alert is read out once
    kept.hidden = session.kept.length === 0;
    fill(kept, session.kept, (one) => {
      const line = element("div");
      const typed = element("textarea", one.text);
      typed.readOnly = true;
      typed.dir = "auto";
      typed.rows = 2;
      typed.setAttribute("aria-label", "The text that was not saved");
      const why = element("p", `Not saved (${one.action}): ${one.why}. Your text is kept here:`);
      const theirs = element("p", one.theirs ? `Theirs: ${one.theirs}` : "");
      theirs.dir = "auto";
      line.append(why, typed, theirs, button("Dismiss", () => session.dismiss(one.client_id)));
      return line;
    });
  }

  // --- sound

  function duration() {
    return Number.isFinite(sound.duration) ? sound.duration : item?.seconds ?? 0;
  }

  function start() {
    sound.play().catch((error) => {
      if (error.name === "NotAllowedError") status.textContent = "Press Tab or Play to listen.";
    });
  }

  function playOrPause() {
    if (!sound.paused) {
      sound.pause();
      draw();
      return;
    }
    status.textContent = "";
    if (!sound.ended) seek(sound.currentTime - RESUME_REWIND_SECONDS);
    start();
  }

  function replay() {
    seek(0);
    start();
  }

  function seek(seconds) {
    sound.currentTime = Math.min(Math.max(0, seconds), duration());
    draw();
  }

  function setRate(wanted) {
    rate = Math.round(Math.min(MAX_SPEED, Math.max(MIN_SPEED, wanted)) * 10) / 10;
    sound.playbackRate = rate;
    speed.textContent = `${rate.toFixed(1)}×`;
  }

  function loop() {
    looping = sound.loop = !looping;
    find("loop").setAttribute("aria-pressed", looping);
    if (looping && sound.paused) start();
  }

  function animate() {
    draw();
    if (!sound.paused) requestAnimationFrame(animate);
  }

  function draw() {
    const at = sound.currentTime;
    waveform.moveTo(duration() ? at / duration() : 0);
    words.moveTo(at);
    clock.textContent = `${at.toFixed(1)} / ${duration().toFixed(1)} s`;
    find("play-label").textContent = sound.paused ? "Play" : "Pause";
    wave.setAttribute("aria-valuemax", duration().toFixed(1));
    wave.setAttribute("aria-valuenow", at.toFixed(1));
    wave.setAttribute("aria-valuetext", `${at.toFixed(1)} seconds`);
  }

  // --- decisions

  function ready() {
    return item !== null && performance.now() - shownAt > SETTLE_MS;
  }

  function save() {
    if (!ready()) return;
    const said = text.value.trim();
    if (said) session.decide(said === item.text.trim() ? "accept" : "correct", said);
    else status.textContent = "There is no text. Type what is said, or reject the segment.";
  }

  function skip() {
    if (ready()) session.decide("skip", text.value);
  }

  function reject(reason) {
    session.decide("reject", text.value, reason);
  }

  // Cut where the sound is, and the text where its cursor is.
  function split() {
    if (!ready()) return;
    const texts = [text.value.slice(0, text.selectionStart), text.value.slice(text.selectionStart)];
    if (texts.some((one) => !one.trim())) {
      status.textContent = "To split, put the cursor into the text between two words, and stop the sound there.";
      return;
    }
    session.split(item.start_ms + Math.round(sound.currentTime * 1000), texts.map((one) => one.trim()));
  }

  function merge() {
    if (ready()) session.merge();
  }

  function undo() {
    session.undo();
  }

  function askReason() {
    if (!ready()) return;
    const reasons = Object.entries(session.info.reasons);
    fill(find("reasons"), reasons, ([reason, words], index) => {
      const line = element("li");
      const choice = button(words, () => reject(reason));
      choice.append(" ", element("kbd", index + 1));
      line.append(choice);
      return line;
    });
    rejecting.showModal();
  }

  // --- keys: physical ones, so that they work in every keyboard layout

  const keys = [
    { code: "Mod+Enter", label: "Ctrl Enter", says: "accept, or save the correction, and go on", run: save, once: true },
    { code: "Tab", label: "Tab", says: "play or pause", where: "text", run: playOrPause },
    { code: "Shift+Tab", label: "Shift Tab", says: "two seconds back", where: "text", run: () => seek(sound.currentTime - 2) },
    { code: "Escape", label: "Esc", says: "leave the text", where: "text", run: () => wave.focus() },
    { code: "Space", label: "Space", says: "play or pause", where: "page", run: playOrPause },
    { code: "ArrowLeft", label: "←", says: "two seconds back", where: "page", run: () => seek(sound.currentTime - 2) },
    { code: "ArrowRight", label: "→", says: "two seconds on", where: "page", run: () => seek(sound.currentTime + 2) },
    { code: "KeyR", label: "R", says: "replay from the start", where: "page", run: replay },
    { code: "KeyL", label: "L", says: "play again and again, or no longer", where: "page", run: loop },
    { code: "BracketLeft", label: "[", says: "slower", where: "page", run: () => setRate(rate - SPEED_STEP) },
    { code: "BracketRight", label: "]", says: "faster", where: "page", run: () => setRate(rate + SPEED_STEP) },
    { code: "KeyE", label: "E", says: "edit the text", where: "page", run: () => text.focus() },
    { code: "KeyX", label: "X", says: "reject, with a reason", where: "page", run: askReason, once: true },
    { code: "KeyS", label: "S", says: "skip; it comes again at the end", where: "page", run: skip, once: true },
    { code: "KeyZ", label: "Z", says: "take the last decision back", where: "page", run: undo, once: true, always: true },
    { code: "KeyC", label: "C", says: "cut in two, at the sound's place and the text's cursor", where: "page", run: split, once: true },
    { code: "KeyM", label: "M", says: "join with the next segment", where: "page", run: merge, once: true },
    { code: "Shift+Slash", label: "?", says: "this list", where: "page", run: () => help.showModal() },
  ];

  function pressed(event) {
    if (event.isComposing || event.altKey || root.offsetParent === null) return;
    if (rejecting.open) {
      const choice = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
      if (choice) find("reasons").querySelectorAll("button")[choice[1] - 1]?.click();
      return;
    }
    if (help.open) return;
    const target = event.target;
    const inText = target === text;
    if (!inText && target.closest("input, textarea, select, [contenteditable]")) return;
    if (event.code === "Space" && target.closest("button, a")) return;
    const modifiers = (event.ctrlKey || event.metaKey ? "Mod+" : "") + (event.shiftKey ? "Shift+" : "");
    const code = event.key === "?" ? "Shift+Slash" : modifiers + event.code.replace("Numpad", "");
    const key = keys.find((one) => one.code === code && one.where !== (inText ? "page" : "text"));
    if (!key || (item === null && !key.always)) return;
    event.preventDefault();
    event.stopPropagation();
    if (!(key.once && event.repeat)) key.run();
  }

  // --- wiring

  const actions = {
    play: playOrPause,
    replay,
    slower: () => setRate(rate - SPEED_STEP),
    faster: () => setRate(rate + SPEED_STEP),
    save,
    reject: askReason,
    skip,
    loop,
    undo,
    help: () => help.showModal(),
    look: () => session.look(),
    close: () => (rejecting.close(), help.close()),
  };
  root.addEventListener("click", (event) => {
    const name = event.target.closest("[data-do]")?.dataset.do;
    if (name) actions[name]();
  });
  text.addEventListener("input", edited);
  document.addEventListener("keydown", pressed, true);
  fill(find("keys"), keys, (key) => {
    const row = element("tr");
    const label = element("th");
    label.append(...key.label.split(" ").map((part) => element("kbd", part)));
    const where = { text: "in the text", page: "outside the text" }[key.where] ?? "everywhere";
    row.append(label, element("td", key.says), element("td", where));
    return row;
  });
  show(null);
  session.run();
}

function element(name, content = "") {
  const made = document.createElement(name);
  made.textContent = content;
  return made;
}

function button(label, run) {
  const made = element("button", label);
  made.type = "button";
  made.addEventListener("click", run);
  return made;
}

function fill(parent, values, make) {
  parent.replaceChildren(...values.map(make));
}
