// Where the text's cursor is in time.

// `part` of the text is before the cursor. Words that were heard are passed over in the same share
// of their letters; without them the text is taken to be spoken evenly.
export function timeAt(part, words, seconds) {
  const letters = words.reduce((sum, [, , word]) => sum + word.length, 0);
  let left = part * letters;
  for (const [start, end, word] of words) {
    if (left <= word.length) return start + (end - start) * (left / Math.max(1, word.length));
    left -= word.length;
  }
  return part * seconds;
}
