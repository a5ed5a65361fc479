// Texts that the server refused, because somebody else was first: both are shown, none is lost.

import { parts } from "./diff.js";
import { button, element, fill } from "./dom.js";

// `open(one)` shows the segment as it is now with the refused text in it, `dismiss(one)` is done.
export function showKept(box, kept, { open, dismiss }) {
  box.hidden = kept.length === 0;
  fill(box, kept, (one) => {
    const line = element("div");
    const theirs = one.theirs;
    line.append(element("p", `Not saved (${one.action}): ${one.why}. Your text is kept here:`));
    const typed = element("textarea", one.text ?? "", { rows: 2, dir: "auto", "aria-label": "The text that was not saved" });
    typed.readOnly = true;
    line.append(typed);
    if (theirs?.after) {
      const said = element("p", "", { class: "review-theirs", dir: "auto" });
      said.append(element("b", `${theirs.reviewer}: `));
      for (const [part, differs] of parts(theirs.after, one.text ?? "")) {
        said.append(differs ? element("mark", part) : part);
      }
      line.append(said);
    } else if (theirs) {
      line.append(element("p", `${theirs.reviewer}: ${theirs.action}`));
    }
    line.append(button("Open the segment", () => open(one)), button("Dismiss", () => dismiss(one)));
    return line;
  });
}
