// Draws an answer: the best label, the weights, a bar a label, and the captions with their votes.

const FEW = 8;
const VOTES_SHOWN = 5;

const byId = (id) => document.getElementById(id);

/** A share in words that never claims more than it knows: 0% and 100% only where they are exact. */
export function percent(share) {
  if (share > 0 && share < 0.001) return "<0.1%";
  if (share < 1 && share > 0.999) return ">99.9%";
  if (share === 0 || share === 1) return `${100 * share}%`;
  return `${(100 * share).toFixed(1)}%`;
}

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function bar(kind, ...parts) {
  const made = element("span", `scale ${kind}`, ...parts.map((part) => element("i", part)));
  made.setAttribute("aria-hidden", "true");
  return made;
}

function setShares(scale, ...shares) {
  shares.forEach((share, at) =>
    scale.children[at].style.setProperty("inline-size", `${100 * share}%`),
  );
}

/** One label: what was decided, and below it what each of the two said. */
class Row {
  constructor(label) {
    this.fused = bar("fused", "image", "text");
    this.image = bar("thin", "image");
    this.text = bar("thin", "text");
    this.shares = ["number", "number", "number"].map((name) => element("span", name));
    const [fused, image, text] = this.shares;
    this.textPart = element("span", "part", element("span", "name", "captions "), this.text, text);
    this.item = element(
      "li",
      "",
      element("span", "label", label),
      element("b", "share", fused),
      this.fused,
      element("span", "part", element("span", "name", "image "), this.image, image),
      this.textPart,
    );
  }

  show(prediction, answer) {
    const { probability, image, text } = prediction;
    const parts = [answer.image.weight * image, answer.text.weight * (text ?? 0)];
    // In a product they do not add up to the whole, and the bar is as long as the whole.
    const whole = probability / (parts[0] + parts[1] || 1);
    setShares(this.fused, ...parts.map((part) => part * whole));
    setShares(this.image, image);
    setShares(this.text, text ?? 0);
    this.textPart.hidden = text === null;
    [probability, image, text ?? 0].forEach(
      (share, at) => (this.shares[at].textContent = percent(share)),
    );
  }
}

/** One caption, with its vote in a card that shows on hover, focus or tap. */
function captionItem(caption, position) {
  const votes = Object.entries(caption.votes).sort((a, b) => b[1] - a[1]);
  const shown = votes.slice(0, VOTES_SHOWN).filter(([, share], at) => at === 0 || share >= 0.0005);
  const card = element("div", "card");
  card.id = `vote-${position}`;
  card.setAttribute("role", "tooltip");
  card.append(element("p", "quiet", "It voted for "));
  const list = element("ul", "");
  for (const [label, share] of shown) {
    const scale = bar("thin", "text");
    setShares(scale, share);
    list.append(
      element(
        "li",
        "",
        element("span", "label", label),
        scale,
        element("span", "number", ` ${percent(share)}`),
      ),
    );
  }
  card.append(list);

  const button = element(
    "button",
    "",
    element("span", "words", caption.text),
    element("span", "number quiet", caption.similarity.toFixed(3)),
  );
  button.type = "button";
  button.setAttribute("aria-describedby", card.id);
  const item = element("li", "", button, card);
  item.addEventListener("keydown", (event) => {
    if (event.key === "Escape") item.classList.add("dismissed");
  });
  // Safari gives no focus to a button that is tapped.
  button.addEventListener("click", () => button.focus());
  for (const comes of ["pointerenter", "focusin", "click"]) {
    item.addEventListener(comes, () => item.classList.remove("dismissed"));
  }
  return item;
}

/** A list of which a few are shown until more are asked for. */
class Foldable {
  constructor(button, noun) {
    this.button = button;
    this.noun = noun;
    this.open = false;
    this.button.addEventListener("click", () => {
      this.open = !this.open;
      this.onToggle();
    });
  }

  /** How many of `total` to show; sets the button right. */
  visible(total) {
    this.button.hidden = total <= FEW;
    this.button.setAttribute("aria-expanded", String(this.open));
    this.button.textContent = this.open
      ? `Show the first ${FEW} ${this.noun}`
      : `Show all ${total} ${this.noun}`;
    return this.open ? total : Math.min(total, FEW);
  }
}

export class AnswerView {
  constructor() {
    this.rows = new Map();
    this.items = [];
    this.result = null;
    this.foldedLabels = new Foldable(byId("all-predictions"), "labels");
    this.foldedCaptions = new Foldable(byId("all-captions"), "captions");
    this.foldedLabels.onToggle = () => this.#showPredictions();
    this.foldedCaptions.onToggle = () => this.#showCaptions();
  }

  /**
   * @param {object} result an entry of the server's `results`.
   * @param {object} answer what `fuse` made of it.
   */
  show(result, answer) {
    if (result !== this.result) {
      this.result = result;
      this.items = result.captions.map(captionItem);
      byId("captions")
        .querySelector("ol")
        .replaceChildren(...this.items);
      this.rows.clear();
      byId("predictions").replaceChildren();
    }
    this.answer = answer;
    const [best] = answer.predictions;
    byId("best-label").textContent = best.label;
    byId("best-share").textContent = percent(best.probability);
    byId("agreement").textContent = agreement(answer);
    setShares(document.querySelector(".weights .scale"), answer.image.weight, answer.text.weight);
    for (const modality of ["image", "text"]) {
      byId(`${modality}-weight`).textContent = percent(answer[modality].weight);
      byId(`${modality}-confidence`).textContent = answer[modality].confidence.toFixed(2);
    }
    this.#showPredictions();
    this.#showCaptions();
  }

  #showPredictions() {
    const { predictions } = this.answer;
    const shown = predictions.slice(0, this.foldedLabels.visible(predictions.length));
    const items = shown.map((prediction) => {
      let row = this.rows.get(prediction.label);
      if (!row) this.rows.set(prediction.label, (row = new Row(prediction.label)));
      row.show(prediction, this.answer);
      return row.item;
    });
    byId("predictions").replaceChildren(...items);
  }

  #showCaptions() {
    const total = this.answer.captions.length;
    const visible = this.foldedCaptions.visible(total);
    byId("captions").hidden = total === 0;
    byId("captions-title").textContent =
      total === 1 ? "1 caption voted" : `${total} captions voted`;
    this.items.forEach((item, at) => (item.hidden = at >= visible));
  }
}

/** In words, whether the two agree. */
function agreement({ predictions, captions }) {
  if (captions.length === 0) return "No caption voted: this is what the image says.";
  const first = (modality) =>
    predictions.reduce((a, b) => (b[modality] > a[modality] ? b : a)).label;
  const [image, text] = [first("image"), first("text")];
  if (image === text) return `Image and captions agree on ${image}.`;
  return `The image says ${image}, the captions say ${text}.`;
}

/** The answer in a sentence, for those who hear the page. */
export function spoken({ predictions, image, text }) {
  const [best, second] = predictions;
  const next = second ? `, then ${second.label}, ${percent(second.probability)}` : "";
  return (
    `${best.label}, ${percent(best.probability)}${next}. ` +
    `The image weighs ${percent(image.weight)}, the captions ${percent(text.weight)}.`
  );
}
