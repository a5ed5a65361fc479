// Keys, by their place on the keyboard (`event.code`), so that they work in every layout.
//
// In the text a letter is a letter. There, Alt+Shift and the same key do what the key alone does
// outside: Ctrl and Ctrl+Shift belong to the browser and to editing, Ctrl+Alt is AltGr and types
// characters, Alt alone opens menus and types characters on a Mac. Whose system switches layouts
// with Alt+Shift has Esc, which leaves the text, and then the key alone. Tab, Esc and Ctrl+Enter mean
// nothing else in a text; while an input method composes, every key is its own.

// The key that was pressed, or undefined. A key has `code`, where it works (`in`: "text", "page",
// "both"; without, outside the text alone and in it with Alt+Shift), `says` and `run`.
export function pressed(keys, event, inText) {
  if (event.isComposing || event.keyCode === 229 || event.getModifierState("AltGraph")) return undefined;
  const control = event.ctrlKey || event.metaKey;
  const code = event.code.replace("Numpad", "");
  if (event.altKey) {
    return event.shiftKey && !control ? keys.find((one) => !one.in && one.code === code) : undefined;
  }
  const place = inText ? "text" : "page";
  if (!inText && event.key === "?") return keys.find((one) => one.mark === "?");
  const full = (control ? "Mod+" : "") + (event.shiftKey ? "Shift+" : "") + code;
  return keys.find((one) => {
    const here = one.in === "both" || one.in === place || (!one.in && !inText);
    return here && one.code === full;
  });
}

// The digit that was pressed, or undefined.
export function digit(event) {
  const found = /^(?:Digit|Numpad)([0-9])$/.exec(event.code);
  return found ? Number(found[1]) : undefined;
}
