// Where a picture's time went, from the key to the screen. Only when the keys rest is it spoken,
// so that a screen reader is not talked over at every key.

const PARTS = ["queue", "engine", "encode", "network", "paint"];
const LAST = 10;
const REST_MS = 1500;

export class Badge {
  #badge;
  #spoken;
  #answers = []; // of the last ten: how many pictures, and their milliseconds
  #timer = 0;

  constructor(badge, spoken) {
    this.#badge = badge;
    this.#spoken = spoken;
  }

  /**
   * Show the times of an answer in milliseconds of `performance.now()`.
   *
   * edited: the key; sent, received: the call; shown: the frame with the pictures.
   */
  show(pictures, { edited, sent, received, shown }, text) {
    const slowest = pictures.map(({ timings }) => timings).reduce((a, b) => (own(a) > own(b) ? a : b));
    const total = shown - edited;
    const times = {
      queue: slowest.queue_ms,
      engine: slowest.engine_ms,
      encode: slowest.encode_ms,
      network: Math.max(0, received - sent - own(slowest)),
      paint: Math.max(0, total - (received - sent)),
    };
    this.#answers = [...this.#answers, [pictures.length, total]].slice(-LAST);
    this.#badge.querySelector(".bar").replaceChildren(...PARTS.map((part) => bar(part, times[part])));
    this.#badge.querySelector(".parts").replaceChildren(
      ...PARTS.map((part) => labelled(part, times[part].toFixed(1))),
    );
    this.#badge.querySelector(".total").replaceChildren(
      element("strong", "", `${total.toFixed(0)} ms`),
      labelled("batch of", String(slowest.batch_size)),
      labelled("pictures/s", this.#rate().toFixed(1)),
    );
    this.#speak(`Drawn in ${total.toFixed(0)} milliseconds: ${text}.`);
  }

  /** Pictures per second of waiting, over the last ten answers. */
  #rate() {
    const sum = (i) => this.#answers.reduce((all, answer) => all + answer[i], 0);
    return (1000 * sum(0)) / sum(1);
  }

  #speak(sentence) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (this.#spoken.textContent = sentence), REST_MS);
  }
}

function own({ queue_ms, engine_ms, encode_ms }) {
  return queue_ms + engine_ms + encode_ms;
}

function bar(part, milliseconds) {
  const share = element("i", part, "");
  share.style.flexGrow = milliseconds;
  return share;
}

function labelled(part, value) {
  const span = element("span", part, `${part} `);
  span.append(element("b", "", value));
  return span;
}

function element(tag, kind, text) {
  const made = document.createElement(tag);
  made.className = kind;
  made.textContent = text;
  return made;
}
