// What people have decided on a segment and differ: side by side, for an adjudicator to choose from.

import { parts } from "./diff.js";
import { button, element, fill } from "./dom.js";
import { write } from "./script.js";

// `choose(index)` settles it as that person has it, `use(text)` takes their text over to change it.
export function showOpinions(box, item, reasons, { choose, use }) {
  const made = item.opinions;
  box.hidden = made.length === 0;
  fill(box.querySelector("ul"), made, (one, index) => {
    const line = element("li");
    const said = write(element("p"), "", item.language);
    const other = made[(index + 1) % made.length];
    for (const [part, differs] of parts(one.after ?? "", other.after ?? "", item.language)) {
      said.append(differs ? element("mark", part) : part);
    }
    if (one.after === null) said.append(element("em", `Rejects it: ${reasons[one.reason] ?? one.reason}`));
    const take = button("Settle it so", () => choose(index));
    take.append(" ", element("kbd", index + 1, { class: "review-page-key" }));
    line.append(element("b", one.reviewer, { dir: "auto" }), said, take);
    if (one.after !== null) line.append(button("Use", () => use(one.after)));
    return line;
  });
}
