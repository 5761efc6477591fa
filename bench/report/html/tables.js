/* One kind of table: sorted by its headers, filtered, drawn some rows at a time. */

/**
 * columns: [{ id, title, cell(row) -> node or text, sort(row) -> number, text or null, number: right-aligned }]
 * unfold(row) -> node or null: what opens below a row. `rowId(row)`: its anchor.
 */
class Table {
  constructor(
    place,
    { columns, rows, unfold = null, rowId = null, caption, sortBy = null, descending = false, step = 50 },
  ) {
    Object.assign(this, { place, columns, rows, unfold, rowId, caption, sortBy, descending, step });
    this.limit = step;
    this.open = new Set();
    this.keep = () => true;
    this.note = h("p", { class: "soft", role: "status" });
    this.region = h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption });
    this.more = h("p", { class: "more" });
    place.append(this.note, this.region, this.more);
  }

  filter(keep) {
    this.keep = keep;
    this.limit = this.step;
    this.draw();
  }

  sort(id) {
    this.descending = this.sortBy === id ? !this.descending : false;
    this.sortBy = id;
    this.draw();
    this.region.querySelector(`button[data-sort="${id}"]`)?.focus();
  }

  /** Rows in order; unknown values last, whichever way the table is sorted. */
  sorted() {
    const rows = this.rows.filter((row) => this.keep(row));
    const column = this.columns.find((one) => one.id === this.sortBy);
    if (!column) return rows;
    const sign = this.descending ? -1 : 1;
    return rows
      .map((row) => [column.sort(row), row])
      .sort(([a], [b]) => {
        const lacking = (value) => value === null || value === undefined || value === "";
        if (lacking(a) || lacking(b)) return Number(lacking(a)) - Number(lacking(b));
        return (
          sign *
          (typeof a === "number" && typeof b === "number"
            ? a - b
            : String(a).localeCompare(String(b), "en", { numeric: true }))
        );
      })
      .map(([, row]) => row);
  }

  draw() {
    const rows = this.sorted(),
      shown = rows.slice(0, this.limit);
    this.note.textContent = `${plural(rows.length, "row")} of ${this.rows.length.toLocaleString("en-GB")}`;
    const head = h(
      "tr",
      {},
      this.unfold ? h("td", {}) : null,
      this.columns.map((column) => this.header(column)),
    );
    const body = h(
      "tbody",
      {},
      shown.map((row) => this.pair(row)),
    );
    this.region.replaceChildren(
      h("table", {}, h("caption", { class: "skip" }, this.caption), h("thead", {}, head), body),
    );
    const left = rows.length - shown.length;
    const button = (label, limit) =>
      h(
        "button",
        {
          type: "button",
          onclick: () => {
            this.limit = limit;
            this.draw();
          },
        },
        label,
      );
    this.more.replaceChildren(
      ...(left > 0
        ? [
            button(`${Math.min(this.step, left)} more`, this.limit + this.step),
            " ",
            button(`All ${rows.length.toLocaleString("en-GB")}`, Infinity),
          ]
        : []),
    );
  }

  header(column) {
    const sorted = this.sortBy === column.id ? (this.descending ? "descending" : "ascending") : "none";
    return h(
      "th",
      { scope: "col", class: column.number ? "n" : null, "aria-sort": column.sort ? sorted : null },
      column.sort
        ? h("button", { type: "button", "data-sort": column.id, onclick: () => this.sort(column.id) }, column.title)
        : column.title,
    );
  }

  pair(row) {
    const cells = this.columns.map((column) =>
      h("td", { class: column.number ? "n" : (column.kind ?? "t") }, column.cell(row)),
    );
    if (!this.unfold) return h("tr", {}, cells);
    const open = this.open.has(row);
    const toggle = h(
      "button",
      {
        type: "button",
        "aria-expanded": String(open),
        "aria-label": `Facts of ${this.columns[0].name?.(row) ?? "this row"}`,
      },
      open ? "−" : "+",
    );
    const line = h(
      "tr",
      { id: this.rowId?.(row), class: open ? "open" : null, tabindex: "-1" },
      h("td", {}, toggle),
      cells,
    );
    toggle.addEventListener("click", () => this.toggle(row, line, toggle));
    return open ? [line, this.below(row)] : line;
  }

  below(row) {
    return h("tr", { class: "facts" }, h("td", { colspan: this.columns.length + 1 }, this.unfold(row)));
  }

  toggle(row, line, button) {
    const open = !this.open.has(row);
    if (open) {
      this.open.add(row);
      line.after(this.below(row));
    } else {
      this.open.delete(row);
      line.nextSibling.remove();
    }
    line.classList.toggle("open", open);
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? "−" : "+";
  }

  /** Bring a row into sight, unfolded, whatever filter hid it. False: it is not in this table. */
  reveal(row) {
    if (!this.rows.includes(row)) return false;
    this.open.add(row);
    if (!this.keep(row)) this.keep = () => true;
    this.limit = Math.max(this.limit, this.sorted().indexOf(row) + 1);
    this.draw();
    const line = document.getElementById(this.rowId(row));
    line.focus({ preventScroll: true });
    line.scrollIntoView({ block: "start" });
    return true;
  }
}
