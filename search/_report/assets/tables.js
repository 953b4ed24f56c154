// The selected point, its languages, sorting, copying.

let selectedId = null;
const selects = [];

function select(id) {
  selectedId = id;
  for (const control of selects) control.value = id;
  showSelected();
  showLanguages();
  guarded("weight-plot", drawWeights);
}

function rowChoices() {
  const picks = Object.values(DATA.picks);
  const rank = (row) => (row.picks.length ? picks.indexOf(row.id) - picks.length
    : row.front ? 1 : row.kind !== "merge" ? 2 : 3);
  const sorted = ROWS.map((row, i) => [row, i]).sort((a, b) => rank(a[0]) - rank(b[0]) || a[1] - b[1]);
  return sorted.map(([row]) => [row.id, row.label + " · " + (row.method || row.kind)
    + (row.picks.length ? " · " + row.picks.join(", ") : row.front ? " · front" : "")]);
}

function selectControls() {
  const choices = rowChoices();
  if (!choices.length) return;
  selectedId = choices[0][0];
  selects.push(chooser(document.getElementById("select-controls"), "Selected model", choices, selectedId, select));
  if (ROWS.some((row) => Object.keys(row.languages).length)) {
    selects.push(chooser(document.getElementById("language-controls"), "Model", choices, selectedId, select));
  }
}

// Breaks between options and not inside them.
function commandText(text) {
  const pieces = text.split(" --").map((piece, i) => element("span", { class: "option" }, (i ? "--" : "") + piece));
  return element("code", {}, ...pieces.flatMap((piece, i) => (i ? [" ", piece] : [piece])));
}

function showSelected() {
  const place = document.getElementById("selected");
  const row = BY_ID.get(selectedId);
  if (!row) return;
  const state = !row.feasible ? infeasible(row) : row.front ? "on the front" : "dominated";
  const pairs = [["kind", row.kind + (row.method ? ", " + row.method : "")], ["standing", state]];
  for (const [name, score] of Object.entries(row.scores)) pairs.push([name, score.text + " (" + score.split + ")"]);
  if (row.p) pairs.push(["P(on front)", row.p.toFixed(2)]);
  for (const [group, expert, w] of row.weights) pairs.push(["weight " + (group ? group + " " : "") + expert, w.toFixed(3)]);
  for (const [name, text] of row.params) pairs.push([name, text]);
  const list = pairs.map(([term, text]) => element("div", {}, element("dt", {}, term), element("dd", {}, text)));
  const button = element("button", { type: "button", class: "copy", "data-command": row.command }, "Copy");
  const command = element("p", {}, element("span", { class: "command" }, commandText(row.command), button));
  place.replaceChildren(element("dl", {}, ...list), row.front || row.kind === "merge" ? command : "");
}

function difference(score, other, direction) {
  if (!score || !other) return { text: "–", kind: "" };
  const delta = score.v - other.v;
  const sign = (delta < 0 ? "−" : "+") + Math.abs(delta).toFixed(3);
  if (score.split !== other.split) return { text: sign + " (other split)", kind: "" };
  const error = Math.hypot(score.se || 0, other.se || 0);
  const clear = score.se !== null && other.se !== null && Math.abs(delta) > 2 * error;
  if (!clear) return { text: sign + " ≈", kind: "" };
  const better = delta > 0 === (direction !== "min");
  return { text: sign + (better ? " better" : " worse"), kind: better ? "better" : "worse" };
}

function showLanguages() {
  const place = document.getElementById("language-table");
  const row = BY_ID.get(selectedId);
  const languages = [...new Map(ROWS.flatMap((each) => Object.keys(each.languages)).map((name) => [name, true])).keys()];
  if (!row || !languages.length) {
    place.replaceChildren(element("p", { class: "quiet" }, "No scores by language are recorded."));
    return;
  }
  const base = ROWS.find((each) => each.kind === "base");
  const other = base && base.id !== row.id ? base : null;
  const names = OBJECTIVES.filter((name) => ROWS.some((each) => Object.values(each.languages).some((of) => of[name])));
  const span = other ? 3 : 1;
  const groups = [element("td", {})];
  const top = [element("th", { scope: "col" }, "Language")];
  for (const name of names) {
    groups.push(element("th", { scope: "colgroup", colspan: span, class: "first" }, name + " (" + DATA.objectives[name] + ")"));
    top.push(element("th", { scope: "col", class: "num first" }, row.label));
    if (other) {
      top.push(element("th", { scope: "col", class: "num" }, other.label));
      top.push(element("th", { scope: "col", class: "num" }, "difference"));
    }
  }
  const body = languages.map((language) => {
    const cells = [element("th", { scope: "row" }, language)];
    for (const name of names) {
      const score = (row.languages[language] || {})[name];
      cells.push(element("td", { class: "num first" }, score ? score.text : "–"));
      if (other) {
        const theirs = (other.languages[language] || {})[name];
        const gap = difference(score, theirs, DATA.objectives[name]);
        cells.push(element("td", { class: "num" }, theirs ? theirs.text : "–"));
        cells.push(element("td", { class: "num " + gap.kind }, gap.text));
      }
    }
    return element("tr", {}, ...cells);
  });
  const text = row.label + " by language, value ± one standard error"
    + (other ? ", beside " + other.label + "; ≈ marks a difference inside 2 standard errors." : ".");
  const table = element("table", {}, element("caption", {}, element("span", {}, text)), 
    element("thead", {}, element("tr", { class: "groups" }, ...groups), element("tr", {}, ...top)),
    element("tbody", {}, ...body));
  place.replaceChildren(element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": text }, table));
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const key = (row, i) => {
    const cell = row.cells[i];
    return cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent;
  };
  const order = (a, b) => {
    if (a === b) return 0;
    if (a === "") return 1; // unknown values go last, whichever way the column is sorted
    if (b === "") return -1;
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  };
  heads.forEach((head, i) => {
    if (i === heads.length - 1) return;
    const button = element("button", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const each of heads.slice(0, -1)) each.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows];
      rows.sort((a, b) => {
        const [x, y] = [key(a, i), key(b, i)];
        return x === "" || y === "" ? order(x, y) : down ? order(y, x) : order(x, y);
      });
      body.append(...rows);
    });
  });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages opened from a file may have no clipboard: fall back to the old way.
    const area = element("textarea", { "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast("Copied: " + text);
}
