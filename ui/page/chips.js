// Chips: the model's examples, and styles that end a prompt ("red apple, noto").

/** Fill `box` with buttons for `texts`; it is hidden where there are none. */
export function fill(box, texts, onPick) {
  box.hidden = texts.length === 0;
  box.replaceChildren(
    ...texts.map((text) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.textContent = text;
      chip.addEventListener("click", () => onPick(text));
      return chip;
    }),
  );
}

/** Mark the chip of the style that the prompt ends with. */
export function mark(box, style) {
  for (const chip of box.children) chip.setAttribute("aria-pressed", chip.textContent === style);
}

/** Split a prompt into its subject and its style, which may be none (""). */
export function split(prompt, styles) {
  const comma = prompt.lastIndexOf(",");
  const end = prompt.slice(comma + 1).trim().toLowerCase();
  const style = comma < 0 ? undefined : styles.find((known) => known.toLowerCase() === end);
  return style ? [prompt.slice(0, comma).trimEnd(), style] : [prompt, ""];
}

export function join(subject, style) {
  return style ? `${subject.trimEnd().replace(/,$/, "")}, ${style}` : subject;
}
