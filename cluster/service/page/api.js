// Requests to the service that this page came from, and to nothing else.

let token = sessionStorage.getItem("token") || "";

// `#token=...` comes from the line that the service prints; it is taken out of the address at once.
export function take() {
  const given = location.hash.match(/^#token=([\w-]+)$/);
  if (!given) return;
  keep(given[1]);
  history.replaceState(null, "", location.pathname + "#/");
}

export function keep(text) {
  token = text;
  if (text) sessionStorage.setItem("token", text);
  else sessionStorage.removeItem("token");
}

export const known = () => token !== "";

export class Refusal extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

export async function call(path, { method = "GET", headers = {}, signal } = {}) {
  const all = { ...headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { method, headers: all, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "away", "The service does not answer; this page tries again.");
  }
  if (answer.ok || answer.status === 304) return answer;
  let told = {};
  try { told = await answer.json(); } catch { /* not ours */ }
  const code = String(told.type || "").replace("urn:mergefront:", "");
  throw new Refusal(answer.status, code, told.detail || `The service answered with status ${answer.status}.`);
}

export const json = async (path, options) => (await call(path, options)).json();

// Server-sent events by fetch: EventSource cannot carry a token.
export async function* events(path, signal) {
  const answer = await call(path, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { event: "message", id: "", data: "" };
      for (const line of block.split("\n")) {
        const at = line.indexOf(": ");
        if (at > 0) event[line.slice(0, at)] = line.slice(at + 2);
      }
      if (event.data) yield event;
    }
  }
}
