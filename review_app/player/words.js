// The words that the model heard: how sure it is of each, which one sounds now, and a way to it.

import { element } from "./dom.js";
import { direction } from "./script.js";

const DOUBTFUL = 0.5; // probability
const SURE = 0.8;

export class Words {
  constructor(line, seek) {
    this.line = line;
    this.words = [];
    line.addEventListener("mousedown", (event) => event.preventDefault()); // the text keeps the focus
    line.addEventListener("click", (event) => {
      const at = event.target.closest("[data-at]")?.dataset.at;
      if (at !== undefined) seek(Number(at));
    });
  }

  // Show other words: [start, end, word, probability], seconds from the start of the segment.
  load(words, language) {
    this.line.lang = language;
    this.line.dir = direction(language);
    this.line.hidden = words.length === 0;
    this.words = words.map(([start, end, word, probability]) => {
      const made = element("button", word, { type: "button" });
      made.tabIndex = -1; // dozens of stops on the way to the text; the keyboard has its own ways
      made.dataset.at = start;
      made.dataset.sure = probability < DOUBTFUL ? "no" : probability < SURE ? "half" : "yes";
      made.title = `${start.toFixed(1)} s, ${Math.round(100 * probability)} % sure`;
      return { start, end, made };
    });
    this.line.replaceChildren(...this.words.flatMap(({ made }) => [made, " "]));
    this.line.scrollTop = 0;
  }

  moveTo(seconds) {
    for (const { start, end, made } of this.words) {
      made.toggleAttribute("data-now", start <= seconds && seconds < end);
    }
  }
}
