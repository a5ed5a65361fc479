// The review screen: sound, text, decisions and keys. Works on any element that holds player.html.
//
// A transcript comes from the web, so texts reach the page through textContent and value only.

import { showHistory, showNear, showOthers, showTags, showTitle, standing } from "./about.js";
import { timeAt } from "./caret.js";
import { button, element, fill } from "./dom.js";
import { showKept } from "./kept.js";
import { digit, pressed } from "./keys.js";
import { Media } from "./media.js";
import { showOpinions } from "./opinions.js";
import { direction } from "./script.js";
import { Session } from "./session.js";
import { Sound } from "./sound.js";
import { Waveform } from "./waveform.js";
import { Words } from "./words.js";

const SPEED_STEP = 0.1;
const JUMP_SECONDS = 2;
const NUDGE_MS = 20; // the grid of a data set's times
const MIN_SEGMENT_MS = 100;
const MAX_SEGMENT_MS = 30_000;
const BOUND_REACH = 0.3; // seconds heard on either side of a bound that was moved
const CURSOR_REACH = 0.75; // and of the cursor
const SETTLE_MS = 300; // a key hit twice does not decide the next segment as well

export function mount(root) {
  const find = (name) => root.querySelector(`.js-${name}`);
  const [text, wave, status, notice] = ["text", "wave", "status", "notice"].map(find);
  const [work, empty, rejecting, help, filtering] = ["work", "empty", "reject", "help", "filter"].map(find);
  const edges = { start: find("start"), end: find("end") };
  const say = (told) => (status.textContent = told);
  const session = new Session({ show, prepare, changed, say, alive: () => root.isConnected });
  const sound = new Sound({ moved: draw, failed: say });
  const waveform = new Waveform(wave, edges, { seek: (at) => sound.seek(at), drag, drop: playBound });
  const words = new Words(find("words"), (at) => (sound.seek(at), sound.play()));
  let item = null;
  let bounds = null; // of the segment in its recording, in milliseconds, as they are here
  let shownAt = 0;

  // --- what is shown

  function prepare(next) {
    next.media = new Media(next);
    next.media.load().catch(() => {}); // tried again when it is shown
  }

  function show(next) {
    const typed = document.activeElement === text || (item === null && !onPhone());
    sound.unload();
    for (const dialog of [rejecting, filtering]) dialog.close();
    item = next;
    work.hidden = item === null;
    empty.hidden = item !== null;
    if (item === null) {
      bounds = null;
      find("title").textContent = "";
      find("title").removeAttribute("href");
      find("tags").replaceChildren();
      changed();
      return;
    }
    item.shownAt = shownAt = performance.now();
    const draft = session.draft(item.segment_id);
    text.value = draft.text ?? item.text;
    text.lang = item.language;
    text.dir = direction(item.language);
    showTitle(find("title"), item);
    showTags(find("tags"), item);
    for (const name of ["before", "after"]) showNear(find(name), item[name], item.language);
    showPast();
    showOpinions(find("opinions"), item, session.info.reasons, { choose, use });
    words.load(item.words, item.language);
    say("");
    loadSound();
    setBounds(draft.start_ms ?? item.start_ms, draft.end_ms ?? item.end_ms);
    edited();
    changed();
    if (typed) {
      text.focus({ preventScroll: true });
      text.setSelectionRange(0, 0);
    }
    sound.replay();
  }

  function loadSound() {
    const tail = item.context_after_ms / 1000;
    const { media } = item;
    sound.load(media, item.seconds, tail);
    waveform.load(-media.head, item.seconds + tail);
    media.load().then(() => media.peaks).then(
      (peaks) => media === item?.media && waveform.setPeaks(peaks),
      () => {}, // playing tells
    );
  }

  function showPast() {
    const made = item.history;
    find("past").hidden = made.length === 0;
    find("past-count").textContent = made.length;
    showHistory(find("history"), item, (id) => session.revert(id));
  }

  function edited() {
    const changedText = text.value.trim() !== item.text.trim();
    const label = changedText ? "Save correction" : moved() ? "Accept new bounds" : "Accept";
    find("save-label").textContent = label;
    const draft = { ...(changedText && { text: text.value }), ...(moved() && bounds) };
    session.setDraft(item.segment_id, changedText || moved() ? draft : undefined);
    showOthers(find("others"), item, text.value, use);
  }

  function use(other) {
    text.value = other;
    edited();
    text.focus();
  }

  // Told by the session: connection, counts, other tabs, what could not be saved.
  function changed() {
    const unsaved = session.outbox.length;
    const { waiting, conflicts, trouble, filters } = session;
    const filtered = Object.values(filters).length > 0;
    const { signedOut } = session;
    const state = signedOut ? "signed out" : trouble ? "offline" : unsaved ? "saving" : "saved";
    const counts = [[waiting, "waiting"], [conflicts || null, "to settle"]].filter(([count]) => count !== null);
    find("count").textContent = counts.map(([count, of]) => `${count.toLocaleString()} ${of}`).join(", ");
    find("saved").textContent = state;
    find("dot").dataset.state = trouble ? "offline" : state;
    find("saved").title = trouble ?? "";
    find("filter-label").textContent = filtered ? "Filtered" : "Filter";
    find("empty-text").textContent = trouble
      ? `The server cannot be reached (${trouble}). Trying again; nothing is lost.`
      : !session.exhausted ? "Loading…"
      : filtered ? "Nothing is left of what the filter wants." : "Everything is reviewed.";
    find("signed-out").hidden = !signedOut;
    find("signed-out-why").textContent = signedOut ? `What you typed is kept: ${trouble}.` : "";
    find("who").hidden = !session.info?.accounts;
    find("name").textContent = session.info?.reviewer ?? "";
    showNotice();
    const kept = find("kept");
    if (kept.childElementCount === session.kept.length) return; // an alert is read out once
    showKept(kept, session.kept, { open: reopen, dismiss: (one) => session.dismiss(one.client_id) });
  }

  function showNotice() {
    const tabs = session.tabs;
    const others = tabs.others.size;
    const mine = item && session.info && standing(item, session.info.reviewer);
    const told = !item ? ""
      : item.held_by ? `${item.held_by} has this segment before them. You can hear it; S goes on.`
      : tabs.taken.includes(item.segment_id)
        ? "Another tab shows this segment too. Decide it in one of them; what is typed last is kept."
      : mine ? `You have decided this segment (${mine.action}). N goes on; Z takes your last decision back.`
      : others ? `Open in ${others + 1} tabs; each has segments of its own.` : "";
    if (notice.textContent !== told) notice.textContent = told;
    notice.hidden = !told;
  }

  // Show a segment again whose text was refused, with that text.
  function reopen(one) {
    const { text, start_ms, end_ms } = one;
    session.setDraft(one.segment_id, { text, start_ms, end_ms });
    session.dismiss(one.client_id);
    session.open(one.segment_id);
  }

  function draw() {
    if (!item) return;
    const { at } = sound;
    const shown = at.toFixed(1);
    waveform.moveTo(at);
    words.moveTo(at);
    find("clock").textContent = `${shown} / ${item.seconds.toFixed(1)} s`;
    find("play-label").textContent = sound.paused ? "Play" : "Pause";
    wave.setAttribute("aria-valuemin", (-sound.head).toFixed(1));
    wave.setAttribute("aria-valuemax", sound.last.toFixed(1));
    wave.setAttribute("aria-valuenow", shown);
    wave.setAttribute("aria-valuetext", `${shown} seconds`);
  }

  // --- sound

  function setRate(rate) {
    sound.setRate(rate);
    find("speed").textContent = `${sound.rate.toFixed(1)}×`;
  }

  function loop() {
    sound.looping = !sound.looping;
    find("loop").setAttribute("aria-pressed", sound.looping);
    if (sound.looping && sound.paused) sound.replay();
  }

  function jump(seconds) {
    sound.seek(sound.at + seconds);
  }

  // Play around the text's cursor while one types, else around where the sound is.
  function playAround() {
    const typing = document.activeElement === text;
    const part = text.selectionStart / Math.max(1, text.value.length);
    sound.around(typing ? timeAt(part, item.words, item.seconds) : sound.at, CURSOR_REACH);
  }

  // --- bounds

  function moved() {
    return bounds.start_ms !== item.start_ms || bounds.end_ms !== item.end_ms;
  }

  // Take other bounds, as far as there is sound and a segment may be long.
  function setBounds(start, end) {
    const [first, last] = [item.start_ms - item.context_before_ms, item.end_ms + item.context_after_ms];
    start = Math.max(first, Math.min(start, last - MIN_SEGMENT_MS));
    end = Math.min(last, Math.max(end, start + MIN_SEGMENT_MS), start + MAX_SEGMENT_MS);
    bounds = { start_ms: start, end_ms: end };
    const inSegment = [start, end].map((at) => (at - item.start_ms) / 1000);
    sound.setBounds(...inSegment);
    waveform.setBounds(...inSegment);
    for (const [index, edge] of [edges.start, edges.end].entries()) {
      edge.setAttribute("aria-valuemin", ((first - item.start_ms) / 1000).toFixed(2));
      edge.setAttribute("aria-valuemax", ((last - item.start_ms) / 1000).toFixed(2));
      edge.setAttribute("aria-valuenow", inSegment[index].toFixed(2));
      edge.setAttribute("aria-valuetext", `${inSegment[index].toFixed(2)} seconds`);
    }
    const by = [start - item.start_ms, end - item.end_ms].map((ms) => `${ms < 0 ? "−" : "+"}${Math.abs(ms)}`);
    find("bounds").textContent = moved() ? `start ${by[0]}, end ${by[1]} ms` : "";
  }

  function setBound(edge, ms) {
    if (edge === "start") setBounds(Math.min(ms, bounds.end_ms - MIN_SEGMENT_MS), bounds.end_ms);
    else setBounds(bounds.start_ms, Math.max(ms, bounds.start_ms + MIN_SEGMENT_MS));
    edited();
  }

  function drag(edge, seconds) {
    const steps = Math.round((seconds * 1000 + item.start_ms - bounds[`${edge}_ms`]) / NUDGE_MS);
    if (steps) setBound(edge, bounds[`${edge}_ms`] + steps * NUDGE_MS);
  }

  function nudge(edge, ms) {
    setBound(edge, bounds[`${edge}_ms`] + ms);
    playBound(edge);
  }

  function playBound(edge) {
    sound.around((bounds[`${edge}_ms`] - item.start_ms) / 1000, BOUND_REACH);
  }

  function putBoundsBack() {
    setBounds(item.start_ms, item.end_ms);
    edited();
  }

  // --- decisions

  function ready() {
    if (item === null || performance.now() - shownAt <= SETTLE_MS) return false;
    if (item.held_by) say(`${item.held_by} has this segment before them; skip it, or wait.`);
    return !item.held_by;
  }

  function save() {
    if (!ready()) return;
    const said = text.value.trim();
    const action = said === item.text.trim() ? "accept" : "correct";
    if (said) session.decide(action, said, { bounds: moved() ? bounds : {} });
    else say("There is no text. Type what is said, or reject the segment.");
  }

  // Settle what people disagree on as one of them has it.
  function choose(index) {
    const one = item.opinions[index];
    if (!one || !ready()) return;
    const action = one.after === null ? "reject" : one.after === item.text ? "accept" : "correct";
    const said = one.after ?? text.value; // what was typed beside a reject is kept if that is refused
    session.decide(action, said, { reason: one.reason, bounds: moved() ? bounds : {} });
  }

  function skip() {
    if (item?.held_by) session.pass();
    else if (ready()) session.decide("skip", text.value);
  }

  // Go on; what is decided already is not skipped.
  function next() {
    if (item && standing(item, session.info.reviewer)) session.pass();
    else skip();
  }

  // Cut where the sound is, and the text where its cursor is.
  function split() {
    if (!ready() || !wholeBounds()) return;
    const texts = [text.value.slice(0, text.selectionStart), text.value.slice(text.selectionStart)];
    if (texts.some((one) => !one.trim())) {
      say("To split, put the cursor into the text between two words, and stop the sound there.");
      return;
    }
    session.split(item.start_ms + Math.round(sound.at * 1000), texts.map((one) => one.trim()));
  }

  function merge() {
    if (!ready() || !wholeBounds()) return;
    if (text.value.trim() === item.text.trim()) session.merge();
    else say("The text has changes that joining would lose. Save them, or join first.");
  }

  // A split and a merge are of the segment as it was cut.
  function wholeBounds() {
    if (moved()) say("The bounds are moved. Save them first, or put them back with Y.");
    return !moved();
  }

  function askReason() {
    if (!ready()) return;
    const reasons = Object.entries(session.info.reasons);
    fill(find("reasons"), reasons, ([reason, said], index) => {
      const line = element("li");
      const choice = button(said, () => session.decide("reject", text.value, { reason }));
      if (index < 10) choice.append(" ", element("kbd", (index + 1) % 10));
      line.append(choice);
      return line;
    });
    rejecting.showModal();
  }

  function askFilter() {
    if (!session.store) return;
    const form = find("filters");
    find("only-conflicts").hidden = session.info.role === "reviewer";
    find("conflicts").textContent = session.conflicts.toLocaleString();
    for (const field of form.elements) {
      if (field.type === "checkbox") field.checked = field.name in session.filters;
      else if (field.name) field.value = session.filters[field.name] ?? "";
    }
    filtering.showModal();
  }

  function filter(event) {
    event.preventDefault();
    const wanted = [...new FormData(event.target)].map(([name, value]) => [name, value.trim()]);
    filtering.close();
    session.setFilters(Object.fromEntries(wanted.filter(([, value]) => value)));
  }

  // --- keys

  const keys = [
    { group: "Decide" },
    { code: "Mod+Enter", label: "Ctrl Enter", says: "accept, or save the correction", in: "both", run: save, once: true },
    { code: "KeyX", label: "X", says: "reject; a digit gives the reason", run: askReason, once: true },
    { code: "KeyS", label: "S", says: "skip; it comes again at the end", run: skip, once: true },
    { code: "KeyZ", label: "Z", says: "take the last decision back", run: () => session.undo(), once: true, always: true },
    { code: "KeyB", label: "B", says: "back to the segment before", run: () => session.previous(), once: true, always: true },
    { code: "KeyN", label: "N", says: "on to the next", run: next, once: true },
    { code: "KeyF", label: "F", says: "which segments come", run: askFilter, once: true, always: true },
    { code: "Digit1", label: "1", says: "where people disagree: settle it as the first has it", run: () => choose(0), once: true },
    { code: "Digit2", label: "2", says: "settle it as the second has it", run: () => choose(1), once: true },
    { group: "Bounds" },
    { code: "KeyU", label: "U", says: `start ${NUDGE_MS} ms earlier`, run: () => nudge("start", -NUDGE_MS) },
    { code: "KeyI", label: "I", says: `start ${NUDGE_MS} ms later`, run: () => nudge("start", NUDGE_MS) },
    { code: "KeyO", label: "O", says: `end ${NUDGE_MS} ms earlier`, run: () => nudge("end", -NUDGE_MS) },
    { code: "KeyP", label: "P", says: `end ${NUDGE_MS} ms later`, run: () => nudge("end", NUDGE_MS) },
    { code: "KeyY", label: "Y", says: "put the bounds back", run: putBoundsBack },
    { code: "KeyC", label: "C", says: "cut in two, at the sound's place and the cursor", run: split, once: true },
    { code: "KeyM", label: "M", says: "join with the next segment", run: merge, once: true },
    { group: "Listen" },
    { code: "Tab", label: "Tab", says: "play or pause, in the text", in: "text", run: () => sound.toggle() },
    { code: "Space", label: "Space", says: "play or pause, outside the text", in: "page", run: () => sound.toggle() },
    { code: "Shift+Tab", label: "Shift Tab", says: "two seconds back, in the text", in: "text", run: () => jump(-JUMP_SECONDS) },
    { code: "KeyJ", label: "J", says: "two seconds back, or ←", run: () => jump(-JUMP_SECONDS) },
    { code: "KeyK", label: "K", says: "two seconds on, or →", run: () => jump(JUMP_SECONDS) },
    { code: "ArrowLeft", in: "page", run: () => jump(-JUMP_SECONDS) },
    { code: "ArrowRight", in: "page", run: () => jump(JUMP_SECONDS) },
    { code: "KeyR", label: "R", says: "replay from the start", run: () => sound.replay() },
    { code: "KeyL", label: "L", says: "play again and again, or no longer", run: loop },
    { code: "KeyA", label: "A", says: "play around the cursor", run: playAround },
    { code: "BracketLeft", label: "[", says: "slower", run: () => setRate(sound.rate - SPEED_STEP) },
    { code: "BracketRight", label: "]", says: "faster", run: () => setRate(sound.rate + SPEED_STEP) },
    { group: "Text" },
    { code: "KeyE", label: "E", says: "edit the text", in: "page", run: () => text.focus() },
    { code: "Escape", label: "Esc", says: "leave the text", in: "text", run: () => wave.focus() },
    { code: "KeyH", label: "H", mark: "?", says: "this list, or ?", run: () => help.showModal(), once: true, always: true },
  ];

  function keydown(event) {
    if (root.offsetParent === null) return;
    if (rejecting.open) {
      const chosen = digit(event);
      if (chosen !== undefined) {
        event.preventDefault(); // the next text would get the digit
        find("reasons").querySelectorAll("button")[(chosen + 9) % 10]?.click();
      }
      return;
    }
    if (help.open || filtering.open) return;
    const { target } = event;
    const inText = target === text;
    if (!inText && target.closest("input, textarea, select, [contenteditable]")) return;
    if (event.code === "Space" && target.closest("button, a, summary")) return;
    const edge = Object.keys(edges).find((name) => edges[name] === target);
    const arrow = { ArrowLeft: -NUDGE_MS, ArrowRight: NUDGE_MS }[event.code];
    const key = edge && arrow ? { run: () => nudge(edge, arrow) } : pressed(keys, event, inText);
    if (!key || (item === null && !key.always)) return;
    event.preventDefault();
    event.stopPropagation();
    if (!(key.once && event.repeat)) key.run();
  }

  function showKeys() {
    const told = keys.filter((key) => key.group || key.says);
    fill(find("keys"), told, (key) => {
      if (key.group) return element("h3", key.group);
      const line = element("p");
      const label = element("span");
      label.append(...key.label.split(" ").map((part) => element("kbd", part)), key.in ? "" : "•");
      line.append(label, element("span", key.says));
      return line;
    });
  }

  // --- wiring

  const actions = {
    play: () => sound.toggle(),
    replay: () => sound.replay(),
    slower: () => setRate(sound.rate - SPEED_STEP),
    faster: () => setRate(sound.rate + SPEED_STEP),
    save,
    reject: askReason,
    skip,
    loop,
    undo: () => session.undo(),
    filter: askFilter,
    help: () => help.showModal(),
    look: () => session.look(),
    close: () => [rejecting, help, filtering].forEach((dialog) => dialog.close()),
  };
  root.addEventListener("click", (event) => {
    const name = event.target.closest("[data-do]")?.dataset.do;
    if (name) actions[name]();
  });
  text.addEventListener("input", edited);
  find("filters").addEventListener("submit", filter);
  find("filters").addEventListener("reset", (event) => {
    event.preventDefault(); // to empty, not to what was there when it was opened
    for (const field of event.target.elements) field.type === "checkbox" ? (field.checked = false) : (field.value = "");
  });
  for (const edge of Object.values(edges)) edge.addEventListener("dblclick", putBoundsBack);
  document.addEventListener("keydown", keydown, true);
  // Another tab of the page is open: what is heard belongs to this one.
  new IntersectionObserver((seen) => seen.at(-1).isIntersecting || sound.pause()).observe(root);
  showKeys();
  show(null);
  session.run();
}

// Where a keyboard would cover half of the screen, the text does not take the focus by itself.
function onPhone() {
  return matchMedia("(pointer: coarse)").matches;
}
