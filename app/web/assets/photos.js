// The photos: chosen, taken, dropped or pasted; one of them is shown.

const byId = (id) => document.getElementById(id);

/** A photo with its answer, or why there is none. */
export class Photo {
  constructor(file) {
    this.file = file;
    this.url = URL.createObjectURL(file);
    this.forget();
  }

  get name() {
    return this.file.name;
  }

  forget() {
    /** The server's answer. */
    this.answer = null;
    /** Why there is none. */
    this.failure = null;
    /** What was asked: labels and collection. */
    this.question = null;
  }
}

export class Photos {
  all = [];
  current = null;

  /**
   * @param {() => void} onChange there are others now, or another one is shown.
   */
  constructor(onChange) {
    this.onChange = onChange;
    for (const id of ["file", "camera"]) {
      byId(id).addEventListener("change", ({ target }) => {
        if (target.files.length > 0) this.add(target.files);
        // The same file may be chosen once more.
        target.value = "";
      });
    }
    byId("preview").addEventListener("error", () => this.#showUndrawable());
    this.#listenForDrops();
    document.addEventListener("paste", (event) => {
      if (event.clipboardData.files.length > 0) {
        event.preventDefault();
        this.add(event.clipboardData.files);
      }
    });
  }

  add(files) {
    // What the browser knows no type for, such as HEIC, the server may know.
    const images = [...files].filter(({ type }) => !type || type.startsWith("image/"));
    byId("photo-error").textContent =
      images.length > 0
        ? ""
        : "That is no image file. Links are not followed: save the photo first.";
    if (images.length === 0) return;
    const photos = images.map((file) => new Photo(file));
    this.all.push(...photos);
    this.#show(photos[0]);
  }

  #remove(photo) {
    const at = this.all.indexOf(photo);
    this.all.splice(at, 1);
    URL.revokeObjectURL(photo.url);
    this.#show(photo === this.current ? this.all[Math.min(at, this.all.length - 1)] : this.current);
  }

  #show(photo) {
    this.current = photo;
    const preview = byId("preview");
    preview.src = photo.url;
    preview.alt = photo.name;
    preview.hidden = false;
    byId("no-preview").hidden = true;
    byId("drop").classList.add("filled");
    const strip = byId("photos");
    const focused = strip.contains(document.activeElement);
    strip.hidden = this.all.length < 2;
    strip.replaceChildren(...this.all.map((each) => this.#thumbnail(each)));
    if (focused) (strip.hidden ? byId("file") : strip.querySelector("[aria-pressed=true]")).focus();
    this.onChange();
  }

  #showUndrawable() {
    byId("preview").hidden = true;
    byId("no-preview").hidden = false;
    byId("no-preview").textContent = `This browser cannot show ${this.current.name}.`;
  }

  #thumbnail(photo) {
    const choose = document.createElement("button");
    choose.type = "button";
    choose.className = "thumbnail";
    choose.setAttribute("aria-pressed", String(photo === this.current));
    choose.append(Object.assign(new Image(), { src: photo.url, alt: photo.name }));
    choose.addEventListener("click", () => this.#show(photo));
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "remove";
    remove.textContent = "×";
    remove.setAttribute("aria-label", `Remove ${photo.name}`);
    remove.addEventListener("click", () => this.#remove(photo));
    const item = document.createElement("li");
    item.append(choose, remove);
    return item;
  }

  #listenForDrops() {
    // Each element that is passed on the way says enter and leave.
    let depth = 0;
    const highlight = (change) => {
      depth += change;
      byId("drop").classList.toggle("hovered", depth > 0);
    };
    document.addEventListener("dragenter", () => highlight(1));
    document.addEventListener("dragleave", () => highlight(-1));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      highlight(-depth);
      this.add(event.dataTransfer.files);
    });
  }
}
