// What went wrong: said in words where it went wrong, asked for where it is a key, tried again.

const KEY = "xmore-key";
const MOST_RETRIES = 5;

/** Where an error of a field is told. */
const PLACES = { labels: "label-error", index: "collection-error" };

/** Of the statuses, those that another photo would change: too large, and no image. */
const ABOUT_THE_PHOTO = [413, 415];

const byId = (id) => document.getElementById(id);

/** Whether it is the photo that is at fault, so that others may be fine. */
export function isAboutThePhoto(failure) {
  return ABOUT_THE_PHOTO.includes(failure?.status);
}

/** The API key, if one was given in this tab. */
export function storedKey() {
  return sessionStorage.getItem(KEY) ?? undefined;
}

/** A detail of the server as a sentence. */
export function sentence(detail) {
  const text = detail.charAt(0).toUpperCase() + detail.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** Say words beside a field that is wrong; the empty string where it is right. */
export function complain(place, words) {
  // What is written once more is read out once more.
  if (byId(place).textContent !== words) byId(place).textContent = words;
  document.querySelectorAll(`[aria-describedby~=${place}]`).forEach((field) => {
    field.setAttribute("aria-invalid", String(words !== ""));
  });
}

export class Failures {
  #retries = 0;
  #timer;

  /** @param {() => void} tryAgain asked for by the user, by a new key, or by the server. */
  constructor(tryAgain) {
    this.tryAgain = tryAgain;
    byId("retry").addEventListener("click", tryAgain);
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, byId("key").value);
      tryAgain();
    });
  }

  /** An answer came: whatever was wrong before is over. */
  forget() {
    this.#retries = 0;
  }

  /** Say what went wrong; null clears it. */
  show(failure) {
    clearTimeout(this.#timer);
    const errors = failure?.errors ?? [];
    const locked = failure?.status === 401;
    complain("photo-error", isAboutThePhoto(failure) ? failure.message : "");
    for (const [field, place] of Object.entries(PLACES)) {
      const here = errors.filter((error) => error.field === field);
      complain(place, here.map(({ detail }) => sentence(detail)).join(" "));
    }
    byId("key-form").hidden = !locked;
    if (locked) this.#askForKey();
    const placed = errors.length > 0 && errors.every(({ field }) => field in PLACES);
    const elsewhere = failure !== null && !locked && !placed && !isAboutThePhoto(failure);
    byId("failure").hidden = !elsewhere;
    byId("failure-text").textContent = elsewhere ? this.#words(failure) : "";
  }

  #askForKey() {
    if (storedKey()) {
      byId("key-label").textContent = "The server did not accept this key. Another one?";
    }
    sessionStorage.removeItem(KEY);
    byId("key").value = "";
    byId("key").focus();
  }

  /** The failure in words, and a new try on its way where the server says when. */
  #words({ message, retryAfter }) {
    if (retryAfter === null || this.#retries >= MOST_RETRIES) return message;
    this.#retries += 1;
    this.#timer = setTimeout(this.tryAgain, 1000 * retryAfter);
    const when = retryAfter === 1 ? "a second" : `${retryAfter} seconds`;
    return `${message} Trying again in ${when}.`;
  }
}
