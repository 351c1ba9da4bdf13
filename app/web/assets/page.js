// The page: what is asked, what is under way, what is shown.

import { AnswerView, spoken } from "./answer.js";
import { Chips } from "./chips.js";
import { curl } from "./curl.js";
import { FUSIONS, fuse } from "./fusion.js";
import { Photos } from "./photos.js";
import { Failure, address, ask } from "./server.js";

const CLASSIFY = "v1/classify";
const LABELS = ["cat", "dog", "bird", "flower", "car", "food", "person", "building"];
const KEY = "xmore-key";
const TYPING_MS = 300;
const SETTLING_MS = 600;
const MOST_RETRIES = 5;

/** Where an error of a field is told. */
const PLACES = { labels: "label-error", index: "collection-error" };

/** Of the statuses, those that another photo would change: too large, and no image. */
const ABOUT_THE_PHOTO = [413, 415];

const byId = (id) => document.getElementById(id);

function debounce(wait, call) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, wait);
  };
}

class Page {
  limits = null;
  underWay = null;
  retries = 0;
  view = new AnswerView();
  askSoon = debounce(TYPING_MS, () => this.ask());
  speakSoon = debounce(SETTLING_MS, () => this.#speak());

  constructor() {
    this.photos = new Photos(() => this.#photosChanged());
    this.chips = new Chips(byId("labels"), LABELS, (said) => {
      this.say(said);
      this.askSoon();
    });
    byId("clear").addEventListener("click", () => this.chips.clear());
    byId("collection").addEventListener("change", () => this.ask());
    for (const [id, event] of [["k", "input"], ["fusion", "change"]]) {
      byId(id).addEventListener(event, () => {
        this.show();
        this.speakSoon();
      });
    }
    byId("copy").addEventListener("click", () => this.#copy());
    byId("retry").addEventListener("click", () => this.begin());
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, byId("key").value);
      this.begin();
    });
    this.begin();
  }

  /** Learn what serves, then answer what was asked meanwhile. */
  async begin() {
    clearTimeout(this.retryTimer);
    try {
      this.#introduce(await ask("v1/info", { key: this.key }));
      this.#explain(null);
      await this.ask();
    } catch (failure) {
      this.#explain(failure);
    }
  }

  get key() {
    return sessionStorage.getItem(KEY) ?? undefined;
  }

  get k() {
    return Number(byId("k").value);
  }

  get fusion() {
    return document.querySelector("input[name=fusion]:checked").value;
  }

  say(words) {
    byId("status").textContent = words;
  }

  /**
   * Ask about every photo that has no answer to the question as it is now, the one shown first.
   *
   * Each is a request of its own, so that a bad photo does not spoil the others. All captions and
   * their votes are asked for: what the sliders change is then computed here, from `fuse`.
   */
  async ask() {
    this.underWay?.abort();
    const { signal } = (this.underWay = new AbortController());
    const question = { labels: [...this.chips.labels], index: byId("collection").value };
    const same = (photo) => JSON.stringify(photo.question) === JSON.stringify(question);
    this.#complain("label-error", question.labels.length > 0 ? "" : "Add at least one label.");
    const { all, current } = this.photos;
    const waiting = question.labels.length > 0 ? all.filter((photo) => !same(photo)) : [];
    waiting.sort((a, b) => (b === current) - (a === current));
    for (const photo of waiting) {
      await this.#askAbout(photo, question, signal);
      if (signal.aborted) return;
      if (photo === this.photos.current) this.show();
      if (photo.failure && !ABOUT_THE_PHOTO.includes(photo.failure.status)) break;
    }
    this.#progress(null);
    if (waiting.length > 0) this.#speak();
  }

