"use strict";
// Light or dark: what the system says, until a reader chooses, in this page and the next ones.
(() => {
  const button = document.getElementById("theme"), root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const recall = () => { try { return localStorage.getItem("tagger-theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  if (["light", "dark"].includes(recall())) root.dataset.theme = recall();
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("tagger-theme", root.dataset.theme); } catch { /* a page without storage forgets */ }
    show();
  });
  system.addEventListener("change", show);
  button.hidden = false;
  show();
})();
// Tables whose heads hold buttons are sorted by them; a cell's data-value, where it has one, is what counts.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, index) => row.cells[index].dataset.value ?? row.cells[index].textContent;
  heads.forEach((head, index) => head.querySelector("button")?.addEventListener("click", () => {
    const numeric = head.classList.contains("number");
    const first = numeric ? "descending" : "ascending", second = numeric ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? second : first, sign = order === "ascending" ? 1 : -1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const compare = numeric ? (a, b) => a - b : (a, b) => a.localeCompare(b);
    body.append(...[...body.rows].sort((a, b) => sign * compare(value(a, index), value(b, index))));
  }));
}
