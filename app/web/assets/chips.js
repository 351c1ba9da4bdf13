// Labels as chips: typed, pasted, removed.

const SEPARATORS = /[\n\r\t,;，、]+/;

/** Labels from typed or pasted text: a list with any usual separator, or a JSON array. */
export function split(text) {
  try {
    const parsed = JSON.parse(text);
    if (Array.isArray(parsed)) return parsed.map(String);
  } catch {
    // Not JSON, so plain text.
  }
  return text.split(SEPARATORS);
}

export class Chips {
  /**
   * @param {HTMLElement} box holds the list of chips and the input.
   * @param {string[]} labels to begin with.
   * @param {(said: string) => void} onChange is told in words what changed.
   */
  constructor(box, labels, onChange) {
    this.labels = [];
    this.list = box.querySelector("ul");
    this.input = box.querySelector("input");
    this.onChange = onChange;
    for (const label of labels) this.#append(label);
    box.addEventListener("click", (event) => {
      if (event.target === box || event.target === this.list) this.input.focus();
    });
    this.input.addEventListener("keydown", (event) => this.#onKey(event));
    this.input.addEventListener("input", (event) => {
      // A phone's keyboard does not say which key it was; while a word is composed, wait for it.
      if (!event.isComposing && SEPARATORS.test(this.input.value)) this.commit();
    });
    this.input.addEventListener("paste", (event) => {
      const text = event.clipboardData.getData("text/plain");
      // The input itself would join lines.
      if (split(text).length > 1) {
        event.preventDefault();
        this.add(split(this.input.value + text));
        this.input.value = "";
      }
    });
    this.input.addEventListener("blur", () => this.commit());
  }

  /** Make chips of what is typed. */
  commit() {
    const text = this.input.value;
    this.input.value = "";
    if (text.trim()) this.add(split(text));
  }

  add(texts) {
    const wanted = new Set(texts.map((text) => text.replaceAll(/\s+/g, " ").trim()));
    const fresh = [...wanted].filter((label) => label && !this.labels.includes(label));
    for (const label of fresh) this.#append(label);
    if (fresh.length === 1) this.onChange(`${fresh[0]} added`);
    else if (fresh.length > 1) this.onChange(`${fresh.length} labels added`);
  }

  remove(label) {
    const position = this.labels.indexOf(label);
    this.labels.splice(position, 1);
    this.list.children[position].remove();
    this.onChange(`${label} removed`);
    return position;
  }

  clear() {
    this.labels = [];
    this.list.replaceChildren();
    this.onChange("All labels removed");
    this.input.focus();
  }

  #onKey(event) {
    if (event.isComposing) return;
    if (event.key === "Enter") {
      event.preventDefault();
      this.commit();
    } else if (event.key === "Backspace" && !this.input.value && this.labels.length > 0) {
      this.remove(this.labels.at(-1));
    }
  }

  #append(label) {
    const chip = document.createElement("li");
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = "×";
    remove.setAttribute("aria-label", `Remove ${label}`);
    remove.addEventListener("click", () => {
      const position = this.remove(label);
      // Focus must not fall back to the top of the page.
      const next = this.list.children[position]?.querySelector("button") ?? this.input;
      next.focus();
    });
    chip.append(label, remove);
    this.list.append(chip);
    this.labels.push(label);
  }
}
