// Of all edits, the newest is drawn: the first at once, later ones when the keys rest or an
// answer is in. Answers to older edits are dropped; the service stops drawing them itself,
// because each call of this page replaces the one before.

const DEBOUNCE_MS = 30;
// A person who types faster than pictures come would never see one, if every key ended the
// picture before. So a call that nobody has seen an answer of for so long may finish, while the
// keys go on; when they rest this long, it is replaced all the same.
const PATIENCE_MS = 150;

/**
 * Runs `work(edited, isNewest)` for the newest edit; `edited` is when that was made.
 *
 * `onBusy(busy)` is told whether an edit waits for its answer.
 */
export class Newest {
  #work;
  #onBusy;
  #running = null;
  #began = 0; // when the first of the calls began that no answer has come of
  #edited = null; // when the edit was made that waits to be drawn
  #timer = 0;

  constructor(work, onBusy) {
    this.#work = work;
    this.#onBusy = onBusy;
  }

  edit(at = performance.now()) {
    this.#edited = at;
    this.#onBusy(true);
    clearTimeout(this.#timer);
    if (this.#running === null) {
      this.#began = performance.now();
      this.#begin();
      return;
    }
    const waited = performance.now() - this.#began;
    this.#timer = setTimeout(() => this.#begin(), waited < PATIENCE_MS ? DEBOUNCE_MS : PATIENCE_MS);
  }

  async #begin() {
    clearTimeout(this.#timer);
    const mine = {};
    const edited = this.#edited;
    this.#running = mine;
    this.#edited = null;
    await this.#work(edited, () => this.#running === mine);
    if (this.#running !== mine) return;
    this.#running = null;
    if (this.#edited === null) this.#onBusy(false);
    else this.edit(this.#edited);
  }
}
