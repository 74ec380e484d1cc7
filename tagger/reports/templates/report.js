// A confusion matrix is one stop of the Tab key; arrows go from number to number, Home and End along the row.
for (const matrix of document.querySelectorAll("table.matrix")) {
  const grid = [...matrix.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.querySelector("a")));
  const links = grid.flat().filter(Boolean);
  if (!links.length) continue;
  const become = (link) => { links.forEach((other) => { other.tabIndex = other === link ? 0 : -1; }); };
  become(links[0]);
  matrix.addEventListener("focusin", (event) => { if (links.includes(event.target)) become(event.target); });
  matrix.addEventListener("keydown", (event) => {
    const y = grid.findIndex((row) => row.includes(event.target));
    if (y < 0) return;
    const x = grid[y].indexOf(event.target);
    const column = grid.map((row) => row[x]);
    const next = {
      ArrowRight: () => grid[y].slice(x + 1).find(Boolean),
      ArrowLeft: () => grid[y].slice(0, x).findLast(Boolean),
      ArrowDown: () => column.slice(y + 1).find(Boolean),
      ArrowUp: () => column.slice(0, y).findLast(Boolean),
      Home: () => grid[y].find(Boolean),
      End: () => grid[y].findLast(Boolean),
    }[event.key]?.();
    if (next) { event.preventDefault(); next.focus(); }
  });
}
