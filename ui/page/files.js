// A picture file that is dropped or opened -> its recipe, read by the service.

import { call, Refused } from "./service.js";

// PNG and JPEG have their recipe before their pixels, so that their beginning is all that is sent;
// WebP has it behind them.
const SENT = 640 * 2 ** 10;

/** Call `onFile(file)` for a file that is dropped anywhere or chosen in `input`. */
export function takeFiles(input, shade, onFile) {
  const has = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!has(event)) return;
    event.preventDefault();
    shade.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) shade.hidden = true;
  });
  addEventListener("drop", (event) => {
    shade.hidden = true;
    if (!has(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files.length) onFile(event.dataTransfer.files[0]);
  });
  input.addEventListener("change", () => {
    if (input.files.length) onFile(input.files[0]);
    input.value = "";
  });
}

/** Read the recipe inside a file; throws Refused. */
export async function readRecipe(file) {
  if (file.size > SENT && file.type === "image/webp")
    throw new Refused("A WebP picture must be smaller than 640 KiB to be read here.", "too_large");
  const data = await base64(file.slice(0, SENT));
  return (await call("read", data)).recipe;
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Refused("The file cannot be read.", "unreadable"));
    reader.readAsDataURL(file);
  });
}
