// Which words of one text are not in another, in their order.

// The pieces of a text, spaces and punctuation included; together they are the text.
function pieces(text, language) {
  let segmenter;
  try {
    segmenter = new Intl.Segmenter(language, { granularity: "word" });
  } catch {
    segmenter = new Intl.Segmenter(undefined, { granularity: "word" }); // no language that is known
  }
  return [...segmenter.segment(text)].map((one) => one.segment);
}

// The parts of `text` as [part, is it missing in `other`], by a longest common subsequence.
export function parts(text, other, language) {
  const [mine, theirs] = [pieces(text, language), pieces(other, language)];
  const longest = Array.from({ length: mine.length + 1 }, () => new Uint16Array(theirs.length + 1));
  for (let i = mine.length - 1; i >= 0; i--) {
    for (let j = theirs.length - 1; j >= 0; j--) {
      longest[i][j] = mine[i] === theirs[j]
        ? longest[i + 1][j + 1] + 1
        : Math.max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  const found = [];
  const add = (part, missing) => {
    const last = found.at(-1);
    if (last && last[1] === missing) last[0] += part;
    else found.push([part, missing]);
  };
  let j = 0;
  for (let i = 0; i < mine.length; i++) {
    while (j < theirs.length && mine[i] !== theirs[j] && longest[i][j + 1] >= longest[i + 1][j]) j++;
    const same = j < theirs.length && mine[i] === theirs[j];
    add(mine[i], !same && mine[i].trim() !== "");
    if (same) j++;
  }
  return found;
}
