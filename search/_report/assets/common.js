"use strict";
// Shared by the figures: data, colours of the current theme, elements, text that plotly may show.

const DATA = JSON.parse(document.getElementById("data").textContent);
const ROWS = DATA.rows;
const BY_ID = new Map(ROWS.map((row) => [row.id, row]));
const OBJECTIVES = Object.keys(DATA.objectives);
const SHAPES = ["circle", "square", "diamond", "triangle-up", "pentagon", "triangle-down", "hexagon", "triangle-left",
  "octagon", "triangle-right"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const KIND_SHAPES = { expert: "star", baseline: "cross", base: "x" };
const narrow = () => window.innerWidth < 640;

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function colour(index) {
  return css("--c" + (index % 8));
}

// Plotly reads a small HTML in its texts; a name from a recipe must show as it is written.
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function wrap(text, width) {
  const lines = [""];
  for (const word of String(text).split(" ")) {
    const last = lines[lines.length - 1];
    if (last && last.length + word.length >= width) lines.push(word);
    else lines[lines.length - 1] = last ? last + " " + word : word;
  }
  return lines.map(plain).join("<br>");
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// A labelled select; `choices` are [value, text] pairs.
function chooser(parent, text, choices, value, onChange) {
  const select = element("select", {}, ...choices.map(([key, label]) => element("option", { value: key }, label)));
  select.value = value;
  select.addEventListener("change", () => onChange(select.value));
  parent.append(element("label", {}, text, select));
  return select;
}

function methodStyle(method) {
  const index = Math.max(0, DATA.methods.indexOf(method));
  return { color: colour(index), symbol: SHAPES[index % SHAPES.length], dash: DASHES[index % DASHES.length] };
}

function arrowed(name, horizontal) {
  const max = DATA.objectives[name] === "max";
  const arrow = horizontal ? (max ? "→" : "←") : (max ? "↑" : "↓");
  return plain(name) + (max ? " (max: higher is better " : " (min: lower is better ") + arrow + ")";
}

function layoutOf(extra) {
  const axis = { gridcolor: css("--grid"), linecolor: css("--line"), zeroline: false, automargin: true, ticks: "outside",
    tickcolor: css("--line") };
  const layout = Object.assign({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 12, r: 24, t: 12, b: 12 },
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: css("--text") },
    hoverlabel: { align: "left", bgcolor: css("--panel"), bordercolor: css("--quiet"), namelength: -1,
      font: { color: css("--text"), size: narrow() ? 11 : 12.5, family: getComputedStyle(document.body).fontFamily } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: css("--accent") },
    hovermode: "closest",
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom" },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", uirevision: "keep", autosize: true,
  }, extra);
  layout.xaxis = Object.assign({}, axis, layout.xaxis);
  layout.yaxis = Object.assign({}, axis, layout.yaxis);
  return layout;
}

// A list of what is wanted, not of what to remove: plotly.js adds buttons between versions, and one of them ("Share
// chart...") would send the data to its maker's server.
const CONFIG = { responsive: true, displaylogo: false, typesetMath: false, showTips: false,
  displayModeBar: matchMedia("(pointer: coarse)").matches ? false : "hover",
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };

function draw(id, traces, layout) {
  return Plotly.react(document.getElementById(id), traces, layout, CONFIG);
}

function nothing(id, text) {
  const place = document.getElementById(id);
  place.classList.add("empty");
  place.replaceChildren(element("p", { class: "quiet" }, text));
}

function toast(text) {
  const place = document.getElementById("toast");
  place.textContent = text;
  place.classList.add("show");
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => place.classList.remove("show"), 2500);
}

// Ends of a score's interval; of a document of an earlier version, which has none, 90 % of a normal one.
function interval(score) {
  const reach = 1.645 * (score.se || 0);
  return [score.low ?? score.v - reach, score.high ?? score.v + reach];
}

function errorBars(scores) {
  const ends = scores.map(interval);
  return { type: "data", symmetric: false, array: ends.map(([, high], i) => high - scores[i].v),
    arrayminus: ends.map(([low], i) => scores[i].v - low), thickness: 1, width: 0, visible: true };
}
