// The document: whatever comes from the server goes in as text.

const $ = (id) => document.getElementById(id);

/** An element; children are elements or texts. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Touches the document only when something changes, so that readers keep their place. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A word about a section that has nothing to show, or why. */
function tell(id, text, isBad = false) {
  const element = $(id);
  element.hidden = !text;
  element.classList.toggle("bad", isBad);
  if (element.textContent === text.replaceAll("`", "")) return;
  // Words between backticks are what somebody types.
  const pieces = text.split("`").map((piece, index) => (index % 2 ? make("code", {}, piece) : piece));
  element.replaceChildren(...pieces);
}

/** A cell: text, or `{text, kind, bar, swatch, node}`. */
function put(cell, value, kinds) {
  const it = value !== null && typeof value === "object" ? value : { text: value };
  const kind = [kinds, it.kind].filter(Boolean).join(" ");
  if (cell.className !== kind) cell.className = kind;
  if (it.node) return cell.replaceChildren(it.node);
  if (it.bar === undefined && !it.swatch) return write(cell, it.text);
  if (cell.childNodes.length !== 2) {
    const mark = it.swatch ? swatch(it.swatch) : make("span", { class: "bar" }, make("i"));
    cell.replaceChildren(mark, it.text);
  }
  if (it.bar !== undefined) cell.firstChild.firstChild.style.width = `${Math.min(100, it.bar * 100).toFixed(1)}%`;
  if (cell.lastChild.nodeValue !== it.text) cell.lastChild.nodeValue = it.text;
}

/** Rows of a table; the first cell of each names its row. The table is hidden while there are none. */
function fill(id, rows) {
  const place = $(id);
  const table = place.querySelector("table");
  const [heads, body] = [table.tHead.rows[0].cells, table.tBodies[0]];
  place.hidden = rows.length === 0;
  while (body.rows.length > rows.length) body.lastElementChild.remove();
  rows.forEach((cells, index) => {
    const row = body.rows[index] || body.appendChild(make("tr"));
    cells.forEach((value, column) => {
      const named = column === 0 ? make("th", { scope: "row" }) : null;
      put(row.cells[column] || row.appendChild(named || make("td")), value, heads[column].className);
    });
  });
}

/** Wide tables can be scrolled by keyboard where they do not fit. */
function nameScrollers() {
  for (const place of document.querySelectorAll(".scroll")) {
    if (place.scrollWidth > place.clientWidth + 1 || place.scrollHeight > place.clientHeight + 1) {
      place.tabIndex = 0;
      place.setAttribute("role", "group");
      place.setAttribute("aria-label", `${place.querySelector("caption").textContent}, scrollable`);
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) place.removeAttribute(name);
    }
  }
}

