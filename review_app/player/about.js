// What is told around the text: where the segment is from, why it is here, what is said before and
// after, what others have for it, and what was decided on it.

import { parts } from "./diff.js";
import { button, element, fill } from "./dom.js";
import { asNumbers, inWords } from "./scores.js";
import { hasHiddenMarks, write } from "./script.js";

export function showTitle(link, item) {
  link.textContent = item.title;
  link.removeAttribute("href");
  if (/^https?:\/\//i.test(item.url ?? "")) link.href = item.url;
}

export function showTags(list, item) {
  const about = [item.language, `${item.seconds.toFixed(1)} s`, item.licence, item.kind];
  if (item.double) about.push("two people decide");
  if (hasHiddenMarks(item.text)) about.push("has hidden direction marks");
  const why = item.reasons_in_words;
  const tags = [
    ...about.filter(Boolean).map((text) => [text, "about"]),
    ...why.map((text) => [text, "why"]),
    ...inWords(item.scores).map((text) => [text, "score"]),
  ];
  fill(list, tags, ([text, kind]) => element("li", text, { "data-kind": kind, dir: "auto" }));
  list.title = asNumbers(item.scores);
}

export function showNear(line, text, language) {
  line.hidden = !text;
  write(line.querySelector("span"), text ?? "", language);
}

// The other transcripts, with what the text lacks marked; `use(text)` takes one over.
export function showOthers(list, item, text, use) {
  fill(list, item.others, (other) => {
    const said = write(element("span"), "", item.language);
    for (const [part, differs] of parts(other.text, text, item.language)) {
      said.append(differs ? element("mark", part) : part);
    }
    const name = other.kind === "review" ? other.origin : other.kind;
    const take = button("Use", () => use(other.text));
    take.setAttribute("aria-label", `Use the ${other.kind} transcript`);
    const line = element("li");
    line.append(element("b", name, { title: other.origin, dir: "auto" }), said, take);
    return line;
  });
}

const FINAL = ["accept", "correct", "reject"];
export const DID = { accept: "accepted", correct: "corrected", reject: "rejected", skip: "skipped" };

// The decision of `reviewer` that holds, or undefined.
export function standing(item, reviewer) {
  return item.history.find((one) => one.reviewer === reviewer && FINAL.includes(one.action) && !one.undone);
}

// What was decided, newest first; `again(id)` makes an earlier decision hold again.
export function showHistory(list, item, again) {
  fill(list, [...item.history].reverse(), (made) => {
    const line = element("li");
    const when = new Date(made.made_at).toLocaleString();
    const why = made.reason ? ` (${made.reason.replaceAll("_", " ")})` : "";
    const settled = made.adjudicates ? "settled it: " : "";
    line.append(element("b", `${made.reviewer} ${settled}${DID[made.action] ?? made.action}${why}`, { title: when }));
    line.append(write(element("span"), made.after ?? "", item.language));
    line.toggleAttribute("data-undone", made.undone);
    if (made.undone && FINAL.includes(made.action)) {
      line.append(button("Let it hold again", () => again(made.id)));
    }
    return line;
  });
}
