// How the text of a language is written.

const RIGHT_TO_LEFT = new Set(
  "Adlm Arab Aran Hebr Mand Mani Mend Nkoo Phnx Rohg Samr Syrc Thaa Yezi".split(" "),
);

// "rtl" for a language that is known to be, so that a text which begins with a foreign name is laid
// out right too; for every other the text itself decides.
export function direction(language) {
  try {
    return RIGHT_TO_LEFT.has(new Intl.Locale(language).maximize().script) ? "rtl" : "auto";
  } catch {
    return "auto"; // no language that is known
  }
}

// Lay a text out as its language is.
export function write(element, text, language) {
  element.textContent = text;
  element.lang = language;
  element.dir = direction(language);
  return element;
}

// Marks that turn the direction of what follows: unseen, they make a text read as what it is not.
export function hasHiddenMarks(text) {
  return /[\u202a-\u202e\u2066-\u2069]/.test(text);
}
