// What is chosen and not typed: model, comparison, number of seeds, examples and styles.

import * as chips from "./chips.js";
import { COUNTS } from "./recipe.js";

export class Choices {
  #find;
  #models;
  #onChange;
  #wanted;

  /** Offer the models' choices in `root`; `onChange(changes)` is called for each. */
  constructor(root, models, onChange) {
    this.#find = (selector) => root.querySelector(selector);
    this.#models = models;
    this.#onChange = onChange;
    const several = models.length > 1;
    this.#find(".model").hidden = this.#find(".against").hidden = !several;
    this.#find(".only").hidden = several;
    this.#find(".only").textContent = models[0].name;
    const names = models.map(({ name }) => new Option(name));
    const nothing = new Option("nothing", "");
    this.#offer("model", names);
    this.#offer("against", [nothing, ...names.map((option) => option.cloneNode(true))]);
    this.#find(".choices").replaceChildren(...COUNTS.map((count) => this.#countChoice(count)));
  }

  /** Show what is asked for now. */
  show(wanted) {
    const before = this.#wanted;
    this.#wanted = wanted;
    const { prompt, model, count, against } = wanted;
    if (model !== before?.model) this.#showModel();
    this.#find("#model").value = model;
    for (const option of this.#find("#against").options) option.disabled = option.value === model;
    this.#find("#against").value = against;
    for (const radio of this.#find(".choices").querySelectorAll("input"))
      radio.checked = Number(radio.value) === count;
    chips.mark(this.#find(".styles"), chips.split(prompt, this.#model.styles)[1]);
  }

  get #model() {
    return this.#models.find(({ name }) => name === this.#wanted.model);
  }

  #offer(field, options) {
    const select = this.#find(`#${field}`);
    select.replaceChildren(...options);
    select.addEventListener("change", () => this.#onChange({ [field]: select.value }));
  }

  #countChoice(count) {
    const label = document.createElement("label");
    const radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "count", value: count });
    radio.addEventListener("change", () => this.#onChange({ count, against: "" }));
    const text = document.createElement("span");
    text.textContent = count;
    label.append(radio, text);
    return label;
  }

  #showModel() {
    const { examples, styles, limits } = this.#model;
    chips.fill(this.#find(".examples"), examples, (text) => this.#pick(text, null));
    chips.fill(this.#find(".styles"), styles, (style) => this.#pick(null, style));
    this.#find(".limits").textContent =
      limits || "It draws what it was distilled on, in one step, and no better than its teacher.";
    this.describe();
  }

  /** Say what draws. */
  describe() {
    const { name, engine, weights, image_size: size } = this.#model;
    const [height, width] = size;
    this.#find(".facts").textContent =
      `${name}: ${width}×${height} pixels, weights ${weights.slice(0, 12)}, drawn by ${engine}.`;
  }

  /** Take an example with the style that is there, or a style, which is taken back the second time. */
  #pick(example, chosen) {
    const [subject, style] = chips.split(this.#wanted.prompt, this.#model.styles);
    const ends = chosen === null ? style : chosen === style ? "" : chosen;
    this.#onChange({ prompt: chips.join(example ?? subject, ends) });
  }
}
