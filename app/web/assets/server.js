// Asking the server, and its errors in words.

/** Why there is no answer: words for people, and what of the request was at fault. */
export class Failure extends Error {
  constructor(message, { status = 0, errors = [], retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.errors = errors;
    this.retryAfter = retryAfter;
  }
}

/**
 * One request; resolves to the JSON of its answer.
 *
 * XMLHttpRequest and not fetch, which does not tell how much of an upload has left.
 *
 * @param {string} path relative to the page, which may be served below a path of its own.
 * @param {{form?: FormData, key?: string, signal?: AbortSignal, onUpload?: (share: number) => void}}
 * @throws {Failure} an error of the server, or no server; an AbortError once `signal` says so.
 */
export function ask(path, { form, key, signal, onUpload } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(form ? "POST" : "GET", address(path));
    if (key) request.setRequestHeader("Authorization", `Bearer ${key}`);
    if (onUpload) {
      request.upload.onprogress = (event) => onUpload(event.loaded / event.total);
    }
    request.onload = () => {
      const answer = parse(request.responseText);
      if (request.status === 200 && answer) resolve(answer);
      else reject(failure(request, answer));
    };
    request.onerror = () =>
      reject(
        new Failure(
          "The server cannot be reached. It may have stopped, or the connection is down.",
        ),
      );
    request.onabort = () => reject(new DOMException("given up", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** The whole address of a path of the server. */
export function address(path) {
  return new URL(path, document.baseURI).href;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function failure(request, problem) {
  const told =
    problem?.detail ?? `The server answered ${request.status} ${request.statusText}`.trim();
  const seconds = Number.parseInt(request.getResponseHeader("Retry-After"), 10);
  return new Failure(told, {
    status: request.status,
    errors: problem?.errors ?? [],
    retryAfter: Number.isNaN(seconds) ? null : seconds,
  });
}