  async #askAbout(photo, question, signal) {
    const sending = `Sending ${photo.name} …`;
    this.#progress(sending);
    try {
      this.#checkSize(photo.file);
      photo.answer = await ask(CLASSIFY, {
        form: this.#form(photo, question),
        key: this.key,
        signal,
        onUpload: (share) => this.#progress(share < 1 ? sending : `Looking at ${photo.name} …`, share),
      });
      Object.assign(photo, { failure: null, question });
      this.retries = 0;
    } catch (failure) {
      if (!(failure instanceof Failure)) {
        if (signal.aborted) return;
        throw failure;
      }
      photo.forget();
      photo.failure = failure;
      // Asking the same about a bad photo again would not help.
      if (ABOUT_THE_PHOTO.includes(failure.status)) photo.question = question;
    }
  }

  #form(photo, { labels, index }) {
    const form = new FormData();
    form.append("image", photo.file, photo.name);
    // One JSON array: a single label that begins with a bracket would be taken for one.
    form.append("labels", JSON.stringify(labels));
    form.append("captions", byId("k").max);
    form.append("votes", "true");
    if (index) form.append("index", index);
    return form;
  }

  /** Spare an upload that the server would refuse at its end. */
  #checkSize({ name, size }) {
    const most = this.limits?.max_image_bytes ?? Infinity;
    if (size <= most) return;
    const inMiB = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
    const words = `${name}: the file has ${inMiB(size)}, at most ${inMiB(most)} are allowed`;
    throw new Failure(words, { status: 413 });
  }

  #photosChanged() {
    this.show();
    this.ask();
    byId("answer").scrollIntoView({ block: "nearest" });
  }

  #fused() {
    const { answer, question } = this.photos.current;
    return fuse(answer.results[0], question.labels, this.k, this.fusion);
  }

  #speak() {
    if (this.photos.current?.answer) this.say(spoken(this.#fused()));
  }

  /** Bring the page in line with the photo that is shown. */
  show() {
    const { answer, failure, question, name } = this.photos.current;
    byId("welcome").hidden = true;
    byId("result").hidden = !answer;
    this.#explain(failure);
    if (!answer) return;
    this.view.show(answer.results[0], this.#fused());
    const voters = this.k === 1 ? "1 caption" : `${this.k} captions`;
    byId("k").setAttribute("aria-valuetext", voters);
    byId("k-value").textContent = this.k;
    byId("fusion-hint").textContent = FUSIONS[this.fusion];
    const warnings = answer.warnings.map((warning) => {
      const item = document.createElement("li");
      item.textContent = sentence(warning);
      return item;
    });
    byId("warnings").replaceChildren(...warnings);
    const [total, model] = [answer.timings.total_ms, answer.timings.encode_ms].map(Math.round);
    byId("timings").textContent = `${total} ms on the server, ${model} of them in the model`;
    this.#showCall(question, name);
  }

  #showCall({ labels, index }, filename) {
    const fields = { labels: JSON.stringify(labels), captions: this.k, fusion: this.fusion };
    if (index) fields.index = index;
    byId("curl").textContent = curl(address(CLASSIFY), filename, fields, Boolean(this.key));
    byId("curl-hint").textContent = this.key
      ? `Run it in the folder of ${filename}, with your key in XMORE_API_KEY.`
      : `Run it in the folder of ${filename}.`;
  }

  #introduce({ model, index, indexes, limits }) {
    this.limits = limits;
    byId("k").max = limits.max_captions;
    byId("serving").textContent = `${model.name}, ${index.captions.toLocaleString("en")} captions`;
    const choice = byId("collection");
    const chosen = choice.value;
    const several = indexes.length > 1 ? indexes : [];
    choice.replaceChildren(...several.map(({ name }) => new Option(name, name, false, name === chosen)));
    byId("collection-field").hidden = several.length === 0;
  }

  /** Say what went wrong, and where it went wrong; null clears it. */
  #explain(failure) {
    clearTimeout(this.retryTimer);
    const ofPhoto = ABOUT_THE_PHOTO.includes(failure?.status);
    const locked = failure?.status === 401;
    const errors = failure?.errors ?? [];
    this.#complain("photo-error", ofPhoto ? sentence(failure.message) : "");
    for (const [field, place] of Object.entries(PLACES)) {
      const here = errors.filter((error) => error.field === field);
      this.#complain(place, here.map(({ detail }) => sentence(detail)).join(" "));
    }
    byId("key-form").hidden = !locked;
    if (locked) this.#askForKey();
    const placed = ofPhoto || locked || (errors.length > 0 && errors.every(({ field }) => field in PLACES));
    const elsewhere = failure !== null && !placed;
    byId("failure").hidden = !elsewhere;
    byId("failure-text").textContent = elsewhere ? this.#words(failure) : "";
    if (failure) {
      byId("welcome").hidden = true;
      this.#progress(null);
    }
  }

  #complain(place, words) {
    if (byId(place).textContent !== words) byId(place).textContent = words;
    document.querySelectorAll(`[aria-describedby~=${place}]`).forEach((field) => {
      field.setAttribute("aria-invalid", String(words !== ""));
    });
  }

  #askForKey() {
    if (this.key) byId("key-label").textContent = "The server did not accept this key. Another one?";
    sessionStorage.removeItem(KEY);
    byId("key").value = "";
    byId("key").focus();
  }

  /** The failure in words, and a new try on its way where the server says when. */
  #words({ message, retryAfter }) {
    if (retryAfter === null || this.retries >= MOST_RETRIES) return message;
    this.retries += 1;
    this.retryTimer = setTimeout(() => this.begin(), 1000 * retryAfter);
    return `${message} Trying again in ${retryAfter === 1 ? "a second" : `${retryAfter} seconds`}.`;
  }

  #progress(words, share = null) {
    byId("progress").hidden = words === null;
    byId("answer").setAttribute("aria-busy", String(words !== null));
    byId("progress-text").textContent = words ?? "";
    if (share === null || share === 1) byId("progress-bar").removeAttribute("value");
    else byId("progress-bar").value = share;
  }

  async #copy() {
    try {
      // There is no clipboard on pages that came over plain HTTP from another machine.
      await navigator.clipboard.writeText(byId("curl").textContent);
      this.#copied("Copied");
    } catch {
      byId("call").open = true;
      getSelection().selectAllChildren(byId("curl"));
      this.#copied("Selected: copy it");
    }
  }

  #copied(words) {
    const button = byId("copy");
    button.textContent = words;
    this.say(words);
    setTimeout(() => (button.textContent = "Copy as curl"), 2000);
  }
}

/** A detail of the server as a sentence. */
function sentence(detail) {
  const text = detail.charAt(0).toUpperCase() + detail.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

new Page();
