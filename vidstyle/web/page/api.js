// The server's HTTP API: JSON in and out, and its errors as sentences.

export class ApiError extends Error {
  /** `words` as the server said them, `message` as a sentence; `status` is that of HTTP, or 0 where no answer came. */
  constructor(words, status) {
    super(sentence(words));
    this.words = words;
    this.status = status;
  }
}

/** The JSON that `path` answers with, or null where it answers with nothing. */
export async function call(method, path, body, { keepalive = false } = {}) {
  const options = { method, keepalive, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new ApiError("The server does not answer. Is vidstyle serve still running?", 0);
  }
  return answer(response.status, await response.text());
}

/** Send files and fields; `onSent(share)` is called with how much of it is there, 0 to 1. */
export function send(path, fields, onSent) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch cannot tell how far an upload is
    request.open("POST", path);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onSent(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      try {
        resolve(answer(request.status, request.responseText));
      } catch (error) {
        reject(error);
      }
    });
    request.addEventListener("error", () =>
      reject(new ApiError("The upload broke off: the server took no more of it. It may be too large.", 0)),
    );
    request.send(form);
  });
}

function answer(status, text) {
  let found = null;
  try {
    found = text ? JSON.parse(text) : null;
  } catch {
    // A proxy in between may answer in HTML; its status must do.
  }
  if (status >= 200 && status < 300) return found;
  if (status === 401) throw new ApiError("The server wants its token: open the address that vidstyle serve printed.", 401);
  throw new ApiError(found?.error ?? `The server answered with error ${status}.`, status);
}

/** The server's words as a sentence of a page: a capital letter first, unless it is `name`'s, and a full stop last. */
export function sentence(words, name = null) {
  const isNamed = name && words.toLowerCase().startsWith(name.toLowerCase());
  const text = isNamed ? words : words.charAt(0).toUpperCase() + words.slice(1);
  return /[.!?`'")]$/.test(text) ? text : `${text}.`;
}

/** What is wrong with the file called `name`: the server's words behind the name. */
export function aboutFile(name, words) {
  return sentence(`${name}: ${words.startsWith(`${name} `) ? `it ${words.slice(name.length + 1)}` : words}`, name);
}

/** The address of a style's own things; names may hold a slash. */
export function ofStyle(name, what = "") {
  const path = name.split("/").map(encodeURIComponent).join("/");
  return `api/styles/${path}${what && `/${what}`}`;
}

export function ofJob(id, what = "") {
  return `api/jobs/${encodeURIComponent(id)}${what && `/${what}`}`;
}
