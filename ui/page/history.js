// Recipes of pictures that somebody stayed with, in this browser alone; recipes, not pixels.

import { isSeed } from "./recipe.js";

const KEY = "sidestep.history";
const MOST = 100;

export class History {
  #details;
  #onPick;
  #list = [];
  #rendered = []; // the list as its rows show it

  /** Show the history in `details`; `onPick(recipe)` is called for one that is clicked. */
  constructor(details, onPick) {
    this.#details = details;
    this.#onPick = onPick;
    addEventListener("storage", (event) => event.key === KEY && this.#load());
    details.querySelector("[data-do=forget]").addEventListener("click", () => {
      this.#change(() => []);
      details.querySelector("summary").focus();
    });
    this.#load();
  }

  /** Put a recipe first. */
  add({ prompt, seed, model, weights }) {
    const recipe = { prompt, seed, model, weights };
    this.#change((list) => [recipe, ...list.filter((other) => !same(other, recipe))].slice(0, MOST));
  }

  #load() {
    this.#list = stored();
    this.#render();
  }

  /** Change what is stored, which another tab may have changed meanwhile. */
  #change(how) {
    this.#list = how(stored(this.#list));
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#list));
    } catch {
      // a private window or a full disk: the list lasts as long as the page
    }
    this.#render();
  }

  /** Write the rows anew; a focus that is on a recipe's buttons stays there. */
  #render() {
    const list = this.#details.querySelector("ol");
    const at = [...list.children].findIndex((row) => row.contains(document.activeElement));
    const button = [...(list.children[at]?.children ?? [])].indexOf(document.activeElement);
    const now = this.#list.findIndex((recipe) => at >= 0 && same(recipe, this.#rendered[at]));
    list.replaceChildren(...this.#list.map((recipe) => this.#row(recipe)));
    list.children[now]?.children[button].focus();
    this.#rendered = this.#list;
    this.#details.querySelector(".size").textContent = this.#list.length || "";
    this.#details.querySelector(".none").hidden = this.#list.length > 0;
    this.#details.querySelector("[data-do=forget]").hidden = this.#list.length === 0;
  }

  #row(recipe) {
    const row = document.createElement("li");
    const pick = button("", () => this.#onPick(recipe));
    const prompt = document.createElement("bdi");
    prompt.textContent = recipe.prompt;
    const rest = document.createElement("small");
    rest.textContent = `seed ${recipe.seed}, ${recipe.model}`;
    pick.append(prompt, " ", rest);
    const forget = button("×", () => {
      const at = [...row.parentElement.children].indexOf(row);
      this.#change((all) => all.filter((other) => !same(other, recipe)));
      const rows = this.#details.querySelectorAll("li");
      const near = rows[Math.min(at, rows.length - 1)]?.lastElementChild;
      (near ?? this.#details.querySelector("summary")).focus();
    });
    forget.className = "forget";
    forget.setAttribute("aria-label", `Delete ${recipe.prompt}, seed ${recipe.seed}`);
    row.append(pick, forget);
    return row;
  }
}

/** Read what is stored; whatever is no list of recipes is left out. */
function stored(otherwise = []) {
  try {
    const list = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(list) ? list.filter(isRecipe).slice(0, MOST) : [];
  } catch {
    return otherwise;
  }
}

function isRecipe(value) {
  const texts = [value?.prompt, value?.seed, value?.model, value?.weights];
  return texts.every((text) => typeof text === "string") && isSeed(value.seed);
}

function same(one, other) {
  return one.prompt === other.prompt && one.seed === other.seed && one.model === other.model;
}

function button(text, onClick) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", onClick);
  return made;
}
