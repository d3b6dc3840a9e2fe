// The page's two endpoints, and every way in which they can fail as one sentence.

const UNREACHABLE = "The service cannot be reached. Trying again until it answers.";
const TIMEOUT_MS = 60_000;

/** An answer that is none: `message` is a sentence; with `retryMs` it may help to ask again. */
export class Refused extends Error {
  constructor(message, code, retryMs = null) {
    super(message);
    this.code = code;
    this.retryMs = retryMs;
  }
}

/** Call an endpoint of Gradio's API; throws Refused. */
export async function call(name, ...data) {
  let values;
  try {
    const response = await fetch(new URL(`gradio_api/run/${name}`, document.baseURI), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ data }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!response.ok) throw new Error(response.statusText);
    values = (await response.json()).data[0];
  } catch {
    throw new Refused(UNREACHABLE, "unreachable", 500);
  }
  if (values.error) {
    const { message, code, retry_after_s: after } = values.error;
    throw new Refused(message, code, after === undefined ? null : 1000 * after);
  }
  return values;
}
