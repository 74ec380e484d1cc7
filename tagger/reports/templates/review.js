// One row at a time: show it, take an answer, go to the next that has none. Every text goes through textContent.
{
  const { store, columns, signs, labels, offered, items } = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const NOTES = { none: "not-in-list", bad: "bad-picture" };
  const NOTE_TEXTS = { "not-in-list": "not in this list", "bad-picture": "bad picture" };
  let answers = new Map(), past = [], kept = true, saved = true, current = 0, said = "";

  // What is kept in the browser: the name, the answers by the key of their row, and what undo goes back to.
  const read = () => {
    try {
      const found = JSON.parse(localStorage.getItem(store) ?? "{}");
      answers = new Map(found.answers ?? []); // not an object: an id may be __proto__
      past = found.past ?? [];
      find("who").value = found.who ?? "";
    } catch { /* nothing was kept, or not by this page */ }
  };
  const write = () => {
    try {
      localStorage.setItem(store, JSON.stringify({ who: find("who").value, answers: [...answers], past: past.slice(-1000) }));
      kept = true;
    } catch { kept = false; }
    find("unkept").hidden = kept;
  };
  const isAnswered = (item) => answers.has(item.key);
  const isRight = (item) => answers.get(item.key).truth === labels[item.best[0][0]].value;
  const shownItems = () => {
    const wanted = find("filter").value;
    return items.filter((item) => wanted === "" || String(item.best[0][0]) === wanted);
  };
  const element = (kind, text, more = {}) => Object.assign(document.createElement(kind), { textContent: text, ...more });
  const isolated = (text) => element("bdi", text, { title: text.length > 60 ? text : "" });
  const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

  const choices = (item) => {
    const best = item.best.slice(0, 3).map(([label]) => label);
    const rest = labels.map((_, label) => label).filter((label) => !best.includes(label));
    return [...best, ...rest].slice(0, Math.max(offered, best.length));
  };
  const showLabels = (item) => {
    const given = answers.get(item.key), confidence = new Map(item.best);
    find("labels").replaceChildren(...choices(item).map((label, place) => {
      const button = element("button", "", { type: "button" });
      button.append(element("kbd", String(place + 1)), isolated(labels[label].shown));
      button.append(element("span", confidence.has(label) ? percent(confidence.get(label)) : "", { className: "number" }));
      button.setAttribute("aria-keyshortcuts", String(place + 1));
      button.setAttribute("aria-pressed", String(given?.truth === labels[label].value));
      button.addEventListener("click", () => answer({ truth: labels[label].value, note: null }));
      const line = document.createElement("li");
      line.append(button);
      return line;
    }));
    for (const [id, note] of Object.entries(NOTES)) find(id).setAttribute("aria-pressed", String(given?.note === note));
  };
  const shownAnswer = ({ truth, note }) => note ? NOTE_TEXTS[note] : labels.find(({ value }) => value === truth)?.shown ?? truth;
  const showItem = (item) => {
    const picture = find("picture");
    [picture.width, picture.height] = item.size;
    picture.src = item.picture;
    picture.alt = `Picture of ${item.name}`;
    find("item-name").textContent = item.name;
    find("item-image").textContent = item.image === item.name ? "" : item.image;
    find("item-reason").textContent = item.reason;
    find("item-truth").hidden = item.truth === null;
    find("item-truth").replaceChildren("Truth so far: ", isolated(item.truth ?? ""));
    const given = answers.get(item.key);
    find("answered").hidden = !given;
    if (given) find("answered").replaceChildren("Answered: ", isolated(shownAnswer(given)));
    showLabels(item);
  };
  const showFilter = () => {
    const chosen = find("filter").value, open = new Map();
    for (const item of items) {
      const label = item.best[0][0], [rows, left] = open.get(label) ?? [0, 0];
      open.set(label, [rows + 1, left + !isAnswered(item)]);
    }
    const all = items.filter((item) => !isAnswered(item)).length;
    const option = (value, text) => element("option", text, { value });
    const labelled = [...open].sort(([a], [b]) => a - b);
    find("filter").replaceChildren(
      option("", `all labels (${all} open)`),
      ...labelled.map(([label, [, left]]) => option(String(label), `${labels[label].shown.slice(0, 60)} (${left} open)`)),
    );
    find("filter").value = chosen;
  };
  const show = () => {
    const answered = items.filter(isAnswered), right = answered.filter(isRight).length, shown = shownItems();
    const open = shown.filter((item) => !isAnswered(item)).length, item = items[current];
    find("progress").value = answered.length;
    find("counts").textContent = `${answered.length} of ${items.length} answered`;
    find("counts").title = `${right} tags were right, ${answered.length - right} were not`;
    find("place").textContent = shown.includes(item) ? `${shown.indexOf(item) + 1} / ${shown.length}` : `– / ${shown.length}`;
    find("save").textContent = `Save corrections.csv (${answered.length})`;
    find("undo").disabled = past.length === 0;
    find("ask").hidden = !item;
    find("done").hidden = open > 0;
    const everywhere = answered.length === items.length;
    find("done-text").textContent = items.length === 0 ? "This result has no row to ask about."
      : everywhere ? "All rows are answered: save corrections.csv, and apply it to the manifest."
        : "Every row with this label is answered; show all labels to go on, or save corrections.csv.";
    find("said").textContent = said;
    showFilter();
    if (item) showItem(item);
  };
  const goTo = (item) => { if (item) current = items.indexOf(item); };
  // The next row without an answer, from here on and then from the start; where there is none, here.
  const goOn = () => {
    const shown = shownItems(), here = shown.findIndex((item) => items.indexOf(item) > current);
    const after = here < 0 ? shown : [...shown.slice(here), ...shown.slice(0, here)];
    goTo(after.find((item) => !isAnswered(item)));
  };
  const step = (by) => {
    const shown = shownItems(), here = shown.indexOf(items[current]);
    goTo(shown[here < 0 ? 0 : (here + by + shown.length) % shown.length]);
    said = "";
    show();
  };
  const answer = (given) => {
    const item = items[current];
    if (!item) return;
    past.push([item.key, answers.get(item.key) ?? null]);
    answers.set(item.key, { ...given, by: find("who").value.trim(), at: new Date().toISOString() });
    saved = false;
    said = `${item.name}: ${shownAnswer(given)}`;
    write();
    goOn();
    show();
  };
  const undo = () => {
    const last = past.pop();
    if (!last) return;
    const [key, before] = last, item = items.find((one) => one.key === key);
    if (before) answers.set(key, before); else answers.delete(key);
    saved = false;
    said = `Undone: ${item?.name ?? key}`;
    if (item && !shownItems().includes(item)) find("filter").value = "";
    goTo(item);
    write();
    show();
  };
  const skip = () => { said = `Skipped: ${items[current]?.name ?? ""}`; goOn(); show(); };

  // As core/csv_cells.py: no cell is a formula, and every text can be read back.
  const formula = new RegExp(`^[' ]*[${signs}]`);
  const neutralise = (text) => (formula.test(text) ? `'${text}` : text);
  const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  const toCsv = () => {
    const rows = items.filter(isAnswered).map((item) => {
      const cells = [...item.cells], { truth, note, by, at } = answers.get(item.key);
      const given = { correction: truth ?? "", note: note ?? "", by: by || find("who").value.trim(), at };
      for (const [name, text] of Object.entries(given)) cells[columns.indexOf(name)] = neutralise(text);
      return cells;
    });
    return "\ufeff" + [columns, ...rows].map((cells) => `${cells.map(quoted).join(",")}\r\n`).join("");
  };
  const save = () => {
    const url = URL.createObjectURL(new Blob([toCsv()], { type: "text/csv;charset=utf-8" }));
    element("a", "", { href: url, download: "corrections.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    saved = true;
    said = `Saved ${items.filter(isAnswered).length} answers; next: tagger review apply corrections.csv MANIFEST`;
    show();
  };

  const search = () => {
    const text = find("search").value.trim().toLowerCase();
    const lines = [...find("all").children];
    for (const line of lines) line.hidden = !line.textContent.toLowerCase().includes(text);
    find("no-label").hidden = lines.some((line) => !line.hidden);
  };
  const choose = () => { find("search").value = ""; search(); find("choose").showModal(); find("search").focus(); };
  const open = () => [...find("all").children].filter((line) => !line.hidden).map((line) => line.firstChild);
  find("all").append(...labels.map(({ value, shown }) => {
    const line = document.createElement("li"), button = element("button", "", { type: "button" });
    button.append(isolated(shown));
    button.addEventListener("click", () => { find("choose").close(); answer({ truth: value, note: null }); });
    line.append(button);
    return line;
  }));
  find("search").addEventListener("input", search);
  find("choose").addEventListener("keydown", (event) => {
    const buttons = open(), place = buttons.indexOf(document.activeElement);
    const next = { ArrowDown: place + 1, ArrowUp: place - 1 }[event.key];
    if (event.key === "Enter" && place < 0 && event.target === find("search")) { event.preventDefault(); buttons[0]?.click(); }
    if (next === undefined) return;
    event.preventDefault();
    (next < 0 ? find("search") : buttons[Math.min(next, buttons.length - 1)])?.focus();
  });

  const actions = {
    o: choose, "/": choose, n: () => answer({ truth: null, note: NOTES.none }), b: () => answer({ truth: null, note: NOTES.bad }),
    s: skip, u: undo, ArrowLeft: () => step(-1), ArrowRight: () => step(1), "?": () => find("keys").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    // The focus may still be in a dialog that has just been closed.
    const field = event.target.closest("input, select");
    if (document.querySelector("dialog[open]") || (field && !field.closest("dialog"))) return;
    const isUndo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !event.shiftKey;
    if (!isUndo && (event.ctrlKey || event.metaKey || event.altKey)) return;
    const digit = /^[1-9]$/.test(event.key) ? find("labels").children[Number(event.key) - 1]?.firstChild : null;
    const action = isUndo ? undo : digit ? () => digit.click() : actions[event.key];
    if (!action || event.repeat) return;
    event.preventDefault();
    action();
  });
  for (const [id, key] of Object.entries({ other: "o", none: "n", bad: "b", skip: "s", undo: "u", back: "ArrowLeft", forth: "ArrowRight", help: "?" })) {
    find(id).addEventListener("click", actions[key]);
  }
  for (const id of ["choose", "keys"]) find(`${id}-close`).addEventListener("click", () => find(id).close());
  find("save").addEventListener("click", save);
  find("who").addEventListener("input", write);
  find("filter").addEventListener("change", () => {
    if (!shownItems().includes(items[current]) || isAnswered(items[current])) { goTo(shownItems()[0]); if (isAnswered(items[current])) goOn(); }
    said = "";
    show();
  });
  addEventListener("storage", (event) => { if (event.key === store) { read(); show(); } });
  addEventListener("beforeunload", (event) => { if (!kept && !saved) event.preventDefault(); });

  read();
  write();
  if (items[0] && isAnswered(items[0])) goOn();
  show();
}
