"use strict";
// Sorting: a heading becomes a button only where this script runs.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const rows = [...body.rows].sort((a, b) => {
        const x = value(a), y = value(b);
        // What has no value stays last, whichever way the rest is sorted.
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = isNaN(x) || isNaN(y) ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
        return up ? order : -order;
      });
      body.append(...rows);
    });
  });
}
// Confusion matrix: the cell under the pointer is spelled out, its row and column are marked.
for (const figure of document.querySelectorAll("figure.confusion")) {
  const readout = figure.querySelector(".readout");
  const rest = readout.textContent;
  const [across, down] = figure.querySelectorAll(".cross");
  const names = (kind) => [...figure.querySelectorAll(`[data-${kind}]`)];
  const rows = names("row-label"), columns = names("column-label");
  const mark = (group) => {
    for (const text of [...rows, ...columns]) text.classList.remove("here");
    across.setAttribute("visibility", group ? "visible" : "hidden");
    down.setAttribute("visibility", group ? "visible" : "hidden");
    readout.textContent = group ? group.querySelector("title").textContent : rest;
    if (!group) return;
    const [row, column] = [group.dataset.row, group.dataset.column];
    across.setAttribute("y", group.querySelector("rect").getAttribute("y"));
    down.setAttribute("x", group.querySelector("rect").getAttribute("x"));
    rows[row].classList.add("here");
    columns[column].classList.add("here");
  };
  const box = figure.querySelector(".cells");
  box.addEventListener("pointerover", (event) => mark(event.target.closest("[data-row]")));
  box.addEventListener("pointerleave", () => mark(null));
}
// Copying: where the browser does not let a page write to the clipboard, the text is marked.
for (const panel of document.querySelectorAll(".copyable")) {
  const text = panel.querySelector("pre");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  panel.insertBefore(button, text);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Marked: press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 3000);
  });
}
