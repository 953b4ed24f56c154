// The front of a job: the plot, the chosen point with its scores by language, a table of all points, downloads.

import { call, json } from "./api.js";
import { h, percent, s, say, size } from "./dom.js";
import { KINDS, draw, label, shape } from "./plot.js";
import { pause } from "./jobs.js";

export function frontView(job, signal, report) {
  let front = null, etag = "", chosen = null, every = false;
  const svg = s("svg", { class: "plot", role: "group", "aria-label": "Scores of all points; arrow keys move between them, Enter chooses one" });
  const xAxis = axis("Across"), yAxis = axis("Up");
  const detail = h("section", { class: "panel", "aria-label": "The chosen point", "aria-live": "polite" });
  const rows = h("tbody"), header = h("tr"), summary = h("p", { class: "quiet" });
  const all = h("input", { type: "checkbox", id: "every" });
  const empty = h("p", { class: "quiet" }, "Nothing was scored yet.");
  const body = h("div", { hidden: true },
    summary,
    h("div", { class: "split" },
      h("div", {}, h("div", { class: "row" }, xAxis.element, yAxis.element), svg, legend()),
      detail),
    h("h2", {}, "Points"),
    h("p", {}, all, " ", h("label", { for: "every" }, "Also those that are not on the front")),
    h("div", { class: "scroll" }, h("table", {}, h("thead", {}, header), rows)));
  const element = h("section", { "aria-label": "Front" }, h("h2", {}, "Front"), empty, body);

  const choose = (id) => { chosen = id; show(); };
  const show = () => {
    draw(svg, front, xAxis.select.value, yAxis.select.value, chosen, choose);
    const point = front.points.find((one) => one.id === chosen);
    if (point) detail.replaceChildren(...described(front, point, () => download(job, point.id, signal, report)));
    table(front, every, header, rows, chosen, choose, (id) => download(job, id, signal, report));
  };
  xAxis.select.addEventListener("change", show);
  yAxis.select.addEventListener("change", show);
  all.addEventListener("change", () => { every = all.checked; show(); });

  async function update() {
    try {
      const answer = await call(`/jobs/${job}/front`, { signal, headers: etag ? { "If-None-Match": etag } : {} });
      if (answer.status === 304) return;
      etag = answer.headers.get("ETag") || "";
      front = await answer.json();
    } catch (error) {
      if (error.code === "no-front") return;
      throw error;
    }
    const names = Object.keys(front.objectives);
    xAxis.fill(names, names[0]);
    yAxis.fill(names, names[1] || names[0]);
    if (!front.points.some((point) => point.id === chosen)) chosen = front.picks.knee || front.points[0].id;
    const count = front.points.filter((point) => point.on_front).length;
    const split = front.split === "report" ? "confirmed on the report split" : "on the search split, not confirmed yet";
    summary.textContent = `${count} of ${front.points.length} points are on the front, ${split}. Bars are ${Math.round(100 * front.level)} % intervals.`;
    empty.hidden = true;
    body.hidden = false;
    show();
  }
  return { element, update };
}

function axis(name) {
  const select = h("select", {});
  const fill = (names, first) => {
    if (select.options.length === names.length) return;
    select.replaceChildren(...names.map((one) => h("option", { value: one }, one)));
    select.value = first;
  };
  return { element: h("label", {}, `${name} `, select), select, fill };
}

function legend() {
  return h("ul", { class: "legend" },
    Object.entries(KINDS).map(([kind, text]) => h("li", {},
      s("svg", { class: `plot ${kind}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, s("g", { class: "point on" }, shape(kind, 8, 8, 4.5))), text)),
    h("li", { class: "quiet" }, "filled: on the front"));
}

function described(front, point, fetchIt) {
  const names = Object.keys(point.scores);
  const picks = Object.entries(front.picks).filter(([, id]) => id === point.id).map(([pick]) => pick);
  const weights = Object.entries(point.weights).map(([name, weight]) => `${name} ${weight.toFixed(2)}`);
  const params = Object.entries(point.params).map(([name, value]) => `${name} ${Number(value).toFixed(2)}`);
  const made = point.kind === "merge" ? `${point.method}: ${[...weights, ...params].join(", ")}` : KINDS[point.kind];
  const cells = (score) => names.map((name) => h("td", { class: "num" }, percent(score[name])));
  return [
    h("h3", {}, label(point), picks.length ? ` (${picks.join(", ")})` : ""),
    h("p", {}, made),
    h("p", { class: "quiet" }, point.on_front ? `On the front with probability ${point.p_on_front.toFixed(2)}.` : point.feasible ? "Not on the front." : "Breaks a constraint."),
    h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Language"), names.map((name) => h("th", { scope: "col", class: "num" }, name)))),
      h("tbody", {},
        h("tr", {}, h("th", { scope: "row" }, "all"), cells(point.scores)),
        Object.entries(point.languages).map(([language, scores]) => h("tr", {}, h("th", { scope: "row" }, language), cells(scores)))))),
    h("p", { class: "quiet" }, "Percent ± one standard error."),
    h("button", { type: "button", class: "primary", onclick: fetchIt, "data-download": point.id }, "Download this checkpoint"),
  ];
}

function table(front, every, header, rows, chosen, choose, fetchIt) {
  const names = Object.keys(front.objectives), first = names[0], sign = front.objectives[first] === "min" ? 1 : -1;
  const focused = document.activeElement?.dataset?.key;
  header.replaceChildren(...["Point", "What it is"].map((name) => h("th", { scope: "col" }, name)),
    ...names.map((name) => h("th", { scope: "col", class: "num" }, name)), h("th", { scope: "col", class: "num" }, "P(front)"), h("th", { scope: "col" }, "Checkpoint"));
  const points = front.points.filter((point) => (every || point.on_front) && point.scores[first]);
  points.sort((a, b) => sign * (a.scores[first].value - b.scores[first].value));
  rows.replaceChildren(...points.map((point) => h("tr", {},
    h("td", {}, h("button", { type: "button", "aria-pressed": String(point.id === chosen), "data-key": `choose-${point.id}`, onclick: () => choose(point.id) }, label(point))),
    h("td", {}, point.kind === "merge" ? point.method : KINDS[point.kind]),
    names.map((name) => h("td", { class: "num" }, percent(point.scores[name]))),
    h("td", { class: "num" }, point.p_on_front.toFixed(2)),
    h("td", {}, h("button", { type: "button", "data-key": `fetch-${point.id}`, "aria-label": `Download this checkpoint: ${label(point)}`, onclick: () => fetchIt(point.id) }, "Download this checkpoint")))));
  if (focused) rows.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

// Asks for the checkpoint, waits while it is made, then hands the browser a link that is good for a minute.
async function download(job, id, signal, report) {
  const path = `/jobs/${job}/exports/${encodeURIComponent(id)}`;
  try {
    for (;;) {
      const made = await json(path, { method: "POST", signal });
      if (made.state === "DONE") {
        say(`Checkpoint of ${id}: ${size(made.bytes)}`);
        h("a", { href: `${path}?ticket=${encodeURIComponent(made.ticket)}`, download: "" }).click();
        report(null);
        return;
      }
      if (made.state === "FAILED") throw new Error(`The checkpoint of ${id} was not made: ${made.reason}`);
      report(new Error(`The checkpoint of ${id} is being made…`));
      say(`The checkpoint of ${id} is being made`);
      await pause(1500, signal);
      if (signal.aborted) return;
    }
  } catch (error) {
    if (!signal.aborted) report(error);
  }
}
