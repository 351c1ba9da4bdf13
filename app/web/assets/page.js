// The page: what is asked, what is under way, what is shown.

import { AnswerView, spoken } from "./answer.js";
import { Chips } from "./chips.js";
import { curl } from "./curl.js";
import { Failures, complain, isAboutThePhoto, sentence, storedKey } from "./failures.js";
import { FUSIONS, fuse } from "./fusion.js";
import { Photos } from "./photos.js";
import { Failure, address, ask } from "./server.js";

const CLASSIFY = "v1/classify";
const LABELS = ["cat", "dog", "bird", "flower", "car", "food", "person", "building"];
const TYPING_MS = 300;
const SETTLING_MS = 600;

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
  view = new AnswerView();
  failures = new Failures(() => this.begin());
  askSoon = debounce(TYPING_MS, () => this.ask());
  speakSoon = debounce(SETTLING_MS, () => this.#speak());

  constructor() {
    this.photos = new Photos(() => {
      this.show();
      this.ask();
    });
    this.chips = new Chips(byId("labels"), LABELS, (said) => {
      this.say(said);
      this.askSoon();
    });
    byId("clear").addEventListener("click", () => this.chips.clear());
    byId("collection").addEventListener("change", () => this.ask());
    byId("copy").addEventListener("click", () => this.#copy());
    const changed = () => {
      this.#showAnswer();
      this.speakSoon();
    };
    byId("k").addEventListener("input", changed);
    byId("fusion").addEventListener("change", changed);
    this.begin();
  }

  /** Learn what serves, then ask what was not asked yet, or failed. */
  async begin() {
    try {
      this.#introduce(await ask("v1/info", { key: storedKey() }));
    } catch (failure) {
      this.#fail(failure);
      return;
    }
    this.failures.show(null);
    for (const photo of this.photos.all.filter(({ failure }) => failure)) photo.forget();
    await this.ask();
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
   * their votes are asked for: what the controls change is then computed here, by `fuse`.
   */
  async ask() {
    this.underWay?.abort();
    const { signal } = (this.underWay = new AbortController());
    const question = { labels: [...this.chips.labels], index: byId("collection").value };
    const isAnswered = (photo) => JSON.stringify(photo.question) === JSON.stringify(question);
    const { all, current } = this.photos;
    const waiting = question.labels.length > 0 ? all.filter((photo) => !isAnswered(photo)) : [];
    complain("label-error", question.labels.length > 0 ? "" : "Add at least one label.");
    waiting.sort((a, b) => (b === current) - (a === current));
    for (const photo of waiting) {
      await this.#askAbout(photo, question, signal);
      if (signal.aborted) return;
      const isGeneral = photo.failure !== null && !isAboutThePhoto(photo.failure);
      if (photo === this.photos.current) this.show();
      else if (isGeneral) this.failures.show(photo.failure);
      if (isGeneral) break;
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
        key: storedKey(),
        signal,
        onUpload: (share) =>
          this.#progress(share < 1 ? sending : `Looking at ${photo.name} …`, share),
      });
      Object.assign(photo, { failure: null, question });
      this.failures.forget();
    } catch (failure) {
      if (signal.aborted) return;
      if (!(failure instanceof Failure)) throw failure;
      photo.forget();
      photo.failure = failure;
      // Asking the same about a bad photo again would not help.
      if (isAboutThePhoto(failure)) photo.question = question;
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

  #fused() {
    const { answer, question } = this.photos.current;
    return fuse(answer.results[0], question.labels, this.k, this.fusion);
  }

  #speak() {
    if (this.photos.current?.answer) this.say(spoken(this.#fused()));
  }

  #fail(failure) {
    byId("welcome").hidden = true;
    this.failures.show(failure);
  }

  /** Bring the page in line with the photo that is shown. */
  show() {
    const { answer, failure } = this.photos.current;
    const isNew = byId("result").hidden;
    byId("welcome").hidden = true;
    byId("result").hidden = !answer;
    this.failures.show(failure);
    if (!answer) return;
    this.#showAnswer();
    if (isNew) document.querySelector(".weights").scrollIntoView({ block: "nearest" });
  }

  #showAnswer() {
    const { answer, question, name } = this.photos.current;
    this.view.show(answer.results[0], this.#fused());
    byId("k").setAttribute("aria-valuetext", this.k === 1 ? "1 caption" : `${this.k} captions`);
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
    const hasKey = Boolean(storedKey());
    byId("curl").textContent = curl(address(CLASSIFY), filename, fields, hasKey);
    byId("curl-hint").textContent = hasKey
      ? `Run it in the folder of ${filename}, with your key in XMORE_API_KEY.`
      : `Run it in the folder of ${filename}.`;
  }

  #introduce({ model, index, indexes, limits }) {
    this.limits = limits;
    byId("k").max = limits.max_captions;
    byId("serving").textContent = `${model.name}, ${index.captions.toLocaleString("en")} captions`;
    const choice = byId("collection");
    const chosen = choice.value;
    const several = indexes.length > 1 ? indexes.map(({ name }) => name) : [];
    choice.replaceChildren(
      ...several.map((name) => new Option(name, name, false, name === chosen)),
    );
    byId("collection-field").hidden = several.length === 0;
  }

  #progress(words, share = null) {
    byId("progress").classList.toggle("running", words !== null);
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

new Page();
