// The page: what is asked for, who changes it, and what is shown of the answer.

import { Badge } from "./badge.js";
import { Choices } from "./choices.js";
import { readRecipe, takeFiles } from "./files.js";
import { History } from "./history.js";
import { Newest } from "./newest.js";
import { Stage } from "./picture.js";
import { fileName, fromLink, newSeed, stepSeed, toLink } from "./recipe.js";
import { call, Refused } from "./service.js";

const TAB = crypto.getRandomValues(new Uint32Array(4)).join("-"); // whose calls replace each other
const SETTLED_MS = 700; // a picture is in the link and the history when it was kept this long
const LONGEST_RETRY_MS = 5000;
// Twice the service's longest prompt, because characters may take two places here: what is longer
// is refused there in a sentence, without sending all of a novel.
const LONGEST_SENT = 4001;

/** Bring the page in `root` to life for the models that are served. */
export function start(root, models) {
  const page = new Page(root.querySelector(".sidestep"), models);
  page.open();
}

class Page {
  #root;
  #models;
  #wanted = { prompt: "red apple", seed: "0", model: "", count: 1, against: "" };
  #shown = null; // the recipe of the pictures on the screen
  #answered = null; // what was wanted when they were asked for
  #explain = null; // says why the picture may not be what was asked for
  #stage;
  #badge;
  #history;
  #choices;
  #newest = new Newest(
    (edited, isNewest) => this.#draw(edited, isNewest),
    (busy) => this.#find("#picture").setAttribute("aria-busy", busy),
  );
  #settling = 0;
  #reading = null; // the file that was opened last
  #retrying = 0;
  #retryMs = 0; // what was waited last, while the service is out of reach

  constructor(root, models) {
    this.#root = root;
    this.#models = models;
    this.#stage = new Stage(this.#find("#picture"), (seed) => this.#keep(seed));
    this.#badge = new Badge(this.#find(".badge"), this.#find(".spoken"));
    this.#history = new History(this.#find(".history"), (recipe) => this.#restore(recipe));
    this.#choices = new Choices(root, models, (changes) =>
      "prompt" in changes ? this.#typed(changes.prompt) : this.#change(changes),
    );
    this.#listen();
  }

  /** Show the link's picture, or the model's first example. */
  open() {
    const model = this.#models[0];
    const first = { prompt: model.examples[0] ?? "red apple", seed: "0", model: model.name };
    this.#follow(location.hash, { ...first, count: 1, against: "" });
    this.#root.style.visibility = "";
    const prompt = this.#find("#prompt");
    prompt.focus({ preventScroll: true });
    if (!location.hash) prompt.select(); // the first key begins a prompt of one's own
  }

  /** Change what is asked for, in the controls too, and draw it. */
  #change(changes, edited = performance.now()) {
    const before = this.#wanted;
    this.#wanted = { ...before, ...changes };
    const { prompt, seed, model, against } = this.#wanted;
    if (model === against) this.#wanted.against = "";
    if (this.#wanted.against) this.#wanted.count = 1;
    this.#write("#prompt", prompt);
    this.#write("#seed", seed);
    if (model !== before.model) this.#stage.fit(this.#model(model).image_size);
    this.#choices.show(this.#wanted);
    this.#note(null);
    this.#find(".address").hidden = true; // its link is of another picture
    clearTimeout(this.#settling);
    clearTimeout(this.#retrying);
    this.#newest.edit(edited);
  }

  async #draw(edited, isNewest) {
    const wanted = this.#wanted;
    const { prompt, seed, count, model, against } = wanted;
    const sides = against ? [model, against] : [];
    const drawn = (name, i) => call("draw", prompt.slice(0, LONGEST_SENT), seed, count, name, `${TAB}-${i}`);
    const sent = performance.now();
    try {
      const answers = await Promise.all((against ? sides : [model]).map(drawn));
      const received = performance.now();
      const pictures = answers.flatMap((answer) => answer.pictures);
      const images = await this.#stage.decode(pictures, prompt, sides);
      if (!isNewest()) return;
      (against ? sides : [model]).forEach((name, i) => this.#learn(name, answers[i].pictures[0]));
      this.#show(wanted, pictures);
      await this.#stage.show(images, pictures, sides);
      const text = `${prompt}, seed ${pictures[0].seed}`;
      this.#badge.show(pictures, { edited, sent, received, shown: performance.now() }, text);
    } catch (error) {
      if (isNewest()) this.#refuse(error, edited);
    }
  }

  /** Tell all that is not pixels of the pictures that are about to be seen. */
  #show(wanted, pictures) {
    const [first] = pictures;
    this.#shown = { ...wanted, seed: first.seed, weights: this.#model(wanted.model).weights };
    clearTimeout(this.#retrying); // of an older edit, which an answer has come before
    this.#retryMs = 0;
    this.#say("error", "");
    this.#say("cut", first.dropped && `The prompt is too long; left out: ${first.dropped}`);
    const link = this.#find("#download");
    link.hidden = wanted.count > 1;
    link.textContent = `Download ${first.format.toUpperCase()}`;
    link.download = fileName(wanted.prompt, first);
    this.#answered = wanted;
    // Who has typed on meanwhile does not stay with it.
    if (wanted === this.#wanted) this.#settling = setTimeout(() => this.#settle(), SETTLED_MS);
  }

  /** Take a picture's word for what draws now: its model may have been opened anew since. */
  #learn(name, { weights, engine }) {
    const model = this.#model(name);
    if (!weights || (weights === model.weights && engine === model.engine)) return;
    Object.assign(model, { weights, engine });
    this.#choices.describe();
    this.#note(this.#explain);
  }

  #refuse(error, edited) {
    if (!(error instanceof Refused)) {
      console.error(error);
      error = new Refused("This browser cannot show the answer; its console says why.", "broken");
    }
    // Calls may overtake each other on their way: then an older one has replaced the newest.
    if (error.code === "superseded") return this.#newest.edit(edited);
    this.#stage.age();
    const again = error.code === "unreachable" ? " Trying again until it answers." : "";
    this.#say("error", error.message + again);
    if (error.retryMs === null) return;
    this.#retryMs = Math.max(error.retryMs, Math.min(2 * this.#retryMs, LONGEST_RETRY_MS));
    clearTimeout(this.#retrying);
    this.#retrying = setTimeout(() => this.#newest.edit(), this.#retryMs);
  }

  /** Write a picture that somebody stays with into the address and the history. */
  #settle() {
    clearTimeout(this.#settling);
    if (this.#shown === null) return;
    this.#history.add(this.#shown);
    try {
      history.replaceState(history.state, "", `#${toLink(this.#shown)}`);
    } catch {
      // a browser that allows few changes in a short time; the next one will do
    }
  }

  /** Settle the picture of the last edit; one of an earlier edit is about to be replaced. */
  #settleNewest() {
    if (this.#answered === this.#wanted) this.#settle();
  }

  /** Show what a link asks for, and say what of it makes no sense. */
  #follow(hash, otherwise = {}) {
    const read = () => fromLink(hash.slice(1), this.#models) ?? { recipe: {}, problems: [] };
    const { recipe } = read();
    if (recipe.prompt === null) delete recipe.prompt;
    this.#change({ ...otherwise, ...recipe });
    this.#note(() => {
      const { problems } = read();
      return problems.length ? `About this link: ${problems.join("; ")}.` : "";
    });
  }

  async #readFile(file) {
    this.#reading = file;
    try {
      const recipe = await readRecipe(file);
      if (this.#reading === file) this.#restore(recipe);
    } catch (error) {
      if (this.#reading !== file) return;
      this.#say("note", error instanceof Refused ? error.message : "The file cannot be read.");
    }
  }

  /** Show one picture by its recipe, with the model of the same weights where that is served. */
  #restore(recipe) {
    const { prompt, seed, model, weights } = recipe;
    const same = this.#models.find((one) => one.weights === weights && one.name === model);
    const alike = same ?? this.#models.find((one) => one.weights === weights);
    const known = alike ?? this.#models.find((one) => one.name === model);
    this.#change({ prompt, seed, count: 1, against: "", ...(known && { model: known.name }) });
    this.#note(() => this.#difference(recipe));
  }

  /** Say why the picture may not be the recipe's; the history has no engine. */
  #difference({ model, weights, engine }) {
    const same = this.#models.find((one) => one.weights === weights);
    if (!same) return `The recipe is of ${model} with other weights, so the picture will differ.`;
    if (engine !== undefined && same.engine !== engine)
      return `The picture was drawn by ${engine}, here it is ${same.engine}: last digits may differ.`;
    return "";
  }

  /** Keep one seed of a grid. */
  #keep(seed) {
    this.#change({ seed, count: 1 });
    this.#stage.focus();
  }

  #step(direction) {
    this.#change({ seed: stepSeed(this.#wanted.seed.trim(), direction * this.#wanted.count) });
  }

  async #copyLink() {
    this.#settle();
    // Not the address itself, which the browser may have refused to change.
    const { href } = new URL(this.#shown ? `#${toLink(this.#shown)}` : location.hash, location);
    const address = this.#find(".address");
    try {
      await navigator.clipboard.writeText(href);
      this.#say("note", "The link is copied: whoever opens it sees this picture.");
      address.hidden = true;
    } catch {
      // no clipboard without https: the link is there to be copied by hand
      address.hidden = false;
      const field = address.firstElementChild;
      field.value = href;
      field.focus();
      field.select();
    }
  }

  #listen() {
    const prompt = this.#find("#prompt");
    prompt.addEventListener("input", (event) => this.#typed(prompt.value, event.timeStamp));
    const seed = this.#find("#seed");
    seed.addEventListener("input", (event) => this.#change({ seed: seed.value }, event.timeStamp));
    for (const field of [prompt, seed]) field.addEventListener("keydown", (key) => this.#press(key));
    const actions = {
      previous: () => this.#step(-1),
      next: () => this.#step(1),
      dice: () => this.#change({ seed: newSeed() }),
      link: () => this.#copyLink(),
    };
    for (const [name, act] of Object.entries(actions))
      this.#find(`[data-do=${name}]`).addEventListener("click", act);
    this.#find("#download").addEventListener("click", (event) => {
      event.currentTarget.href = this.#stage.source; // the picture's own bytes
      this.#settle();
    });
    addEventListener("hashchange", () => this.#follow(location.hash));
    const shade = this.#find(".drop");
    takeFiles(this.#find(".open input"), shade, (file) => this.#readFile(file));
  }

  #typed(prompt, edited) {
    const fresh = !this.#find("#keep").checked && { seed: newSeed() };
    this.#change({ prompt, ...fresh }, edited);
  }

  /** Keys in the prompt and the seed, where up and down have no other meaning. */
  #press(event) {
    if (event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
    const acts = {
      ArrowUp: () => this.#step(1),
      ArrowDown: () => this.#step(-1),
      Enter: () => (event.shiftKey ? this.#change({ seed: newSeed() }) : this.#settleNewest()),
    };
    if (!(event.key in acts)) return;
    event.preventDefault();
    acts[event.key]();
  }

  /** Note what `explain()` says, now and when it is learned what draws; null: nothing. */
  #note(explain) {
    this.#explain = explain;
    this.#say("note", explain?.());
  }

  /** Show a sentence as an "error", what was "cut", or a "note"; an empty one hides it. */
  #say(kind, sentence) {
    const message = this.#find(`.message.${kind}`);
    if (message.textContent !== (sentence || "")) message.textContent = sentence || "";
    message.hidden = !sentence;
  }

  #write(selector, text) {
    const field = this.#find(selector);
    if (field.value !== text) field.value = text;
  }

  #model(name) {
    return this.#models.find((model) => model.name === name);
  }

  #find(selector) {
    return this.#root.querySelector(selector);
  }
}
