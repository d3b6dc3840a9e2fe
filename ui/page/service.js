// The page's two endpoints, and every way in which they can fail as one sentence.

const UNREACHABLE = "The service cannot be reached.";
const TIMEOUT_MS = 60_000;
const RETRY_MS = 500;

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
  let response, values;
  try {
    response = await fetch(new URL(`gradio_api/run/${name}`, document.baseURI), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ data }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    values = await response.json();
  } catch {
    // A proxy refuses in HTML; it also answers 5xx for a service that is gone.
    if (response?.status >= 400 && response.status < 500) throw refusal(response);
    throw new Refused(UNREACHABLE, "unreachable", RETRY_MS);
  }
  if (!response.ok) throw refusal(response, values.error);
  const [answer] = values.data;
  if (!answer.error) return answer;
  const { message, code, retry_after_s: after } = answer.error;
  throw new Refused(message, code, after === undefined ? null : 1000 * after);
}

/** What stands before the page's endpoints refuses too: for its size, its rate or its key. */
function refusal({ status, headers }, error) {
  const after = Number(headers.get("Retry-After")) || (status >= 500 || status === 429 ? 1 : 0);
  const told = error?.message ?? `the service answered ${status}`;
  const sentence = `${told[0].toUpperCase()}${told.slice(1)}.`;
  return new Refused(sentence, error?.code ?? "failed", after ? 1000 * after : null);
}
