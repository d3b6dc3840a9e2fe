// What draws a picture again: prompt, seed, model and weights. Seeds are texts of whole numbers
// below 2^64, which JavaScript's numbers cannot hold.

const SEEDS = 2n ** 64n;
const DIGITS = /^\d{1,20}$/;
export const COUNTS = [1, 4, 9, 16];

/** A seed below 2^32. */
export function newSeed() {
  return String(crypto.getRandomValues(new Uint32Array(1))[0]);
}

export function isSeed(text) {
  return DIGITS.test(text) && BigInt(text) < SEEDS;
}

/** The seed `by` further on, or the same where there is none. */
export function stepSeed(text, by) {
  if (!isSeed(text)) return "0";
  const next = BigInt(text) + BigInt(by);
  return next >= 0n && next + BigInt(Math.abs(by)) <= SEEDS ? String(next) : text;
}

/** Write everything that a link needs to show the same; empty parts are left out. */
export function toLink({ prompt, seed, model, weights, count, against }) {
  const parts = { prompt, seed, model, weights: weights.slice(0, 16), against };
  if (count > 1) parts.count = String(count);
  return String(new URLSearchParams(Object.entries(parts).filter(([, value]) => value)));
}

/**
 * Read a link's part after #; null where it is empty.
 *
 * What makes no sense is replaced, and told in `problems`.
 */
export function fromLink(text, models) {
  const given = new URLSearchParams(text);
  const problems = [];
  if (![...given.keys()].length) return null;
  const read = (name, fits, otherwise, problem) => {
    const value = given.get(name);
    if (value === null || fits(value)) return value ?? otherwise;
    problems.push(problem(value.length > 40 ? `${value.slice(0, 40)}...` : value));
    return otherwise;
  };
  const served = (name) => models.some((model) => model.name === name);
  const recipe = {
    prompt: read("prompt", (v) => v.trim() !== "", null, () => "it has no prompt"),
    seed: read("seed", isSeed, "0", (v) => `“${v}” is no seed`),
    model: read("model", served, models[0].name, (v) => `there is no model “${v}” here`),
    against: read("against", served, "", (v) => `there is no model “${v}” here to compare with`),
    count: Number(
      read("count", (v) => COUNTS.map(String).includes(v), "1", (v) => `“${v}” is no number of seeds`),
    ),
  };
  if (!given.has("prompt")) problems.push("it has no prompt");
  const weights = given.get("weights");
  const model = models.find((one) => one.name === recipe.model);
  if (weights && !problems.length && !model.weights.startsWith(weights))
    problems.push(`${recipe.model} had other weights then, so the picture may differ`);
  return { recipe, problems };
}

/** Name the file of a picture by its prompt and seed: red-apple-7.png. */
export function fileName(prompt, { seed, format }) {
  const words = prompt.toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 40);
  return `${words.replace(/^-+|-+$/g, "") || "picture"}-${seed}.${format}`;
}
