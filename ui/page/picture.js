// The pictures: one, a grid of seeds, or two under a slider. Data URIs keep their exact bytes, and
// they are decoded before they are shown, so that one replaces the other without a flicker.

const SMALL_PX = 96; // smaller pictures are scaled with hard pixels, larger ones look better soft

export class Stage {
  #stage;
  #pictures;
  #split;
  #onKeep;

  /** Show pictures in `stage`; `onKeep(seed)` is called for one that is clicked in a grid. */
  constructor(stage, onKeep) {
    this.#stage = stage;
    this.#pictures = stage.querySelector(".pictures");
    this.#split = stage.querySelector(".split");
    this.#onKeep = onKeep;
    const cut = () => stage.style.setProperty("--split", `${this.#split.value}%`);
    this.#split.addEventListener("input", cut);
    cut();
  }

  /** Say how large the model's pictures are, before the first is there. */
  fit([height, width]) {
    const frame = this.#stage.parentElement;
    frame.style.setProperty("--width", width);
    frame.style.setProperty("--aspect", `${width} / ${height}`);
    frame.classList.toggle("hard", Math.max(height, width) <= SMALL_PX);
  }

  /** Decode pictures; the `sides` are two models' names where two are compared. */
  async decode(pictures, prompt, sides) {
    return Promise.all(
      pictures.map(async (picture, i) => {
        const image = new Image();
        const of = sides.length ? `, ${sides[i]}` : "";
        image.alt = `${prompt}, seed ${picture.seed}${of}`;
        image.src = `data:image/${picture.format};base64,${picture.data}`;
        await image.decode();
        return image;
      }),
    );
  }

  /** Show decoded images, and return when they are on the screen. */
  async show(images, pictures, sides) {
    const compared = sides.length > 0;
    const grid = !compared && images.length > 1;
    const shown = grid ? images.map((image, i) => this.#cell(image, pictures[i].seed)) : images;
    this.#pictures.className = `pictures${grid ? " grid" : ""}${compared ? " compared" : ""}`;
    this.#pictures.style.setProperty("--across", Math.sqrt(images.length));
    this.#pictures.replaceChildren(...shown, ...sides.map(name));
    this.#split.hidden = !compared;
    this.#stage.classList.remove("old");
    await painted();
  }

  /** Show that the pictures are not what is asked for now. */
  age() {
    this.#stage.classList.add("old");
  }

  focus() {
    this.#stage.focus();
  }

  /** The address of the first picture's own bytes; null before it is there. */
  get source() {
    return this.#pictures.querySelector("img")?.src ?? null;
  }

  #cell(image, seed) {
    const button = document.createElement("button");
    button.type = "button";
    button.title = `Keep seed ${seed}`;
    button.append(image);
    button.addEventListener("click", () => this.#onKeep(seed));
    return button;
  }
}

function name(text) {
  const label = document.createElement("span");
  label.className = "side";
  label.textContent = text;
  return label;
}

/** Wait for the frame that shows what was changed; a hidden page draws none. */
function painted() {
  return new Promise((resolve) => {
    setTimeout(resolve, 100);
    requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        resolve();
      };
      port2.postMessage(null);
    });
  });
}
