// Scores in words.

const percent = (part) => `${Math.round(100 * part)} %`;

const SAYS = {
  avg_logprob: (value) => `the model is ${percent(Math.exp(Math.min(0, value)))} sure`,
  no_speech_prob: (value) => value >= 0.3 && `${percent(value)} likely no speech`,
  language_prob: (value) => value < 0.9 && `${percent(value)} sure of the language`,
  compression_ratio: (value) => value > 2.2 && "repeats itself",
  chars_per_second: (value) => `${value.toFixed(0)} letters a second`,
  cer: (value) => (value ? `subtitle and model differ in ${percent(value)} of the letters` : "subtitle and model agree"),
  agreement: (value) => (value ? `two models differ in ${percent(value)} of the letters` : "two models hear the same"),
  align_prob_median: (value) => value < 0.5 && "words lie badly on the sound",
};

// What is worth telling; a score that has no words here is left to the mouse's tip.
export function inWords(scores) {
  return Object.entries(SAYS).flatMap(([name, say]) => {
    const told = Number.isFinite(scores[name]) && say(scores[name]);
    return told ? [told] : [];
  });
}

export function asNumbers(scores) {
  return Object.entries(scores).map(([name, value]) => `${name} ${Number(value.toFixed(3))}`).join("\n");
}
