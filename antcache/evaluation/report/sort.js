"use strict";
// Tables that can be sorted: the head of each column becomes a button. Nothing is loaded or sent.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const number = text => parseFloat(text.replaceAll(",", "").replace("\u2212", "-"));
  const order = new Intl.Collator("en", {numeric: true}).compare;
  const sortBy = column => {
    const words = heads[column].classList.contains("text");
    const was = heads[column].getAttribute("aria-sort");
    const rising = was ? was !== "ascending" : words;
    const rows = [...body.rows].map(row => {
      const text = row.cells[column].textContent.trim();
      return [words ? text : number(text), row];
    });
    const sign = rising ? 1 : -1;
    rows.sort(([a], [b]) => words ? sign * order(a, b)
      : isNaN(a) || isNaN(b) ? isNaN(a) - isNaN(b) : sign * (a - b));
    heads.forEach(head => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", rising ? "ascending" : "descending");
    body.replaceChildren(...rows.map(([, row]) => row));
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(column));
    head.append(button);
  });
  table.classList.add("live");
}
