// The list of all segments: filters, pages, and the sound of each row. Works on any element that
// holds browse.html. Texts reach the page through textContent only.

import { DID } from "./about.js";
import { call } from "./api.js";
import { button, element, fill } from "./dom.js";
import { hasHiddenMarks, write } from "./script.js";

const WHEN = { dateStyle: "medium", timeStyle: "short" };
const TYPING_MS = 250; // a pause so long, and what was typed is searched for

export function mount(root) {
  const find = (name) => root.querySelector(`.js-${name}`);
  const [form, rows, count, back, on] = ["filters", "rows", "count", "back", "on"].map(find);
  const audio = new Audio();
  let page = 1;
  let asked = 0; // an answer that comes late is passed over
  let timer = null;
  let playing = null; // the row whose sound there is

  function wish() {
    const { order, ...filters } = Object.fromEntries(new FormData(form));
    const [sort, way] = order.split(" ");
    const wanted = Object.entries(filters).filter(([, value]) => value.trim());
    return new URLSearchParams([...wanted, ["sort", sort], ["descending", way === "desc"], ["page", page]]);
  }

  async function load() {
    const mine = ++asked;
    try {
      const found = await call(`/api/v1/browse?${wish()}`);
      if (mine === asked) show(found);
    } catch (error) {
      if (mine === asked) count.textContent = `The list cannot be loaded: ${error.message}.`;
    }
  }

  function show({ rows: found, total, page_rows }) {
    const last = Math.max(1, Math.ceil(total / page_rows));
    count.textContent = total === 1 ? "1 segment" : `${total.toLocaleString()} segments`;
    find("page").textContent = `${page.toLocaleString()} of ${last.toLocaleString()}`;
    back.disabled = page === 1;
    on.disabled = page >= last;
    stop();
    fill(rows, found, line);
    reach(rows.firstElementChild);
  }

  function line(row) {
    const made = element("tr", "", { role: "row" });
    const cell = (name, ...content) => {
      const box = element("td", "", { role: "cell", class: `browse-${name}` });
      box.append(...content);
      made.append(box);
    };
    const play = button("▶", () => toggle(made, row));
    play.setAttribute("aria-label", `Play: ${row.text || row.title}`);
    play.setAttribute("aria-pressed", false);
    const text = write(element("p"), row.text, row.language);
    const about = element("p", row.title, { class: "browse-about", dir: "auto" });
    if (hasHiddenMarks(row.text)) about.append(" · has hidden direction marks");
    const open = element("a", "Review", { href: `#segment=${encodeURIComponent(row.segment_id)}` });
    open.addEventListener("click", toReview);
    cell("play", play);
    cell("text", text, about);
    cell("number", `${row.seconds.toFixed(1)} s`);
    cell("number browse-sure", row.logprob === null ? "" : percent(Math.exp(Math.min(0, row.logprob))));
    cell("number browse-cer", row.cer === null ? "" : percent(row.cer));
    cell("verdict", row.verdict ?? "");
    cell("decision", ...decided(row.decision));
    cell("open", open);
    return made;
  }

  // --- sound

  function toggle(row, { audio: address }) {
    if (playing === row && !audio.paused) {
      audio.pause();
      return;
    }
    if (playing !== row) {
      stop();
      playing = row;
      audio.src = address;
    }
    audio.play().catch((error) => {
      if (error.name !== "AbortError") count.textContent = "The sound of this segment cannot be played.";
    });
  }

  function stop() {
    audio.pause();
    mark();
    playing = null;
  }

  function mark() {
    if (!playing) return;
    const sounds = !audio.paused && !audio.ended;
    playing.toggleAttribute("data-now", sounds);
    const play = playing.querySelector("button");
    play.textContent = sounds ? "❚❚" : "▶";
    play.setAttribute("aria-pressed", sounds);
  }

  // --- keys: one row is in the order of Tab, arrows go to others

  function reach(row) {
    for (const one of rows.querySelectorAll("button, a")) one.tabIndex = row?.contains(one) ? 0 : -1;
  }

  function keydown(event) {
    const row = event.target.closest("tr");
    const others = {
      ArrowDown: row.nextElementSibling,
      ArrowUp: row.previousElementSibling,
      Home: rows.firstElementChild,
      End: rows.lastElementChild,
    };
    if (!(event.key in others) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    others[event.key]?.querySelector(event.target.localName)?.focus();
  }

  // --- wiring

  function changed() {
    page = 1;
    clearTimeout(timer);
    timer = setTimeout(load, TYPING_MS);
  }

  function turn(pages) {
    page += pages;
    load().then(() => root.scrollIntoView());
  }

  for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, mark);
  form.addEventListener("input", changed);
  form.addEventListener("reset", () => setTimeout(changed)); // once the fields are empty
  form.addEventListener("submit", (event) => event.preventDefault());
  back.addEventListener("click", () => turn(-1));
  on.addEventListener("click", () => turn(1));
  rows.addEventListener("keydown", keydown);
  rows.addEventListener("focusin", (event) => reach(event.target.closest("tr")));
  // Others decide meanwhile: each time the tab is opened the page is a new one.
  new IntersectionObserver((seen) => {
    if (!seen.at(-1).isIntersecting) {
      stop();
      return;
    }
    load();
    call("/api/v1/browse/choices").then(offer, () => {});
  }).observe(root);
}

function offer(choices) {
  for (const [name, values] of Object.entries(choices)) {
    fill(document.getElementById(`browse-${name}`), values, (value) => element("option", "", { value }));
  }
}

function decided(made) {
  if (!made) return [];
  const why = made.reason ? ` (${made.reason.replaceAll("_", " ")})` : "";
  const who = element("p", `${made.reviewer} ${DID[made.action]}${why}`, { dir: "auto" });
  return [who, element("p", new Date(made.made_at).toLocaleString(undefined, WHEN), { class: "browse-about" })];
}

// The link tells the review screen which segment; that is on the first tab.
function toReview() {
  document.querySelector("[role=tab]").click();
}

function percent(part) {
  return `${Math.round(100 * part)} %`;
}
